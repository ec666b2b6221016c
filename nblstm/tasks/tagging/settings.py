"""How a tagger is trained, and how files of tagged words are read."""

from __future__ import annotations

from dataclasses import dataclass

from nblstm.config.checks import MAX_SIZE, Config, at_least, check_types, fraction, one_of
from nblstm.config.runs import RunSettings
from nblstm.config.training import ON_DIVERGENCE, Recipe
from nblstm.errors import ConfigError
from nblstm.tasks.tagging.config import TaggerConfig

TAG_MONITORS = ("f1", "accuracy", "loss")
TAGGER_EPOCHS = 20  # unless epochs, steps or minutes is set


@dataclass(frozen=True, kw_only=True)
class TaggerTraining(Recipe):
    """How a tagger is trained."""

    unknown_fraction: float = 0.5  # share of the updates in which a word that was seen once is read as <unk>
    monitor: str = "f1"  # f1 | accuracy | loss: by which in validation the best weights are kept; f1 needs spans
    batch_size: int = 16
    lr: float | None = 3e-3
    warmup: int = 0
    on_divergence: str = "stop"  # type: ignore[misc] # stop | rollback, of a run with files

    def __post_init__(self) -> None:
        if self.epochs is None and self.steps is None and self.minutes is None:
            object.__setattr__(self, "epochs", TAGGER_EPOCHS)
        super().__post_init__()
        fraction(self, "unknown_fraction")
        one_of(self, "monitor", TAG_MONITORS)
        one_of(self, "on_divergence", ON_DIVERGENCE)


@dataclass(frozen=True)
class TaggedTextConfig(Config):
    """How files of tagged words are read; stored in the checkpoint."""

    token_column: int = 1  # which column has the words, from 1 on, or from the last one, -1, backwards
    tag_column: int = -1  # and which the tags
    min_count: int = 1  # words that are rarer become <unk>
    max_vocab: int | None = None  # most words, <unk> included
    lowercase: bool = True  # words are looked up in lower case; their spelling keeps its capitals
    zero_digits: bool = True  # and with a 0 for every digit
    encoding: str = "utf-8"
    valid_fraction: float = 0.1  # share of the sentences, drawn at random, kept for validation

    def __post_init__(self) -> None:
        check_types(self)
        at_least(self, 1, "min_count")
        at_least(self, 2, "max_vocab")
        fraction(self, "valid_fraction")
        for name in ("token_column", "tag_column"):
            if not 1 <= abs(getattr(self, name)) <= MAX_SIZE:
                raise ConfigError(
                    f"{name} must be a number from 1 on, or from -1 backwards, got {getattr(self, name)}."
                )


GIVEN_BY_DATA = frozenset({"vocab_size", "tags", "scheme", "characters", "tie"})
TAGGER_SETTINGS = RunSettings(
    TaggedTextConfig, TaggerConfig, TaggerTraining, given=GIVEN_BY_DATA, places=("corpus", "valid", "vectors")
)
