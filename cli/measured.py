"""nblstm eval of models that have measures of their own, such as accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nblstm.cli.options import echo_json
from nblstm.cli.shown import say, shown

from nblstm.errors import ConfigError
from nblstm.tasks.registry import run_of_model, verb_of


def measured(
    files: Sequence[str], targets: Sequence[str], models: Sequence[tuple[str, Any]], settings: Mapping[str, Any], json: bool,
    encoding: str, **how: Any,
) -> None:  # fmt: skip
    """Print the measures of models of one task, (path, model), on each file.

    targets: none, or one beside each file. settings: of how the task reads files. how: what computes, and what ASKED has.
    """
    runs = [run_of_model(model) for _, model in models]
    if len({run.TASK for run in runs}) > 1:
        raise ConfigError("models of different tasks have no common measure; name those of one task.")
    run = runs[0]
    parts = run.SETTINGS.split({"encoding": encoding, **settings})
    for name in parts.rest:
        raise ConfigError(f"{name} is nothing that a model of task {verb_of(run.TASK)} reads by; leave it out.")
    refuse({name: value for name, value in how.items() if name not in ("backend", "threads", *run.ASKED)})
    if targets and "target" not in run.SETTINGS.places:
        refuse({"target": targets})
    rows = []
    for file, places in zip(files, _places(files, targets)):
        for path, model in models:
            found = run.evaluate(model, places, run.SETTINGS.reading(**parts.reading), **how)
            rows.append({"model": path, "file": file, **found.facts})
            if not json:
                several = len(files) * len(models) > 1
                for line in [f"{path} on {file}"] * several + found.lines + [""] * several:
                    say(shown(line))
    if json:
        echo_json({"task": verb_of(run.TASK), "files": rows})


def _places(files: Sequence[str], targets: Sequence[str]) -> list[dict[str, list[str]]]:
    """Return what is read of each file. ConfigError unless there are as many targets, or none."""
    if not targets:
        return [{"corpus": [file]} for file in files]
    if len(targets) != len(files):
        raise ConfigError(f"--target must stand once for each FILE, got {len(targets)} for {len(files)}.")
    return [{"source": [file], "target": [target]} for file, target in zip(files, targets)]


def refuse(asked: Mapping[str, Any]) -> None:
    """Raise ConfigError for an option that these models do not have."""
    for name, value in asked.items():
        if value is not None:
            raise ConfigError(f"--{name.replace('_', '-')} is not for models of this task; leave it out.")
