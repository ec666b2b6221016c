"""Sharing: how the ranks that train one model bring together what each has computed.

The exact form sums the gradients of all before every update, so that all hold the same parameters at any time. With
local updates (Stich 2019, "Local SGD converges fast and communicates little") each rank moves its own parameters by its
own texts, and every K updates all meet: parameters and moments become the mean of those of all ranks.

A rank's gradient is then that of its share of the mean loss, times the number of ranks, so that their mean is the
gradient of the mean loss. Hence K = 1 is the exact form wherever an update is linear in the gradient: for plain gradient
descent, with momentum too, unless a gradient is clipped.

What a rank has done since the last meeting is its own and in no file: a checkpoint holds what all had when they met, so a
run goes on from there, with any number of ranks, and makes those updates again.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from nblstm.config import Recipe
from nblstm.errors import ConfigError
from nblstm.training.extent import Extent
from nblstm.training.ranks import ALONE, ProcessGroup

if TYPE_CHECKING:
    from nblstm.training.trainer import Trainer


class Sharing:
    """The exact form. met: what all had at the last meeting, (tensors, facts); None: they never part."""

    met: tuple[dict[str, np.ndarray], dict[str, Any]] | None = None

    def __init__(self, ranks: ProcessGroup = ALONE, wire: str = "float32") -> None:
        self.ranks, self.wire = ranks, wire

    def combine(self, gradient: np.ndarray, extent: Extent) -> None:
        """Make a rank's gradient (num_parameters,), its share of that of the mean loss, the one that it moves along."""
        if self.ranks.size > 1:
            parts = extent.parts(gradient)
            for numbers in parts:
                (self.ranks.sum if self.wire == "float32" else self.ranks.sum_in_bfloat16)(numbers)
            extent.put(gradient, parts)

    def squares(self, squares: float) -> float:
        """Return the sum of squares of some numbers of all ranks: the same everywhere."""
        return squares

    def part(self, trainer: Trainer) -> bool:
        """Take note of an update; tell whether all have met after it, so that any parameter may have changed."""
        return False

    def meet(self, trainer: Trainer) -> None:
        """Let all ranks have the same parameters and moments."""

    def agree(self, trainer: Trainer) -> None:
        """Take what a trainer has now, which all ranks have alike, for what they had when they met."""


class LocalUpdates(Sharing):
    """Each rank moves by itself; all meet every so many updates, and before a validation."""

    def __init__(self, ranks: ProcessGroup, every: int) -> None:
        super().__init__(ranks)
        self.every, self._step = every, 0

    def combine(self, gradient: np.ndarray, extent: Extent) -> None:
        """Make the gradient that of the rank's own mean loss, where all ranks have as many targets."""
        gradient *= gradient.dtype.type(self.ranks.size)

    def squares(self, squares: float) -> float:
        """Return the mean over ranks."""
        return self.ranks.totals(squares)[0] / self.ranks.size

    def part(self, trainer: Trainer) -> bool:
        """Let all meet if it is time; tell whether they have."""
        if trainer.step % self.every:
            return False
        self.meet(trainer)
        return True

    def meet(self, trainer: Trainer) -> None:
        """Replace parameters and moments by their mean over the ranks, unless that is done."""
        if trainer.step != self._step:
            for numbers in (trainer.network.parameters, *trainer.optimizer.moments.values()):
                self.ranks.sum(numbers)
                numbers /= numbers.dtype.type(self.ranks.size)
            self.agree(trainer)

    def agree(self, trainer: Trainer) -> None:
        """Copy all that a checkpoint holds."""
        self._step = trainer.step
        self.met = (
            {name: array.copy() for name, array in trainer.live_tensors().items()},
            deepcopy(trainer.live_facts()),
        )


def sharing_of(ranks: ProcessGroup, config: Recipe) -> Sharing:
    """Return how these ranks share what they compute. ConfigError for a batch that has no text for each of them."""
    batch_size, sized = config.batch_size, getattr(config, "tokens_per_batch", None) is None
    if sized and batch_size < ranks.size:
        raise ConfigError(
            f"batch_size must be at least {ranks.size}, as so many processes share a batch, got {batch_size}; "
            "raise it, or start fewer processes."
        )
    if ranks.size > 1 and config.average_every is not None:
        return LocalUpdates(ranks, config.average_every)
    return Sharing(ranks, config.wire)
