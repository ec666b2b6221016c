"""What is asked of a run: where its texts are, and what may change when it goes on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nblstm.errors import ConfigError, TextError
from nblstm.tasks.registry import verb_of
from nblstm.tasks.run import TaskRun
from nblstm.text.demo import DEMO
from nblstm.text.sources import STDIN

LIMITS = ("epochs", "steps", "minutes")
RESUMABLE = (
    *LIMITS,
    "patience",
    "valid_every",
    "on_divergence",
    "threads",
    "device",
    "precision",
    "wire",
    "keep_statistics",
)  # what may differ when a run goes on


@contextmanager
def where_it_was(moved: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Let the error of a text that cannot be read again tell the way out, unless `moved` names where the texts are now."""
    try:
        yield
    except TextError as error:
        if any(moved.values()):
            raise
        raise TextError(f"{str(error).rstrip('.')}; if the run's text has moved, name where it is now.") from None


def absolute_places(places: Mapping[str, Sequence[str]], run: TaskRun) -> dict[str, list[str]]:
    """Return the absolute paths of every place of a task. ConfigError for an empty path, or a place it does not have."""
    for name, paths in places.items():
        if "" in paths:
            raise ConfigError("a path must not be empty; name a file or a folder.")
        if paths and name not in run.SETTINGS.places:
            raise ConfigError(f"{name} is nothing that task {verb_of(run.TASK)} reads; leave it out.")
    return {
        name: [path if path in (STDIN, DEMO) else os.path.abspath(path) for path in places.get(name, ())]
        for name in run.SETTINGS.places
    }


def base_name(path: str) -> str:
    """Return the name of a file by which people know it."""
    return path if path == DEMO else os.path.basename(path)


def check_task(run: TaskRun, task: str | None) -> None:
    """Raise ConfigError for a task that is not that of the run."""
    if task is not None and verb_of(run.TASK) != verb_of(task):
        raise ConfigError(f"task of the run is {verb_of(run.TASK)}, got {verb_of(task)}; leave task out.")


def kept_shape(config: Any, asked: Mapping[str, Any]) -> Any:
    """Return the config of a model that training starts from, with the dropouts that are asked for; ConfigError for others."""
    for name in asked:
        if not name.endswith("dropout"):
            raise ConfigError(f"{name} comes from the model that training starts from; leave it out.")
    return dataclasses.replace(config, **asked)


def changed_recipe(config: Any, changes: dict[str, Any], others: Mapping[str, Any], asked: Mapping[str, Any]) -> Any:
    """Return the stored recipe with the limits asked for now: a new limit replaces all old ones.

    others: the run's settings of reading and of the network. asked: what was asked for where the recipe was fitted.
    """
    stored = {**others, **config.to_dict()}
    resumable = [name for name in RESUMABLE if name in config.names()]
    for name, value in changes.items():
        if name not in resumable and value not in (stored.get(name), asked.get(name)):
            raise ConfigError(
                f"{name} is part of the run and stays {stored.get(name)} when it goes on, got {value}; "
                f"what can change is {', '.join(resumable)}."
            )
    changes = {name: value for name, value in changes.items() if name in resumable}
    if any(name in changes for name in LIMITS):
        changes = {**dict.fromkeys(LIMITS), **changes}
    return dataclasses.replace(config, **changes)
