"""The tasks by name, and the model in any file."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from nblstm.config import NetworkConfig, TokenStackConfig
from nblstm.files.model_file import load_model
from nblstm.tasks.estimator import model_from

MODELS = {  # task -> its config and its model
    "language": ("nblstm.tasks.language.config:LanguageConfig", "nblstm.tasks.language.model:LanguageModel"),
    "masked": ("nblstm.tasks.masked.config:MaskedConfig", "nblstm.tasks.masked.model:MaskedLanguageModel"),
    "window": ("nblstm.tasks.window.config:WindowConfig", "nblstm.tasks.window.model:MLPLanguageModel"),
    "series": ("nblstm.tasks.series.config:SeriesConfig", "nblstm.tasks.series.model:SeriesModel"),
    "classification": (
        "nblstm.tasks.classification.config:ClassifierConfig", "nblstm.tasks.classification.model:TextClassifier",
    ),
}  # fmt: skip
OF_RUNS = ("language", "masked")  # what `nblstm.train` trains on files of text


def _named(place: str) -> Any:
    """Import the object at "module:name"."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def config_of(task: str) -> type[NetworkConfig]:
    """Return the config of a task's network."""
    return _named(MODELS[task][0])


def model_of(task: str) -> Any:
    """Return a task's model."""
    return _named(MODELS[task][1])


def task_of(config: type[NetworkConfig]) -> str:
    """Return the name of the task that a config belongs to."""
    return next(name for name in MODELS if config_of(name) is config)


def load(path: str | os.PathLike[str], tasks: Sequence[str] | None = None) -> Any:
    """Read the model in a file, whatever its task is among these (None: any).

    ModelFileError if the file is missing, damaged, foreign or from a newer version.
    """
    file = load_model(path, [config_of(name) for name in tasks or MODELS])
    return model_from(model_of(task_of(type(file.config))), file, path)


def stored_config(fields: Mapping[str, Any]) -> TokenStackConfig:
    """Make the config that a run has stored. ConfigError for a wrong field."""
    kinds = [config_of(name) for name in OF_RUNS]
    return next(kind for kind in kinds if kind.owns(fields)).from_dict(dict(fields))  # type: ignore[return-value]
