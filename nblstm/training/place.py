"""Where training stands, as a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm.config import Recipe
from nblstm.errors import TrainingError
from nblstm.files.fields import AMOUNT, COUNT, fault, optional
from nblstm.training import optimizers, schedules
from nblstm.training.report import BEST_MEASURES

TRAINING_PLACE = {  # where training stands, as it is stored
    **dict.fromkeys(("step", "epoch_number", "chunk_number", "tokens", "validated_step", "waited"), COUNT),
    "best_loss": optional(AMOUNT),
    "seconds": AMOUNT,
}


def check_facts(facts: dict[str, Any], config: Recipe) -> None:
    """Raise TrainingError unless `Trainer.facts` may have given these facts, in a run of this config."""
    broken = fault({"best_measures": {}, **facts}, {**TRAINING_PLACE, "best_measures": BEST_MEASURES})
    if broken:
        raise TrainingError(f"the checkpoint does not say where training stands: {broken}.")
    schedules.SCHEDULE_CLASSES[config.schedule].check_state(facts.get("schedule"), config)
    optimizers.OPTIMIZER_CLASSES[config.optimizer].check_state(facts.get("optimizer"), config)


def check_restorable(tensors: Mapping[str, np.ndarray], like: Mapping[str, Any]) -> None:
    """Raise TrainingError unless every array of `like` is there, of its shape and type; None stands for any."""
    for name, array in like.items():
        if name not in tensors:
            raise TrainingError(f"the checkpoint has no {name!r}; start the training anew.")
        if array is not None and (tensors[name].shape != array.shape or tensors[name].dtype != array.dtype):
            raise _misfit(name)


def check_states(states: Mapping[str, tuple[np.ndarray, np.ndarray]], texts: int) -> None:
    """Raise TrainingError unless states (layers, N, H), (found, expected but for N) by name, are of one N >= texts."""
    N = next(iter(states.values()))[0].shape[1:2]
    for name, (array, like) in states.items():
        fits = array.ndim == 3 and array.shape[1] >= texts and array.shape == (len(like), *N, like.shape[2])
        if not fits or array.dtype != like.dtype:
            raise _misfit(name)


def _misfit(name: str) -> TrainingError:
    return TrainingError(f"the checkpoint's {name} does not fit this model.")
