"""Several processes that train one model: what a run asks of them before they begin."""

from __future__ import annotations

from nblstm.config import Recipe
from nblstm.errors import ConfigError, TextError, TrainingError
from nblstm.tasks.registry import verb_of
from nblstm.tasks.run import Material, TaskRun
from nblstm.text.token_file import fingerprint_of
from nblstm.training.ranks import ProcessGroup
from nblstm.training.trainer import Trainer


def check_divides(ranks: ProcessGroup, run: TaskRun, recipe: Recipe) -> None:
    """Raise ConfigError for what several processes cannot train together."""
    if ranks.size > 1 and not run.DIVIDES:
        raise ConfigError(f"task {verb_of(run.TASK)} trains in one process, got {ranks.size}; start one.")
    if ranks.size > 1 and recipe.device != "cpu":
        raise ConfigError(f"device must be cpu where several processes train together, got {recipe.device}.")


def join_ranks(ranks: ProcessGroup, material: Material, trainer: Trainer) -> None:
    """Let a trainer train together with those of other ranks. An error unless all have the same to do."""
    trainer.join(ranks)
    mine = material.fingerprint, fingerprint_of(trainer.network.parameters)
    text, weights = ranks.agree(mine)
    if text != mine[0]:
        raise TextError("the text is not the one that process 0 has read; give all processes the same files.")
    if weights != mine[1]:
        raise TrainingError(
            "the first weights are not those of process 0; give all processes the same model and version."
        )
