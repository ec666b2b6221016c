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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nblstm import kernels
from nblstm.config import (
    DEFAULT_BUCKETS, ModelConfig, TextConfig, TrainConfig, WindowConfig, check_card, check_documents, check_masking,
)  # fmt: skip
from nblstm.errors import ConfigError, DeviceError, ModelFileError, TrainingError
from nblstm.files.model_file import load_checkpoint, save_checkpoint, save_model
from nblstm.files.safetensors import check_replaceable
from nblstm.language_model import LanguageModel, load
from nblstm.model.network import Network
from nblstm.model.parameters import initial, named_tensors
from nblstm.scoring import validation_documents, validation_streams
from nblstm.text.batches import Streams, fit
from nblstm.text.buckets import Buckets, best_boundaries
from nblstm.text.corpus import STDIN, Corpus, load_corpus
from nblstm.text.demo import DEMO, demo_source
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.memory import card_bytes
from nblstm.training.trainer import Report, Trainer

OUTPUT = "model.safetensors"
SAVE_SECONDS = 60.0  # between two checkpoints inside an epoch
METRICS_SECONDS = 1.0  # between two rows of metrics
LIMITS = ("epochs", "steps", "minutes")
RESUMABLE = (*LIMITS, "patience", "threads", "device", "precision")  # what may differ when a run goes on
COLUMNS = (
    "step", "epoch", "tokens", "seconds", "lr", "loss", "smooth_loss", "gradient_norm", "tokens_per_second",
    "valid_loss",
)  # fmt: skip


