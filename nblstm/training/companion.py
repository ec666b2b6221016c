"""Companion: what goes along with a trainer through every update, such as a teacher, or the masks of pruned weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nblstm.training.ranks import ProcessGroup
    from nblstm.training.trainer import Trainer


class Companion:
    """Base of companions, which does nothing. What it changes is a function of what `tensors` holds and of the trainer."""

    def join(self, ranks: ProcessGroup) -> None:
        """Go along with one rank of several."""

    def prepare(self, part: Any) -> Any:
        """Return a rank's part of a chunk, None without any, as the network shall learn it. It may be asked again."""
        return part

    def moved(self, trainer: Trainer) -> None:
        """Go along with an update, that of the chunk prepared last: signals are held back meanwhile."""

    def outranks(self, trainer: Trainer) -> bool:
        """Tell whether parameters that have been validated are better than the best ones, whatever their loss is."""
        return False

    def tensors(self, ranks: ProcessGroup) -> dict[str, np.ndarray]:
        """Return what a checkpoint needs beside the trainer's own."""
        return {}

    def restore(self, tensors: dict[str, np.ndarray], ranks: ProcessGroup, texts: int) -> None:
        """Go on where `tensors` were taken, with at least so many texts. TrainingError if they do not fit."""


class Companions(Companion):
    """All companions of a trainer, as one."""

    def __init__(self) -> None:
        self.each: list[Companion] = []

    def join(self, ranks: ProcessGroup) -> None:
        for companion in self.each:
            companion.join(ranks)

    def prepare(self, part: Any) -> Any:
        for companion in self.each:
            part = companion.prepare(part)
        return part

    def moved(self, trainer: Trainer) -> None:
        for companion in self.each:
            companion.moved(trainer)

    def outranks(self, trainer: Trainer) -> bool:
        return any(companion.outranks(trainer) for companion in self.each)

    def tensors(self, ranks: ProcessGroup) -> dict[str, np.ndarray]:
        return {name: array for companion in self.each for name, array in companion.tensors(ranks).items()}

    def restore(self, tensors: dict[str, np.ndarray], ranks: ProcessGroup, texts: int) -> None:
        for companion in self.each:
            companion.restore(tensors, ranks, texts)
