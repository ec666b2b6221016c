"""Session: one training run with its files. The model file, the checkpoint and the metrics stand side by side.

model.safetensors              the best weights so far, all that sampling needs
model.checkpoint.safetensors   everything needed to go on exactly
model.metrics.csv              a row a second, and one for every validation
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nblstm import checks, kernels
from nblstm.config import MAX_ROLLBACKS, TextConfig, TokenStackConfig, TrainConfig
from nblstm.errors import ConfigError, DivergenceError, ModelFileError, TrainingError
from nblstm.files.atomic import sweep
from nblstm.files.lock import Lock
from nblstm.files.model_file import save_checkpoint
from nblstm.files.safetensors import check_replaceable
from nblstm.nn.card import check_card
from nblstm.nn.parameters import initial
from nblstm.tasks.checkpoint import read_checkpoint
from nblstm.tasks.registry import OF_RUNS, config_of, load, model_of, stored_config, task_of
from nblstm.tasks.text_model import TextModel
from nblstm.text.corpus import STDIN, Corpus, load_corpus
from nblstm.text.demo import DEMO, demo_source
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.facts import training_facts
from nblstm.training.text_trainer import fitted, make_trainer
from nblstm.training.trainer import Report, Trainer

OUTPUT = "model.safetensors"
SAVE_SECONDS = 60.0  # between two checkpoints inside an epoch
METRICS_SECONDS = 1.0  # between two rows of metrics
LIMITS = ("epochs", "steps", "minutes")
RESUMABLE = (
    *LIMITS,
    "patience",
    "on_divergence",
    "threads",
    "device",
    "precision",
)  # what may differ when a run goes on
COLUMNS = (
    "step", "epoch", "tokens", "seconds", "lr", "loss", "smooth_loss", "gradient_norm", "tokens_per_second",
    "valid_loss",
)  # fmt: skip


class Session:
    """Ties a corpus, a network, a trainer and three files together. Made by `start` or `resume`.

    From then on to the end of `run` a lock keeps every other run from the same files. saved_step: the one that the
    checkpoint was last written at, or that the session began with.
    """

    def __init__(
        self, output: Path, facts: dict[str, Any], corpus: Corpus, trainer: Trainer, on_message: Callable[[str], None],
        lock: Lock,
    ) -> None:  # fmt: skip
        self.output, self.facts, self.corpus, self.trainer, self.on_message = output, facts, corpus, trainer, on_message
        self.lock = lock
        self.saved_step = trainer.step
        self.checkpoint, self.metrics = checkpoint_path(output), metrics_path(output)
        self._rows_fail = False  # whether the last row of metrics could not be written
        self._model_fails = False  # whether the last model could not be written
        slow = kernels.fallback(trainer.network.config.cells[0], trainer.config.device)
        if slow:
            on_message(slow)

    # ------------------------------------------------------------ making one

    @classmethod
    def start(
        cls,
        paths: Sequence[str],
        output: str | os.PathLike[str] = OUTPUT,
        *,
        valid: Sequence[str] = (),
        task: str = "language",
        text: TextConfig = TextConfig(),
        model: Mapping[str, Any] | None = None,
        config: TrainConfig = TrainConfig(),
        init_from: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        on_message: Callable[[str], None] = lambda message: None,
    ) -> Session:
        """Start a new run.

        task: of OF_RUNS. model: fields of its config, without vocab_size. init_from: a model file whose shape, vocabulary
        and weights to start from. on_message: called with sentences for the user.
        Raises ConfigError, TextError or ModelFileError before anything is written; TrainingError if another run writes
        to the output.
        """
        output = Path(output)
        kind = config_of(task)
        asked = kind.from_dict({"vocab_size": 2, **(model or {})})  # errors are found before anything is read
        config.check_documents(text.documents)
        asked.check_level(text.level)
        if config.device == "cuda":
            check_card(asked)
        check_folder(output)
        with _lock(output) as lock:
            check_existing(output, overwrite)
            kernels.load(config.device)
            base: Any = load(init_from, OF_RUNS) if init_from is not None else None
            if base is not None and model:
                raise ConfigError(f"{next(iter(model))} comes from the model that training starts from; leave it out.")
            text = _text_of(base.vocabulary, text) if base else text
            facts = {"corpus": _absolute(paths), "valid": _absolute(valid), "text": text.to_dict()}
            corpus = _corpus(facts, base.vocabulary if base else None, notify=on_message)
            shape: Any = (
                base.config if base else kind.from_dict({"vocab_size": len(corpus.vocabulary), **(model or {})})
            )
            facts["asked"] = {"batch_size": config.batch_size, "bptt": config.bptt}
            config = fitted(config, corpus, on_message)
            parameters = base.parameters.copy() if base else initial(shape, config.seed)
            return cls(output, facts, corpus, _trainer(shape, parameters, config, corpus), on_message, lock)

    @classmethod
    def resume(
        cls,
        output: str | os.PathLike[str] = OUTPUT,
        *,
        paths: Sequence[str] = (),
        valid: Sequence[str] = (),
        changes: Mapping[str, Any] | None = None,
        on_message: Callable[[str], None] = lambda message: None,
    ) -> Session:
        """Go on exactly where the checkpoint beside `output` was taken.

        paths, valid: where the corpus is now, if it has moved. changes: fields of TrainConfig, of RESUMABLE.
        Raises ModelFileError without an intact checkpoint, TrainingError if the text is not the same or another run
        writes to the output.
        """
        output = Path(output)
        with _lock(output) as lock:
            tensors, facts = read_checkpoint(checkpoint_path(output))
            try:
                config = _changed(TrainConfig.from_dict(facts["config"]), dict(changes or {}), facts)
                kernels.load(config.device)
                shape = stored_config(facts["model"])
                vocabulary = Vocabulary.from_dict(facts["vocabulary"])
                place = {key: _absolute(new) or facts[key] for key, new in (("corpus", paths), ("valid", valid))}
                facts = {**facts, **place}
                corpus = _corpus(facts, vocabulary)
                if corpus.fingerprint != facts["fingerprint"] and vocabulary.level == "word":
                    corpus = _corpus(facts, vocabulary, split_at="line")  # as format version 1 split words at first
                if corpus.fingerprint != facts["fingerprint"]:
                    raise TrainingError(
                        "the text is not the one this run was started on; start a new run with another output."
                    )
                trainer = _trainer(shape, np.zeros(shape.num_parameters, shape.dtype), config, corpus)
                trainer.restore(tensors, facts["trainer"])
            except (KeyError, TypeError) as error:
                raise ModelFileError(f"{checkpoint_path(output)} is damaged ({error!r}); start the run anew.") from None
            return cls(output, facts, corpus, trainer, on_message, lock)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.lock.release()

    # ------------------------------------------------------------ running

    def run(self, stop: Callable[[], bool] = lambda: False) -> Generator[Report, None, None]:
        """Train, and save: the model at every best validation, the checkpoint once a minute and at the end.

        Reports come after their files are safe. When the iterator ends, is closed or interrupted, the last whole update
        is saved. DivergenceError if training diverges and the config does not say rollback, or has done so often
        enough: the model file then holds the last good weights.
        """
        try:
            if self._rolls_back and not self.trainer.step:
                self._save_checkpoint()  # there must be one to go back to
            while (yield from self._attempt(stop)):
                pass
            self.save()
        except TrainingError:
            self._save_now_or_later(self._save_model)
            raise
        except (GeneratorExit, KeyboardInterrupt, SystemExit):  # the caller has seen enough, or a signal's handler
            if self.trainer.step != self.saved_step:
                self.save()
            raise
        finally:
            self.lock.release()

    def _attempt(self, stop: Callable[[], bool]) -> Generator[Report, None, bool]:
        """Train to the end, or until training diverges and is taken back to the checkpoint; tell whether it is."""
        rows = self._metrics_file()
        saved = written = time.monotonic()
        try:
            for report in self.trainer.run(stop):
                now = time.monotonic()
                if report.validated and report.improved:
                    self._save_now_or_later(self._save_model)
                if report.validated or now - saved > SAVE_SECONDS:
                    self._save_now_or_later(self.save)
                    saved = now
                if report.validated or now - written > METRICS_SECONDS:
                    self._write(rows, report)
                    written = now
                yield report
        except DivergenceError as error:
            if not self._rolls_back:
                raise
            self._roll_back(error)
            return True
        finally:
            with contextlib.suppress(OSError):
                rows.close()
        return False

    @property
    def _rolls_back(self) -> bool:
        """Whether the next divergence is answered by going back."""
        return self.trainer.config.on_divergence == "rollback" and self.facts.get("rollbacks", 0) < MAX_ROLLBACKS

    def _roll_back(self, error: DivergenceError) -> None:
        """Go back to the last checkpoint with half the rate, which the checkpoint then has, too."""
        tensors, facts = read_checkpoint(self.checkpoint)
        config = TrainConfig.from_dict(facts["config"])
        self.facts["asked"].setdefault("lr", config.lr)  # a resumed run may still be given it
        self.facts["rollbacks"] = count = self.facts.get("rollbacks", 0) + 1
        config = dataclasses.replace(config, lr=config.learning_rate / 2)
        self.trainer.go_back(config, tensors, facts["trainer"])
        self._save_checkpoint()
        self.on_message(
            f"{str(error).partition(':')[0]}: back to step {self.trainer.step:,} with half the learning rate, "
            f"{config.lr:g} ({count} of {MAX_ROLLBACKS} times)."
        )

    def save(self) -> None:
        """Write the checkpoint, and the model where no validation has written a better one.

        Where an error has ended an update in its middle, the checkpoint stays, and the model is that of before.
        """
        if self.trainer.best_loss is None or self._model_fails or not self.output.exists():
            self._save_model()
        if self.trainer.whole:
            self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        facts = {
            **self.facts,
            "fingerprint": self.corpus.fingerprint,
            "vocabulary": self.corpus.vocabulary.to_dict(),
            "model": self.trainer.network.config.to_dict(),
            "config": self.trainer.config.to_dict(),
            "trainer": self.trainer.facts(),
        }
        save_checkpoint(self.checkpoint, self.trainer.tensors(), facts)
        self.saved_step = self.trainer.step

    def model(self) -> TextModel:
        """Return the best model so far."""
        config = self.trainer.network.config
        kind = model_of(task_of(type(config)))
        return kind(config, self.corpus.vocabulary, self.trainer.keep(), self._training_facts())

    def _save_model(self) -> None:
        self._model_fails = True
        self.model().save(self.output)
        self._model_fails = False

    def _save_now_or_later(self, save: Callable[[], None]) -> None:
        """Save; a full disk in the middle of a run is worth a warning: the next save may succeed."""
        try:
            save()
        except ModelFileError as error:
            self.on_message(f"warning: not saved: {error}")

    def _training_facts(self) -> dict[str, Any]:
        names = ["the demo text" if path == DEMO else os.path.basename(path) for path in self.facts["corpus"]]
        return training_facts(names, self.corpus, self.trainer)

    # ------------------------------------------------------------ metrics

    def _metrics_file(self) -> Any:
        """Open the metrics file: new, or on resume cut off after the checkpoint's step."""
        mode = "r+" if self.trainer.step and self.metrics.exists() else "w"
        try:
            file = open(self.metrics, mode, newline="", encoding="utf-8", errors="replace")  # noqa: SIM115
            end = 0
            while mode == "r+" and _is_kept(file.readline(), self.trainer.step):
                end = file.tell()
            file.seek(end)
            file.truncate()
            if end == 0:
                csv.writer(file).writerow(COLUMNS)
            file.flush()
            return file
        except OSError as error:
            raise ModelFileError(f"{self.metrics} cannot be written: {error.strerror or error}.") from None

    def _write(self, file: Any, report: Report) -> None:
        """Add a row; the first of several in a row that fail is worth a warning."""
        try:
            csv.writer(file).writerow([_cell(getattr(report, name)) for name in COLUMNS])
            file.flush()
            self._rows_fail = False
        except OSError as error:
            if not self._rows_fail:
                self.on_message(f"warning: {self.metrics} cannot be written: {error.strerror or error}.")
            self._rows_fail = True