class Session:
    """Ties a corpus, a network, a trainer and three files together. Made by `start` or `resume`."""

    def __init__(
        self, output: Path, facts: dict[str, Any], corpus: Corpus, trainer: Trainer, notify: Callable[[str], None]
    ) -> None:
        self.output, self.facts, self.corpus, self.trainer, self.notify = output, facts, corpus, trainer, notify
        self.checkpoint, self.metrics = checkpoint_path(output), metrics_path(output)
        self._rows_fail = False  # whether the last row of metrics could not be written
        slow = kernels.fallback(trainer.network.config.cells[0], trainer.config.device)
        if slow:
            notify(slow)

    # ------------------------------------------------------------ making one

    @classmethod
    def start(
        cls,
        paths: Sequence[str],
        output: str | os.PathLike[str] = OUTPUT,
        *,
        valid: Sequence[str] = (),
        text: TextConfig = TextConfig(),
        model: Mapping[str, Any] | None = None,
        config: TrainConfig = TrainConfig(),
        init_from: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        notify: Callable[[str], None] = lambda message: None,
    ) -> Session:
        """A new run.

        model: fields of ModelConfig, without vocab_size. init_from: a model file whose shape, vocabulary and
        weights to start from. notify: told in a sentence what the user should know.
        Raises ConfigError, TextError or ModelFileError before anything is written.
        """
        output = Path(output)
        asked = ModelConfig.from_dict({"vocab_size": 2, **(model or {})})  # errors are found before anything is read
        check_documents(text, config)
        check_masking(text.level, asked.bidirectional)
        if config.device == "cuda":
            check_card(asked)
        check_output(output, overwrite)
        kernels.load(config.device)
        base = load(init_from) if init_from is not None else None
        if base is not None and model:
            raise ConfigError(f"{next(iter(model))} comes from the model that training starts from; leave it out.")
        text = _text_of(base.vocabulary, text) if base else text
        facts = {"corpus": _absolute(paths), "valid": _absolute(valid), "text": text.to_dict()}
        corpus = _corpus(facts, base.vocabulary if base else None)
        shape = base.config if base else ModelConfig.from_dict({"vocab_size": len(corpus.vocabulary), **(model or {})})
        facts["asked"] = {"batch_size": config.batch_size, "bptt": config.bptt}
        config = fitted(config, corpus, notify)
        parameters = base.parameters if base else initial(shape, config.seed)
        return cls(output, facts, corpus, make_trainer(shape, parameters, config, corpus), notify)

    @classmethod
    def resume(
        cls,
        output: str | os.PathLike[str] = OUTPUT,
        *,
        paths: Sequence[str] = (),
        valid: Sequence[str] = (),
        changes: Mapping[str, Any] | None = None,
        notify: Callable[[str], None] = lambda message: None,
    ) -> Session:
        """Go on exactly where the checkpoint beside `output` was taken.

        paths, valid: where the corpus is now, if it has moved. changes: fields of TrainConfig, of RESUMABLE.
        Raises ModelFileError without an intact checkpoint, TrainingError if the text is not the same.
        """
        output = Path(output)
        tensors, facts = load_checkpoint(checkpoint_path(output))
        try:
            config = _changed(TrainConfig.from_dict(facts["config"]), dict(changes or {}), facts)
            kernels.load(config.device)
            shape = ModelConfig.from_dict(facts["model"])
            vocabulary = Vocabulary.from_dict(facts["vocabulary"])
            place = {key: _absolute(new) or facts[key] for key, new in (("corpus", paths), ("valid", valid))}
            facts = {**facts, **place}
            corpus = _corpus(facts, vocabulary)
            if corpus.fingerprint != facts["fingerprint"]:
                raise TrainingError("the text is not the one this run was started on; start a new run with another -o.")
            trainer = make_trainer(shape, np.zeros(shape.num_parameters, shape.dtype), config, corpus)
            trainer.restore(tensors, facts["trainer"])
        except (KeyError, TypeError) as error:
            raise ModelFileError(f"{checkpoint_path(output)} is damaged ({error!r}); start the run anew.") from None
        return cls(output, facts, corpus, trainer, notify)

    # ------------------------------------------------------------ running

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Report]:
        """Train, and save: the model at every best validation, the checkpoint once a minute and at the end.

        Reports come after their files are safe. When the iterator ends or is closed, everything is saved.
        TrainingError if training diverges: the model file then holds the last good weights.
        """
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
        except TrainingError:
            self._save_now_or_later(self._save_model)
            raise
        except GeneratorExit:  # the caller has seen enough
            self.save()
            raise
        else:
            self.save()
        finally:
            with contextlib.suppress(OSError):
                rows.close()

    def save(self) -> None:
        """Write the checkpoint, and the model where no validation has written a better one."""
        facts = {
            **self.facts,
            "fingerprint": self.corpus.fingerprint,
            "vocabulary": self.corpus.vocabulary.to_dict(),
            "model": self.trainer.network.config.to_dict(),
            "config": self.trainer.config.to_dict(),
            "trainer": self.trainer.facts(),
        }
        if self.trainer.best_loss is None or not self.output.exists():
            self._save_model()
        save_checkpoint(self.checkpoint, self.trainer.tensors(), facts)

    def model(self) -> LanguageModel:
        """The best model so far."""
        network = self.trainer.network
        return LanguageModel(network.config, self.corpus.vocabulary, self.trainer.keep(), self._training_facts())

    def _save_model(self) -> None:
        config = self.trainer.network.config
        weights = named_tensors(self.trainer.keep(), config)
        save_model(self.output, config, self.corpus.vocabulary, weights, self._training_facts())

    def _save_now_or_later(self, save: Callable[[], None]) -> None:
        """A full disk in the middle of a run is worth a warning: the next save may succeed."""
        try:
            save()
        except ModelFileError as error:
            self.notify(f"warning: not saved: {error}")

    def _training_facts(self) -> dict[str, Any]:
        names = ["the demo text" if path == DEMO else os.path.basename(path) for path in self.facts["corpus"]]
        return training_facts(names, self.corpus, self.trainer)

    # ------------------------------------------------------------ metrics

    def _metrics_file(self) -> Any:
        """The open metrics file: new, or on resume cut off behind the checkpoint's step."""
        mode = "r+" if self.trainer.step and self.metrics.exists() else "w"
        try:
            file = open(self.metrics, mode, newline="", encoding="utf-8", errors="replace")
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
                self.notify(f"warning: {self.metrics} cannot be written: {error.strerror or error}.")
            self._rows_fail = True


