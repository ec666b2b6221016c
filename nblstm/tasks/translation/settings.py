"""The settings of a translator's runs: with those of how files of pairs are read."""

from __future__ import annotations

from dataclasses import dataclass

from nblstm.config import TextConfig
from nblstm.config.checks import one_of
from nblstm.config.runs import RunSettings
from nblstm.config.vocabulary import LEVELS
from nblstm.errors import ConfigError
from nblstm.tasks.translation.config import TranslatorConfig, TranslatorTraining


@dataclass(frozen=True)
class PairedTextConfig(TextConfig):
    """How the texts of both sides become tokens."""

    level: str = "word"  # char | word | byte: of the targets
    source_level: str | None = None  # of the sources; None: the same
    shared_vocabulary: bool = False  # both sides have one vocabulary, and its tokens one vector each

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source_level is not None:
            one_of(self, "source_level", LEVELS)
        if self.shared_vocabulary and self.source_level not in (None, self.level):
            raise ConfigError("shared_vocabulary has one level; leave out source_level, or shared_vocabulary.")


TRANSLATOR_SETTINGS = RunSettings(
    PairedTextConfig,
    TranslatorConfig,
    TranslatorTraining,
    given=frozenset(
        {"vocab_size", "source_vocab_size", "source_size", "shared", "head", "learned_state", "documents", "include"}
    ),
    places=("corpus", "valid", "source", "target", "valid_source", "valid_target", "vectors"),
)
