"""The settings of a classifier's runs: with those of how files of labelled texts are read."""

from __future__ import annotations

from dataclasses import dataclass

from nblstm.config import TextConfig
from nblstm.config.runs import RunSettings
from nblstm.errors import ConfigError
from nblstm.tasks.classification.config import ClassifierConfig, ClassifierTraining


@dataclass(frozen=True)
class LabelledTextConfig(TextConfig):
    """How files of labelled texts are read; stored in the checkpoint."""

    level: str = "word"
    text_column: str | None = None  # of a table with a header: which column is the text; None: lines
    label_column: str | None = None  # and which the label

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.text_column is None) != (self.label_column is None):
            raise ConfigError("text_column and label_column belong together; give both, or none.")


CLASSIFIER_SETTINGS = RunSettings(
    LabelledTextConfig,
    ClassifierConfig,
    ClassifierTraining,
    given=frozenset({"vocab_size", "labels", "label_type", "tie", "head", "documents", "include"}),
    places=("corpus", "valid", "vectors"),
)
