"""Outputs of a run: which files stand side by side, and whether they may be written."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from nblstm.errors import ConfigError, ModelFileError
from nblstm.files.atomic import sweep
from nblstm.files.lock import Lock
from nblstm.files.model_file import CHECKPOINT, check_same_kind
from nblstm.files.safetensors import check_replaceable
from nblstm.tasks.metrics_file import check_metrics


def checkpoint_path(output: Path) -> Path:
    """Return the path of a run's checkpoint."""
    return output.with_name(f"{output.stem}.checkpoint{output.suffix}")


def metrics_path(output: Path) -> Path:
    """Return the path of a run's metrics."""
    return output.with_name(f"{output.stem}.metrics.csv")


def history_path(output: Path) -> Path:
    """Return the path of what a run's model wrote while it was trained."""
    return output.with_name(f"{output.stem}.samples.jsonl")


NAMES: tuple[Callable[[Path], Path], ...] = Path, checkpoint_path, metrics_path, history_path  # of the files of a run


def check_folder(output: Path) -> None:
    """Raise ConfigError, before any work, for an output that cannot be written."""
    folder = output.parent
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; make it, or choose another output.")
    check_files(output)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"nothing can be written to {folder} ({error.strerror}); choose another output.") from None
    if output.stem.endswith(".checkpoint"):
        raise ConfigError(f"{output} is what the checkpoint of another run is called; choose another output.")


def check_files(output: Path) -> None:
    """Raise ConfigError if a file of the run cannot be one: something else has its name, or no file may have it."""
    for name in NAMES:
        path = name(output)
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError(f"{path} cannot be written ({error.strerror}); choose another output.") from None
        if stat.S_ISDIR(mode):
            raise ConfigError(f"{path} is a folder; choose a file as output.")
        if not stat.S_ISREG(mode):  # to open a pipe would wait for its reader
            raise ConfigError(f"{path} is a pipe or a device; choose a regular file as output.")


def check_existing(output: Path, key: str) -> None:
    """Raise ConfigError, before any work, for an output that cannot be replaced; ModelFileError for one that is no run.

    key: of the model to be written, see `NetworkConfig.KEY`.
    """
    for path, kind in ((output, key), (checkpoint_path(output), CHECKPOINT)):
        check_same_kind(path, kind)
    check_metrics(metrics_path(output))
    for path in (output, checkpoint_path(output)):
        if path.exists():
            check_replaceable(path)
            if not os.access(path, os.W_OK):
                raise ConfigError(f"{path} is read-only; change its permissions or choose another output.")


def set_aside(output: Path, on_message: Callable[[str], None]) -> None:
    """Keep an earlier run at `output` under another name, model.1.safetensors, say, or .2, and tell it.

    Under that name it can be used and resumed. ModelFileError where the folder does not let us.
    """
    if not any(name(output).exists() for name in NAMES[:2]):
        return
    for number in itertools.count(1):
        kept = output.with_name(f"{output.stem}.{number}{output.suffix}")
        if not any(os.path.lexists(name(kept)) for name in NAMES):
            break
    for name in NAMES:
        try:
            os.rename(name(output), name(kept))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ModelFileError(f"cannot keep {name(output)} as {name(kept)}: {error.strerror or error}.") from None
    on_message(f"what was {output} is now {kept}; overwrite=True replaces it instead.")


@contextlib.contextmanager
def locked(output: Path) -> Iterator[Lock]:
    """Lock a run's files; an error in the block releases them. The leftovers of killed runs are swept first."""
    lock = Lock(output)
    try:
        if lock.effective:
            for path in (output, checkpoint_path(output)):
                sweep(path)
        yield lock
    except BaseException:
        lock.release()
        raise