def training_facts(names: Sequence[str], corpus: Corpus, trainer: Trainer) -> dict[str, Any]:
    """How a model was made, as its file tells it. names: those of the texts."""
    offsets = corpus.train_offsets
    return {
        "corpus": list(names),
        "tokens": len(corpus.train) if offsets is None else int(offsets[-1]),
        **({} if offsets is None else {"documents": len(offsets) - 1}),
        "steps": trainer.step,
        "epochs": round(trainer.epoch, 3),
        "seconds": round(trainer.seconds, 1),
        "valid_loss": trainer.best_loss,
        "config": trainer.config.to_dict(),
    }


def checkpoint_path(output: Path) -> Path:
    """Where a run keeps what it needs to go on."""
    return output.with_name(f"{output.stem}.checkpoint{output.suffix}")


def metrics_path(output: Path) -> Path:
    """Where a run keeps its curve."""
    return output.with_name(f"{output.stem}.metrics.csv")


def _is_kept(line: str, step: int) -> bool:
    """Whether a line of metrics is whole and not behind `step`."""
    first = line.partition(",")[0]
    return line.endswith("\n") and (first == COLUMNS[0] or (first.isdecimal() and int(first) <= step))


def _cell(value: Any) -> Any:
    """A value of a report as the metrics show it: what is not known is empty."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value


def check_output(output: Path, overwrite: bool) -> None:
    """Refuse, before any work, an output that cannot be written or that holds another run. ConfigError."""
    folder = output.parent
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; make it, or choose another -o.")
    if output.is_dir():
        raise ConfigError(f"{output} is a folder; choose a file with -o.")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"nothing can be written to {folder} ({error.strerror}); choose another -o.") from None
    if output.exists() and not output.is_file():
        raise ConfigError(f"{output} is a pipe or a device; choose a regular file with -o.")
    existing = [path for path in (output, checkpoint_path(output)) if path.exists()]
    if existing and not overwrite:
        raise ConfigError(
            f"{existing[0]} exists; go on with it by --resume, replace it by --overwrite, or choose another -o."
        )
    for path in existing:
        check_replaceable(path)
        if not os.access(path, os.W_OK):
            raise ConfigError(f"{path} is read-only; change its permissions or choose another -o.")


def _absolute(paths: Sequence[str]) -> list[str]:
    if "" in paths:
        raise ConfigError("a path must not be empty; name a file or a folder.")
    return [path if path in (STDIN, DEMO) else os.path.abspath(path) for path in paths]


def _corpus(facts: Mapping[str, Any], vocabulary: Vocabulary | None) -> Corpus:
    """The corpus that the facts of a run describe."""
    sources = lambda paths: [demo_source() if path == DEMO else path for path in paths]  # noqa: E731
    text = TextConfig.from_dict(facts["text"]).to_dict()
    return load_corpus(sources(facts["corpus"]), valid_paths=sources(facts["valid"]), vocabulary=vocabulary, **text)


def _text_of(vocabulary: Vocabulary, text: TextConfig) -> TextConfig:
    """How a text is read for a vocabulary that is given. ConfigError if the settings ask for another one."""
    given = {"level": vocabulary.level, "tokenizer": vocabulary.tokenizer, "min_count": 1, "max_vocab": None}
    for name, value in given.items():
        if getattr(text, name) not in (value, getattr(TextConfig, name)):
            raise ConfigError(f"{name} comes from the model that training starts from; leave it out.")
    return dataclasses.replace(text, **given)


def fitted(config: TrainConfig, corpus: Corpus, notify: Callable[[str], None]) -> TrainConfig:
    """The config with a batch that the text can fill; of documents a batch may simply hold fewer."""
    if corpus.train_offsets is not None:
        return config
    batch_size, bptt, message = fit(len(corpus.train), config.batch_size, config.bptt)
    if message:
        notify(message)
    return dataclasses.replace(config, batch_size=batch_size, bptt=bptt)


def make_trainer(shape: ModelConfig, parameters: np.ndarray, config: TrainConfig, corpus: Corpus) -> Trainer:
    """The trainer of a network of this shape on a corpus. parameters (num_parameters,) are the ones it moves."""
    if config.device == "cuda":
        _check_room(shape, config)
    network = Network(shape, parameters, config.device, config.threads, config.precision)
    network.classes, network.smoothing = class_weights(config, corpus.vocabulary, shape), config.label_smoothing
    if corpus.train_offsets is None:
        source, valid = Streams(corpus.train, config.batch_size, config.bptt), validation_streams(corpus.valid)
    else:
        source, valid = _buckets(corpus, config), validation_documents(corpus.valid, corpus.valid_offsets)
    return Trainer(network, config, source, valid, corpus.release)


def _check_room(shape: ModelConfig, config: TrainConfig) -> None:
    """DeviceError if the card's free memory cannot hold the training."""
    name, free = kernels.load("cuda").describe()
    needed = card_bytes(shape, config)
    if free is not None and needed > free:
        raise DeviceError(
            f"training takes up to {needed / 1e6:,.1f} MB, and {name} has {free / 1e6:,.1f} MB free; "
            "lower batch_size or bptt."
        )


