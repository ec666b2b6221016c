"""Where training stands, as a checkpoint holds it."""

from __future__ import annotations

from typing import Any

from nblstm.config import Recipe
from nblstm.errors import TrainingError
from nblstm.files.fields import AMOUNT, COUNT, fault, optional
from nblstm.training import optimizers, schedules
from nblstm.training.report import BEST_MEASURES

TRAINING_PLACE = {  # where training stands, as it is stored
    **dict.fromkeys(("step", "epoch_number", "chunk_number", "tokens", "validated_step", "waited"), COUNT),
    "best_loss": optional(AMOUNT), "seconds": AMOUNT,
}  # fmt: skip


def check_facts(facts: dict[str, Any], config: Recipe) -> None:
    """Raise TrainingError unless `Trainer.facts` may have given these facts, in a run of this config."""
    broken = fault({"best_measures": {}, **facts}, {**TRAINING_PLACE, "best_measures": BEST_MEASURES})
    if broken:
        raise TrainingError(f"the checkpoint does not say where training stands: {broken}.")
    schedules.SCHEDULE_CLASSES[config.schedule].check_state(facts.get("schedule"), config)
    optimizers.OPTIMIZER_CLASSES[config.optimizer].check_state(facts.get("optimizer"), config)
