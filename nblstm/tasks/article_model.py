"""ArticleModel: a language model that is made, fitted to a text in memory, asked and stored, all by one object."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from nblstm import checks
from nblstm.arrays import refuse_masked
from nblstm.config import NetworkConfig, TextConfig
from nblstm.config.training import TargetWeights
from nblstm.errors import ConfigError
from nblstm.files.model_file import ModelFile, save_model
from nblstm.kernels.reference.head import log_softmax
from nblstm.scoring import Score
from nblstm.tasks.estimator import Estimator, renamed, run_to_end
from nblstm.text.corpus import Corpus, load_corpus
from nblstm.text.sources import Source
from nblstm.text.strings import utf8
from nblstm.text.vocabulary import Vocabulary, check_vocabulary
from nblstm.training.facts import training_facts
from nblstm.training.report import Report
from nblstm.training.trainer import Trainer

NAME = "a text in memory"  # where facts and messages name a file


class ArticleModel(Estimator, ABC):
    """Base of the article's programs. Made with its settings, then fitted to a text in memory, or loaded.

    Settings: fields of the network's config, of TextConfig and of its training. Once it is fitted or loaded: config,
    vocabulary, parameters (config.num_parameters,), training, as in `LanguageModel`.
    """

    NETWORK: ClassVar[type[NetworkConfig]]
    TRAINING: ClassVar[type[TargetWeights]]
    GIVEN = frozenset({"vocab_size", "on_divergence", "even_chunks", "keep_statistics"})

    def __init__(self, **settings: Any) -> None:
        """settings: see the class. ConfigError for a wrong one."""
        if "vocab_size" in settings:
            raise ConfigError("vocab_size is how many tokens the text has; leave it out.")
        super().__init__(**settings)
        self.config: Any = None
        self.vocabulary: Vocabulary | None = None
        self.parameters: Any = None
        self.training: dict[str, Any] = {}

    def check_settings(self) -> None:
        """Raise ConfigError for a wrong value, or values that exclude each other."""
        network = self.of(self.NETWORK)
        draft = self.NETWORK.from_dict({"vocab_size": self.NETWORK.fewest_tokens(network), **network})
        draft.check_level(self._settings["level"])
        TextConfig(**self.of(TextConfig))
        self.TRAINING(**self.of(self.TRAINING))

    # ------------------------------------------------------------ training

    def fit(
        self,
        text: str | Sequence[str],
        y: None = None,
        *,
        on_report: Callable[[Report], None] = lambda report: None,
        on_message: Callable[[str], None] = lambda message: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Learn a text from the start; return the model itself.

        text: a string, one stream of text, or with documents="line" or "blank-line" many texts; or a list of strings,
        each a text of its own. Texts of their own have an end token: read first, predicted last. y: for scikit-learn,
        not looked at. on_report is called after every update and every validation, on_message with sentences for the
        user; training ends early once stop() is true. What is kept are the best weights by validation loss, also where
        an interrupt or an error ends the training after its first update.
        Raises ConfigError for a wrong setting, TextError for the text, TrainingError if training diverges.
        """
        sources, whole = _sources(text)
        if not isinstance(text, bytes) and self._settings["encoding"] != TextConfig.encoding:
            raise ConfigError("encoding is for files, and a string is decoded already; leave it out.")
        asked = TextConfig(**{**whole, **{k: v for k, v in self.of(TextConfig).items() if v is not None}})
        train = self.TRAINING(**self.of(self.TRAINING))
        self._check(asked, train)
        corpus = load_corpus(sources, **asked.to_dict(), on_message=on_message)
        config = self.NETWORK.from_dict({"vocab_size": len(corpus.vocabulary), **self.of(self.NETWORK)})
        trainer = self._trainer(config, train, corpus, on_message)
        facts = lambda: training_facts([NAME], corpus, trainer)
        run_to_end(trainer, stop, on_report, lambda: self._take(config, corpus.vocabulary, trainer.keep(), facts()))
        return self

    def _train(self, text: str | Sequence[str], **keywords: Any) -> Any:
        """Take the settings among the keywords, and fit."""
        passed = {name: keywords.pop(name) for name in ("on_report", "on_message", "stop") if name in keywords}
        return self.set_params(**keywords).fit(text, **passed)

    train = renamed("give settings to the class and call fit(text)", _train)

    def _check(self, text: TextConfig, train: Any) -> None:
        """Raise ConfigError for settings of the training that mean nothing to this text."""

    @abstractmethod
    def _trainer(self, config: Any, train: Any, corpus: Corpus, on_message: Callable[[str], None]) -> Trainer:
        """Make the trainer of a new network of this config."""

    def _take(self, config: Any, vocabulary: Vocabulary, parameters: np.ndarray, training: dict[str, Any]) -> None:
        """Set config, vocabulary and parameters. ConfigError unless they fit together."""
        check_vocabulary(self.NETWORK, config, vocabulary)
        self.vocabulary = vocabulary
        self._hold(config, parameters, training)

    # ------------------------------------------------------------ asking

    @abstractmethod
    def predict(self, sequences: Iterable[Sequence[int]]) -> np.ndarray:
        """Compute the probabilities of the token after each sequence of ids: (N, V), in config.dtype; rows sum to 1.

        sequences: N lists of ids, as `nblstm.texts_to_sequences` makes them, or rows of a rectangle. Each is the
        beginning of a text, or all of it; what is filled up in a rectangle is read like any other id.
        """

    @abstractmethod
    def generate_text(
        self, seed_text: str = "", n: int = 200, temperature: float = 0.5, seed: int | None = None
    ) -> str:
        """Generate the text that follows seed_text: n tokens, or fewer where an end token comes.

        temperature: logits are divided by it; 0 takes the most likely token. seed: of the draws; None for fresh ones.
        """

    @abstractmethod
    def score(self, text: str) -> Score:
        """Score a text, from its start to its end token if there is one. Every token is scored."""

    def _trained(self) -> Vocabulary:
        """Return the vocabulary. ConfigError before there is one."""
        self._fitted()
        assert self.vocabulary is not None
        return self.vocabulary

    def _ids(self, sequences: Iterable[Sequence[int]]) -> list[np.ndarray]:
        """Return the sequences, (tokens,) int32 each. ConfigError unless they are ids of the vocabulary."""
        V, name = len(self._trained()), "sequences, as texts_to_sequences makes them,"
        given = list(checks.items("sequences", sequences))
        refuse_masked(given, "sequences")
        return [checks.ids(name, ids, V, (-1,), np.int32) for ids in given]

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, atomically. ModelFileError if it cannot be written."""
        vocabulary = self._trained()
        save_model(path, ModelFile.of(self.config, vocabulary, self.parameters, {}, self.training))

    @classmethod
    def restore(cls, file: ModelFile) -> Any:
        """Make the model of a file's content."""
        config = file.config
        assert file.vocabulary is not None  # as this kind of file has one
        model = cls(**cls._settings_of(config))
        model._take(config, file.vocabulary, file.parameters, file.training)
        return model


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Compute the softmax of logits (M, V), row by row. NonFiniteError where there is none."""
    with checks.quiet():
        return np.exp(log_softmax(checks.distributions(logits, "behind a sequence")))


def _sources(text: str | Sequence[str]) -> tuple[list[Source], dict[str, Any]]:
    """Return the text as files that `load_corpus` reads, and the settings that tell how; ConfigError if it is none."""
    texts = [text] if isinstance(text, (str, bytes)) else list(text) if isinstance(text, Iterable) else [text]
    for part in texts:
        if not isinstance(part, (str, bytes)):
            raise ConfigError(f"text must be a string or a list of strings, got {part!r:.40}.")
    sources = [Source(NAME, partial(io.BytesIO, utf8(part))) for part in texts]
    return sources, {} if isinstance(text, (str, bytes)) else {"documents": "file"}
