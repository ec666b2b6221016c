"""The teacher of a run: a language model whose distributions another one learns (`nblstm.training.teaching`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nblstm import checks
from nblstm.config.training import DISTIL_TEMPERATURE, DISTIL_WEIGHT
from nblstm.errors import ConfigError, TrainingError
from nblstm.files.fields import OBJECT, STRING, fault, optional
from nblstm.tasks.registry import config_of, load, model_of, verb_of
from nblstm.training.teaching import TEACHER_STATES, teach
from nblstm.training.trainer import Trainer

STORED_TEACHER = {"path": optional(STRING), "fingerprint": STRING, "model": OBJECT}  # what a checkpoint says of it


def load_teacher(teacher: Any, task: str, output: Path | None = None) -> Any:
    """Return the model that is to teach, given itself or by its file; None for None. ConfigError where none can.

    output: that of a run that begins, which cannot be the file of its teacher.
    """
    if teacher is None:
        return None
    if task != "language":
        raise ConfigError(
            f"teacher is for language models that read from left to right, not for task {verb_of(task)}"
            f"{', bidirectional' * (task == 'masked')}; leave it out."
        )
    if isinstance(teacher, model_of("language")):
        return teacher
    path = checks.path("teacher", teacher)
    if output is not None and os.path.realpath(path) == os.path.realpath(output):
        raise ConfigError(f"the run would write to {output}, its teacher; choose another output.")
    return load(path, ["language"])


def distilling(recipe: Any, shape: Any, teacher: Any, grows: bool) -> Any:
    """Return the recipe with the settings of learning from a teacher (None: without any).

    ConfigError for settings that exclude each other. shape: a draft of the student's config. grows: whether its
    vocabulary is to have more tokens than a model's.
    """
    if teacher is None:
        for name in ("distil_temperature", "distil_weight"):
            if getattr(recipe, name, None) is not None:
                raise ConfigError(f"{name} needs a teacher; name one, or leave it out.")
        return recipe
    if grows:
        raise ConfigError(
            "extend_vocabulary is not for a run with a teacher, which knows no other tokens; leave it out."
        )
    if shape.head == "adaptive":
        raise ConfigError("head adaptive never computes all tokens, of which a teacher speaks; choose head linear.")
    if recipe.label_smoothing:
        raise ConfigError("label_smoothing is not for a run with a teacher, which is smooth itself; leave it out.")
    if recipe.device != "cpu":
        raise ConfigError(f"device must be cpu in a run with a teacher, got {recipe.device}.")
    temperature = DISTIL_TEMPERATURE if recipe.distil_temperature is None else recipe.distil_temperature
    weight = DISTIL_WEIGHT if recipe.distil_weight is None else recipe.distil_weight
    return replace(recipe, distil_temperature=temperature, distil_weight=weight)


def start_teaching(trainer: Trainer, teacher: Any, vocabulary: Any) -> None:
    """Let a model teach a trainer's network; None does not. ConfigError unless both have one vocabulary."""
    if teacher is None:
        return
    if teacher.vocabulary.to_dict() != vocabulary.to_dict():
        raise ConfigError(
            f"the teacher's vocabulary of {len(teacher.vocabulary):,} tokens is not the one of {len(vocabulary):,} that is "
            "trained on; choose a teacher that has it."
        )
    teach(trainer, teacher.network("cpu", trainer.config.threads))


def teacher_facts(teacher: Any, given: Any) -> dict[str, Any]:
    """Return what a checkpoint says of the teacher of a run. given: what `load_teacher` was given."""
    if teacher is None:
        return {}
    path = None if teacher is given else os.path.abspath(checks.path("teacher", given))
    return {"teacher": {"path": path, "fingerprint": teacher.fingerprint, "model": teacher.config.to_dict()}}


def stored_teacher(facts: Mapping[str, Any], given: Any, task: str) -> Any:
    """Return the teacher of a stored run, None without any. given: where it is now, or itself; None: where it was.

    ConfigError or TrainingError if it is another one.
    """
    stored = facts.get("teacher")
    if stored is None:
        if given is not None:
            raise ConfigError("the run has no teacher, and gets none when it goes on; leave teacher out.")
        return None
    if given is None and stored["path"] is None:
        raise ConfigError("the run's teacher was given in memory; give it as teacher again.")
    teacher = load_teacher(stored["path"] if given is None else given, task)
    if teacher.fingerprint != stored["fingerprint"]:
        raise TrainingError("the teacher is not the one that this run was started with; name that one as teacher.")
    return teacher


def stored_teacher_fault(facts: Mapping[str, Any]) -> str | None:
    """Say what is wrong with what a checkpoint says of a teacher; None if nothing is."""
    return None if facts.get("teacher") is None else fault(facts["teacher"], STORED_TEACHER)


def teacher_shapes(facts: Mapping[str, Any], texts: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return name -> (shape, dtype) of the tensors that a checkpoint holds of a teacher. ConfigError for none such."""
    if facts.get("teacher") is None:
        return {}
    config: Any = config_of("language").from_dict(facts["teacher"]["model"])
    cell, layers = config.cells[0], len(config.cells)
    sizes = cell.output_size, cell.memory_size
    return {name: ((layers, texts, size), config.dtype) for name, size in zip(TEACHER_STATES, sizes)}
