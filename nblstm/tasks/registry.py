"""The tasks by name, and the model in any file."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nblstm.checks import no_setting
from nblstm.config import NetworkConfig, said
from nblstm.errors import ConfigError
from nblstm.files.model_file import load_model
from nblstm.tasks.estimator import model_from

if TYPE_CHECKING:
    from nblstm.config.runs import RunSettings
    from nblstm.tasks.run import TaskRun

MODELS = {  # task -> its config and its model
    "language": ("nblstm.tasks.language.config:LanguageConfig", "nblstm.tasks.language.model:LanguageModel"),
    "masked": ("nblstm.tasks.masked.config:MaskedConfig", "nblstm.tasks.masked.model:MaskedLanguageModel"),
    "window": ("nblstm.tasks.window.config:WindowConfig", "nblstm.tasks.window.model:MLPLanguageModel"),
    "series": ("nblstm.tasks.series.config:SeriesConfig", "nblstm.tasks.series.model:SeriesModel"),
    "classification": (
        "nblstm.tasks.classification.config:ClassifierConfig",
        "nblstm.tasks.classification.model:TextClassifier",
    ),
    "translation": ("nblstm.tasks.translation.config:TranslatorConfig", "nblstm.tasks.translation.model:Translator"),
    "tagging": ("nblstm.tasks.tagging.config:TaggerConfig", "nblstm.tasks.tagging.model:Tagger"),
}
TEXT_MODELS = ("language", "masked")  # those that find a text more or less probable
RUNS = {  # what is trained on files: task -> its settings and its run
    "language": ("nblstm.tasks.language.settings:LANGUAGE_SETTINGS", "nblstm.tasks.language.run:LanguageRun"),
    "masked": ("nblstm.tasks.masked.settings:MASKED_SETTINGS", "nblstm.tasks.masked.run:MaskedRun"),
    "classification": (
        "nblstm.tasks.classification.settings:CLASSIFIER_SETTINGS",
        "nblstm.tasks.classification.run:ClassifierRun",
    ),
    "translation": (
        "nblstm.tasks.translation.settings:TRANSLATOR_SETTINGS",
        "nblstm.tasks.translation.run:TranslatorRun",
    ),
    "tagging": ("nblstm.tasks.tagging.settings:TAGGER_SETTINGS", "nblstm.tasks.tagging.run:TaggerRun"),
}
VERBS = {
    "language": "language",
    "classify": "classification",
    "translate": "translation",
    "tag": "tagging",
}  # what a person asks for -> the task
VARIANTS = {"masked": "language"}  # task -> the one whose settings ask for it


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
    file = load_model(path, map(config_of, tasks or MODELS))
    return model_from(model_of(task_of(type(file.config))), file, path)


def settings_of(task: str) -> RunSettings:
    """Return the settings of a task's runs."""
    return _named(RUNS[task][0])


def run_of(task: str) -> TaskRun:
    """Return what makes runs of a task. ConfigError for one that is not trained on files."""
    if task not in RUNS:
        raise ConfigError(f"a model of task {task} is not trained on files, and nothing measures it on one.")
    return _named(RUNS[task][1])()


def run_of_model(model: Any) -> TaskRun:
    """Return what makes runs of a model's task."""
    return run_of(task_of(type(model.config)))


def run_named(name: Any) -> str:
    """Find the task of runs that a person names by what it is called or does. ConfigError if there is none."""
    if isinstance(name, str) and (name in VERBS or name in VERBS.values()):
        return VERBS.get(name, name)
    raise ConfigError(f"task must be one of {', '.join(VERBS)}, got {said(name)}.")


def verb_of(task: str) -> str:
    """Return what a person calls a task's runs."""
    return next(verb for verb, name in VERBS.items() if name == VARIANTS.get(task, task))


def verbs_having(name: str) -> list[str]:
    """Return what people call the tasks that have a setting."""
    return list(dict.fromkeys(verb_of(task) for task in RUNS if name in settings_of(task).names()))


def stored_run(facts: Mapping[str, Any]) -> TaskRun:
    """Find what made a stored run: the task that it names, or by its config one of those of format version 1.

    ConfigError if there is none.
    """
    if "task" in facts:
        if not isinstance(facts["task"], str) or facts["task"] not in RUNS:
            raise ConfigError(f"task must be one that is trained on files, got {said(facts['task'])}.")
        return run_of(facts["task"])
    fields = facts.get("model")
    return run_of(
        next(task for task in TEXT_MODELS if config_of(task).owns(fields if isinstance(fields, dict) else {}))
    )


def split_settings(
    settings: Mapping[str, Any], task: str = "language"
) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Split settings of a task into (the task, settings of reading, of the network, of the training, places).

    bidirectional=True makes the task "language" the task "masked". ConfigError for a name that the task does not have.
    """
    variant, asked = settings_of(task).variant(settings)
    task = variant or task
    parts = settings_of(task).split(asked)
    for name in parts.rest:
        if verbs := verbs_having(name):
            raise ConfigError(f"{name} is for task {' or '.join(verbs)}, not for {verb_of(task)}; leave it out.")
        raise no_setting(name, settings_of(task).names())
    return task, parts.reading, parts.network, parts.recipe, parts.places
