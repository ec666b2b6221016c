"""Program: a language model that is made, trained on a text in memory, asked and stored, all by one object."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from nblstm.config import ModelConfig, TextConfig, TrainConfig, WindowConfig
from nblstm.errors import ConfigError
from nblstm.files.model_file import check_tensors, load_model, save_model
from nblstm.kernels.reference.head import log_softmax
from nblstm.model.parameters import flatten, named_tensors, parameter_shapes
from nblstm.scoring import Score
from nblstm.text.corpus import Corpus, Source, load_corpus
from nblstm.text.vocabulary import Vocabulary, utf8
from nblstm.training.session import split_settings, training_facts
from nblstm.training.trainer import Report, Trainer

NAME = "a text in memory"  # where facts and messages name a file


class Program(ABC):
    """What the article's programs share. Made with the settings of its network, then trained, or loaded.

    config, vocabulary, parameters (config.num_parameters,), training: as in `LanguageModel`; None before training.
    """

    CONFIG: ClassVar[type]  # of the network
    NETWORK: ClassVar[dict[str, Any]] = {}  # the article's settings of the network, where the config's are others
    TRAINING: ClassVar[dict[str, Any]] = {}  # settings of the training that are no default of TrainConfig

    def __init__(self, **network: Any) -> None:
        """network: fields of CONFIG, without vocab_size. ConfigError for a wrong one."""
        if "vocab_size" in network:
            raise ConfigError("vocab_size is how many tokens the text has; leave it out.")
        self.network_settings = {**self.NETWORK, **network}
        self.CONFIG.from_dict({"vocab_size": 2, **self.network_settings})
        self.config: Any = None
        self.vocabulary: Vocabulary | None = None
        self.parameters: np.ndarray | None = None
        self.training: dict[str, Any] = {}

    # ------------------------------------------------------------ training

    def train(
        self,
        text: str | Sequence[str],
        *,
        on_report: Callable[[Report], None] = lambda report: None,
        on_message: Callable[[str], None] = lambda message: None,
        stop: Callable[[], bool] = lambda: False,
        **settings: Any,
    ) -> Any:
        """Learn a text from the start; the program itself is returned.

        text: a string, one stream of text, or with documents="line" or "blank-line" many texts; or a list of strings,
        each a text of its own. Texts of their own have an end token: read first, predicted last. settings: fields of
        TextConfig and TrainConfig, such as level="word", epochs=3. on_report is called after every update and every
        validation, on_message with sentences for the user; training ends early once stop() is true. What is kept are
        the best weights by validation loss, also where an interrupt or an error ends the training.
        Raises ConfigError for a wrong setting, TextError for the text, TrainingError if training diverges.
        """
        sources, whole = _sources(text)
        asked, network, training = split_settings({**whole, **settings})
        if network:
            name = next(iter(network))
            raise ConfigError(f"{name} is a setting of the network: {type(self).__name__}(...) takes it.")
        if not isinstance(text, bytes) and asked.get("encoding", TextConfig.encoding) != TextConfig.encoding:
            raise ConfigError("encoding is for files, and a string is decoded already; leave it out.")
        self._check(asked, training)
        train = TrainConfig(**{**self.TRAINING, **training})
        corpus = load_corpus(sources, **TextConfig(**asked).to_dict())
        config = self.CONFIG.from_dict({"vocab_size": len(corpus.vocabulary), **self.network_settings})
        trainer = self._trainer(config, train, corpus, on_message)
        try:
            for report in trainer.run(stop):
                on_report(report)
        finally:
            self._take(config, corpus.vocabulary, trainer.keep(), training_facts([NAME], corpus, trainer))
        return self

    @abstractmethod
    def _check(self, text: dict[str, Any], training: dict[str, Any]) -> None:
        """ConfigError for settings of the text and of the training that mean nothing to this program."""

    @abstractmethod
    def _trainer(
        self, config: Any, train: TrainConfig, corpus: Corpus, on_message: Callable[[str], None]
    ) -> Trainer:
        """What trains a new network of this config."""

    def _take(self, config: Any, vocabulary: Vocabulary, parameters: np.ndarray, training: dict[str, Any]) -> None:
        """Be the program that these make."""
        self.config, self.vocabulary, self.parameters, self.training = config, vocabulary, parameters, training

    # ------------------------------------------------------------ asking

    @abstractmethod
    def predict(self, sequences: Iterable[Sequence[int]]) -> np.ndarray:
        """Probabilities of the token that follows each sequence of ids: (N, V), in config.dtype, each row summing to 1.

        sequences: N lists of ids, as `nblstm.texts_to_sequences` makes them, or rows of a rectangle. Each is the
        beginning of a text, or all of it; what is filled up in a rectangle is read like any other id.
        """

    @abstractmethod
    def generate_text(
        self, seed_text: str = "", n: int = 200, temperature: float = 0.5, seed: int | None = None
    ) -> str:
        """The text that follows seed_text: n tokens, or fewer where an end token comes.

        temperature: logits are divided by it; 0 takes the most likely token. seed: of the draws; None for fresh ones.
        """

    @abstractmethod
    def score(self, text: str) -> Score:
        """How probable a text is, from its start to its end token if there is one. Every token is scored."""

    def _trained(self) -> Vocabulary:
        """The vocabulary. ConfigError before there is one."""
        if self.vocabulary is None:
            raise ConfigError(f"this {type(self).__name__} has learnt nothing yet; call train or load first.")
        return self.vocabulary

    def _ids(self, sequences: Iterable[Sequence[int]]) -> list[np.ndarray]:
        """The sequences, (tokens,) int32 each. ConfigError unless they are ids of the vocabulary."""
        V = len(self._trained())
        return [_checked(sequence, V) for sequence in sequences]

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program to a file, atomically. ModelFileError if it cannot be written."""
        save_model(path, self.config, self._trained(), named_tensors(self.parameters, self.config), self.training)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Any:
        """The program in a file. ModelFileError if it is missing, damaged, another kind's or from a newer version."""
        file = load_model(path, cls.CONFIG)
        check_tensors(file.weights, parameter_shapes(file.config), path)
        settings = file.config.to_dict()
        del settings["vocab_size"]
        program = cls(**settings)
        program._take(file.config, file.vocabulary, flatten(file.weights, file.config), file.training)
        return program


