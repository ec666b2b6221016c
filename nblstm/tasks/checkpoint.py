"""The checkpoint of a run, read: every field has its type and range here, and every tensor the size that they call for.

All of it is checked before a tensor is read and before anything is made of the sizes that a file claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nblstm.config import Recipe
from nblstm.errors import ConfigError, ModelFileError, TrainingError
from nblstm.files.fields import AMOUNT, COUNT, OBJECT, STRING, STRINGS, fault, optional
from nblstm.files.model_file import check_tensors, load_checkpoint
from nblstm.files.safetensors import Entry
from nblstm.tasks.registry import stored_run
from nblstm.tasks.run import TaskRun
from nblstm.tasks.teachers import stored_teacher_fault, teacher_shapes
from nblstm.training import optimizers
from nblstm.training.place import check_facts

RUN = {
    "text": OBJECT, "asked": OBJECT, "fingerprint": STRING, "model": OBJECT, "config": OBJECT, "trainer": OBJECT,
    "rollbacks": COUNT, "teacher": optional(OBJECT),
}  # fmt: skip
NEVER_DIVERGED = {"rollbacks": 0, "teacher": None}, {"lr": 0.0}  # what may not be there, of RUN and of what was asked


def read_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the tensors and the facts of a run. ModelFileError says which of them is not as training writes it."""

    def check(facts: dict[str, Any], entries: Mapping[str, Entry]) -> None:
        run = _run(facts, path)
        try:
            model, train = _configs(run, facts)
            check_facts(facts["trainer"], train)
            teachers = teacher_shapes(facts, _texts(entries, "teacher.state.h"))
        except (ConfigError, ModelFileError, TrainingError) as error:
            raise ModelFileError(f"{path} is damaged: {error}") from None
        _check_entries(entries, run, model, train, teachers, path)

    return load_checkpoint(path, check)


def _run(facts: dict[str, Any], path: Path) -> TaskRun:
    """Find the run that is stored. ModelFileError unless the fields that it has are of the types that they must be."""
    try:
        run = stored_run(facts)
    except ConfigError as error:
        raise ModelFileError(f"{path} is damaged: {error}") from None
    never, unasked = NEVER_DIVERGED
    rules = {**dict.fromkeys(run.SETTINGS.places, STRINGS), **RUN, **run.STORED}
    asked = {**dict.fromkeys(run.FITTED, COUNT), "lr": AMOUNT}
    later: dict[str, list[str]] = {place: [] for place in run.SETTINGS.places[2:]}  # than the first versions
    broken = fault({**later, **never, **facts}, rules) or fault({**unasked, **facts["asked"]}, asked)
    broken = broken or stored_teacher_fault(facts)
    if broken:
        raise ModelFileError(f"{path} is damaged: {broken}; start the run anew.")
    return run


def _configs(run: TaskRun, facts: dict[str, Any]) -> tuple[Any, Recipe]:
    """Make the configs of the network and of its training. An error unless they fit what was read."""
    settings = run.SETTINGS
    model, train = settings.network.from_dict(facts["model"]), settings.recipe.from_dict(facts["config"])
    run.check_known(run.known(facts), model, settings.reading.from_dict(facts["text"]), train)
    return model, train


def _texts(entries: Mapping[str, Entry], name: str) -> int:
    """Return the number of texts of a carried state."""
    state = entries.get(name)
    return state.shape[1] if state is not None and len(state.shape) == 3 else 1


def _check_entries(
    entries: Mapping[str, Entry], run: TaskRun, model: Any, train: Recipe, teachers: Mapping[str, Any], path: Path
) -> None:
    """Raise ModelFileError unless the tensors are those of this network, optimizer and some carried state.

    teachers: (shape, dtype) of those of a teacher, by name.
    """
    flat = (model.num_parameters,)
    moments = [f"optimizer.{name}" for name in optimizers.OPTIMIZER_CLASSES[train.optimizer].names]
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(["parameters", "best.parameters", *moments], flat)
    shapes |= run.state_shapes(model, _texts(entries, "state.h"))
    dtypes = {**dict.fromkeys(shapes, model.dtype), **{name: dtype for name, (_, dtype) in teachers.items()}}
    check_tensors(entries, {**shapes, **{name: shape for name, (shape, _) in teachers.items()}}, path)
    for name, entry in entries.items():
        if entry.dtype != dtypes[name]:
            raise ModelFileError(f"{path}: tensor {name!r} must be {dtypes[name]} by its config, got {entry.dtype}.")
