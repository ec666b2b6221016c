"""Files that are replaced in one step: whatever happens, a name holds either the old content or all of the new."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO

from nblstm.errors import ModelFileError

Path = str | os.PathLike[str]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes `path`'s place at the end of the block, unless the block raises.

    The new file is on the disk before it gets its name, and the name before the block is left. A symlink is followed,
    an existing file's permissions are kept. ModelFileError if the file cannot be written.
    """
    try:
        target, mode = _target(path)
        folder = os.path.dirname(target)
        temporary = f"{_temporaries(target)}{secrets.token_hex(8)}.tmp"
        try:
            with open(temporary, "xb") as file:
                if mode is not None:
                    os.chmod(temporary, mode)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:  # KeyboardInterrupt too
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        _sync_folder(folder)
    except FileNotFoundError:
        raise ModelFileError(f"cannot write {path}: its folder does not exist; create it first.") from None
    except OSError as error:
        raise ModelFileError(f"cannot write {path}: {error.strerror or error}.") from None


def sweep(path: Path) -> None:
    """Delete the temporary files of writers of `path` that were killed. Only for who knows that nobody writes it now."""
    start = _temporaries(os.path.realpath(path))
    for temporary in glob.glob(f"{glob.escape(start)}*.tmp"):
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _temporaries(target: str) -> str:
    """How the paths of all temporary files of a target begin; of its name only a digest, so that no name is too long."""
    folder, name = os.path.split(target)
    digest = hashlib.blake2b(os.fsencode(name), digest_size=6).hexdigest()
    return os.path.join(folder, f".nblstm-{digest}-")


def _target(path: Path) -> tuple[str, int | None]:
    """The file to replace, symlinks resolved, and its permission bits (None if it does not exist yet)."""
    target = os.path.realpath(path)
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        if os.fspath(path).endswith(os.sep):
            raise ModelFileError(f"cannot write {path}: it names a folder; add a file name.") from None
        return target, None
    if stat.S_ISDIR(mode):
        raise ModelFileError(f"cannot write {path}: it is a folder; add a file name.")
    if not stat.S_ISREG(mode):
        raise ModelFileError(f"cannot write {path}: it is a pipe or a device; name a regular file.")
    if not os.access(target, os.W_OK):
        raise ModelFileError(f"cannot write {path}: it is read-only; name another file or change its permissions.")
    return target, stat.S_IMODE(mode)


def _sync_folder(folder: str) -> None:
    """Put the folder's new entry on the disk, where the system can (not every one opens folders)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