def checkpoint_path(output: Path) -> Path:
    """Return the path of a run's checkpoint."""
    return output.with_name(f"{output.stem}.checkpoint{output.suffix}")


def metrics_path(output: Path) -> Path:
    """Return the path of a run's metrics."""
    return output.with_name(f"{output.stem}.metrics.csv")


def _is_kept(line: str, step: int) -> bool:
    """Tell whether a line of metrics is whole and not after `step`."""
    first = line.partition(",")[0]
    return line.endswith("\n") and (first == COLUMNS[0] or (first.isdecimal() and int(first) <= step))


def _cell(value: Any) -> Any:
    """Return a value of a report as the metrics show it: an unknown one is empty."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value


def check_folder(output: Path) -> None:
    """Raise ConfigError, before any work, for an output that cannot be written."""
    folder = output.parent
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; make it, or choose another output.")
    if output.is_dir():
        raise ConfigError(f"{output} is a folder; choose a file as output.")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"nothing can be written to {folder} ({error.strerror}); choose another output.") from None
    if output.exists() and not output.is_file():
        raise ConfigError(f"{output} is a pipe or a device; choose a regular file as output.")


def check_existing(output: Path, overwrite: bool) -> None:
    """Raise ConfigError, before any work, for an output that holds another run."""
    existing = [path for path in (output, checkpoint_path(output)) if path.exists()]
    if existing and not overwrite:
        raise ConfigError(
            f"{existing[0]} exists; go on with it by resume=True, replace it by overwrite=True, or choose another output."
        )
    for path in existing:
        check_replaceable(path)
        if not os.access(path, os.W_OK):
            raise ConfigError(f"{path} is read-only; change its permissions or choose another output.")


@contextlib.contextmanager
def _lock(output: Path) -> Iterator[Lock]:
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


def _trainer(shape: TokenStackConfig, parameters: np.ndarray, config: TrainConfig, corpus: Corpus) -> Trainer:
    """Make the trainer of a network of this shape."""
    return make_trainer(model_of(task_of(type(shape))).NETWORK, shape, parameters, config, corpus)


def _absolute(paths: Sequence[str]) -> list[str]:
    if "" in paths:
        raise ConfigError("a path must not be empty; name a file or a folder.")
    return [path if path in (STDIN, DEMO) else os.path.abspath(path) for path in paths]


def _corpus(facts: Mapping[str, Any], vocabulary: Vocabulary | None, **how: Any) -> Corpus:
    """Load the corpus that the facts of a run describe. how: arguments of `load_corpus`."""
    sources = lambda paths: [demo_source() if path == DEMO else path for path in paths]
    text = TextConfig.from_dict(facts["text"]).to_dict()
    paths, valid = sources(facts["corpus"]), sources(facts["valid"])
    return load_corpus(paths, valid_paths=valid, vocabulary=vocabulary, **text, **how)


def _text_of(vocabulary: Vocabulary, text: TextConfig) -> TextConfig:
    """Return the text's settings for a vocabulary that is given. ConfigError if the settings ask for another one."""
    given: dict[str, Any] = {
        "level": vocabulary.level,
        "tokenizer": vocabulary.tokenizer,
        "min_count": 1,
        "max_vocab": None,
        "newline": vocabulary.newline,
    }
    for name, value in given.items():
        if getattr(text, name) not in (value, getattr(TextConfig, name)):
            raise ConfigError(f"{name} comes from the model that training starts from; leave it out.")
    return dataclasses.replace(text, **given)