def class_weights(
    config: TrainConfig, vocabulary: Vocabulary, shape: ModelConfig | WindowConfig
) -> np.ndarray | None:
    """How much each token counts as a target, (V,). ConfigError for one that the vocabulary does not have."""
    if not config.token_weights:
        return None
    places = {token: id for id, token in enumerate(vocabulary.tokens)}
    classes = np.ones(len(vocabulary), shape.dtype)
    for token, weight in config.token_weights.items():
        if token not in places:
            raise ConfigError(f"token_weights names {token!r:.40}, which the vocabulary does not have; leave it out.")
        classes[places[token]] = weight
    return classes


def _buckets(corpus: Corpus, config: TrainConfig) -> Buckets:
    """The training documents in the buckets that the config asks for."""
    boundaries = config.boundaries
    if boundaries is None:
        boundaries = best_boundaries(np.diff(corpus.train_offsets), config.num_buckets or DEFAULT_BUCKETS)
    return Buckets(
        corpus.train, corpus.train_offsets, boundaries, config.bptt, config.batch_size, config.tokens_per_batch,
        config.seed,
    )  # fmt: skip


def _changed(config: TrainConfig, changes: dict[str, Any], facts: Mapping[str, Any]) -> TrainConfig:
    """The stored config with the limits asked for now: a new limit replaces all old ones."""
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
    on_report: Callable[[Report], None] = lambda report: None,
    on_message: Callable[[str], None] = lambda message: None,
    stop: Callable[[], bool] = lambda: False,
    **settings: Any,
) -> LanguageModel:
    """Train a model on text files, save it at `output`, and return the best one.

    corpus, valid: a file or folder, or several. settings: fields of TextConfig, ModelConfig and TrainConfig, such as
    level="word", hidden_size=128, epochs=3. on_report is called after every update with a Report, on_message
    with sentences for the user; training ends early once stop() is true. resume: go on with the run at `output`.
    Raises NblstmError: ConfigError for a wrong setting, TextError for the corpus, TrainingError if it diverges.
    """
    paths, valid_paths = _path_list(corpus), _path_list(valid)
    text, model, config = split_settings(settings)
    if resume:
        check_resume(init_from, overwrite)
        session = Session.resume(
            output, paths=paths, valid=valid_paths, changes={**text, **model, **config}, notify=on_message
        )
    else:
        session = Session.start(
            paths, output, valid=valid_paths, text=TextConfig(**text), model=model, config=TrainConfig(**config),
            init_from=init_from, overwrite=overwrite, notify=on_message,
        )  # fmt: skip
    for report in session.run(stop):
        on_report(report)
    return session.model()


def check_resume(init_from: str | os.PathLike[str] | None, overwrite: bool) -> None:
    """ConfigError if a run is to be resumed and started at once."""
    if init_from is not None or overwrite:
        raise ConfigError("--resume goes on with a run; it cannot be combined with --init-from or --overwrite.")


def _path_list(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    return [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]


def split_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The settings of the text, the model and the training. ConfigError for a name that none of them has."""
    parts: list[dict[str, Any]] = []
    for kind in (TextConfig, ModelConfig, TrainConfig):
        names = {field.name for field in dataclasses.fields(kind)} - {"vocab_size"}
        parts.append({name: value for name, value in settings.items() if name in names})
    known = {name for part in parts for name in part}
    for name in settings:
        if name not in known:
            raise ConfigError(f"there is no setting {name!r}.")
    return parts[0], parts[1], parts[2]