def probabilities(logits: np.ndarray) -> np.ndarray:
    """softmax of logits (M, V), row by row."""
    return np.exp(log_softmax(logits))


def _checked(sequence: Any, V: int) -> np.ndarray:
    """A sequence of ids below V, (tokens,) int32. ConfigError if it is none."""
    try:
        ids = np.asarray(sequence)
    except ValueError:  # lists of different lengths inside
        ids = np.empty((0, 0))
    fits = ids.ndim == 1 and (ids.dtype.kind in "iu" or not ids.size)
    if not (fits and np.all((0 <= ids) & (ids < V))):
        rule = f"must hold ids from 0 to {V - 1}, as texts_to_sequences makes them"
        raise ConfigError(f"sequences {rule}, got {str(sequence)[:40]!r}.")
    return ids.astype(np.int32)


def _sources(text: str | Sequence[str]) -> tuple[list[Source], dict[str, Any]]:
    """The text as files that `load_corpus` reads, and the settings that tell how; ConfigError if it is none."""
    texts = [text] if isinstance(text, (str, bytes)) else list(text) if isinstance(text, Iterable) else [text]
    for part in texts:
        if not isinstance(part, (str, bytes)):
            raise ConfigError(f"text must be a string or a list of strings, got {part!r:.40}.")
    sources = [Source(NAME, partial(io.BytesIO, utf8(part))) for part in texts]
    return sources, {} if isinstance(text, (str, bytes)) else {"documents": "file"}