def _changed(config: TrainConfig, changes: dict[str, Any], facts: Mapping[str, Any]) -> TrainConfig:
    """Return the stored config with the limits asked for now: a new limit replaces all old ones."""
    stored = {**facts["text"], **facts["model"], **config.to_dict()}
    for name, value in changes.items():
        if name not in RESUMABLE and value not in (stored.get(name), facts["asked"].get(name)):
            raise ConfigError(
                f"{name} is part of the run and stays {stored.get(name)} when it goes on, got {value}; "
                f"what can change is {', '.join(RESUMABLE)}."
            )
    changes = {name: value for name, value in changes.items() if name in RESUMABLE}
    if any(name in changes for name in LIMITS):
        changes = {**dict.fromkeys(LIMITS), **changes}
    return dataclasses.replace(config, **changes)


def train(
    corpus: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    output: str | os.PathLike[str] = OUTPUT,
    *,
    valid: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    resume: bool = False,
    init_from: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    on_start: Callable[[Session], None] = lambda session: None,
    on_report: Callable[[Report], None] = lambda report: None,
    on_message: Callable[[str], None] = lambda message: None,
    stop: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> Any:
    """Train a model on text files, save it at `output`, and return the best one.

    corpus, valid: a file or folder, or several. settings: fields of TextConfig, LanguageConfig and TrainConfig, such as
    level="word", hidden_size=128, epochs=3; with bidirectional=True those of MaskedConfig instead. on_start is called
    with the Session before the first update, on_report after every update with a Report, on_message with sentences for
    the user; training ends early once stop() is true. resume: go on with the run at `output`.
    KeyboardInterrupt comes through once the last whole update is saved, so that resume goes on exactly.
    Raises NblstmError: ConfigError for a wrong setting, TextError for the corpus, TrainingError if it diverges.
    """
    paths, valid_paths = checks.paths("corpus", corpus), checks.paths("corpus", valid)
    output = checks.path("output", output)
    task, text, model, config = split_settings(settings)
    if resume:
        check_resume(init_from, overwrite)
        session = Session.resume(output, paths=paths, valid=valid_paths, changes=settings, on_message=on_message)
    else:
        session = Session.start(
            paths, output, valid=valid_paths, task=task, text=TextConfig(**text), model=model,
            config=TrainConfig(**config), init_from=init_from, overwrite=overwrite, on_message=on_message,
        )  # fmt: skip
    with session:
        on_start(session)
        with contextlib.closing(session.run(stop)) as reports:
            for report in reports:
                on_report(report)
    return session.model()


def check_resume(init_from: str | os.PathLike[str] | None, overwrite: bool) -> None:
    """Raise ConfigError if a run is to be resumed and started at once."""
    if init_from is not None or overwrite:
        raise ConfigError("resume=True goes on with a run; it cannot be combined with init_from or overwrite=True.")


def split_settings(
    settings: Mapping[str, Any],
) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Split settings into the task, and those of the text, the network and the training.

    bidirectional=True is the task "masked". ConfigError for a name that none of them has.
    """
    rest = dict(settings)
    both_ways = rest.pop("bidirectional", False)
    if not isinstance(both_ways, bool):
        raise ConfigError(f"bidirectional must be true or false, got {both_ways!r:.40}.")
    task = "masked" if both_ways else "language"
    parts = [{name: rest.pop(name) for name in list(rest) if name in kind.names() - {"vocab_size"}}
             for kind in (TextConfig, config_of(task), TrainConfig)]  # fmt: skip
    if "mask_fraction" in rest:
        raise ConfigError("mask_fraction is for a bidirectional model; leave it out.")
    if rest:
        raise ConfigError(f"there is no setting {next(iter(rest))!r}.")
    return task, parts[0], parts[1], parts[2]
