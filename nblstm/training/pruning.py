"""Pruning: weights that are small become zero in blocks, more and more of them while training goes on.

The share of zero blocks follows the cubic schedule of Zhu & Gupta 2017 (arXiv:1710.01878, eq. 1) over the first RAMP of the
training, the same share in each matrix; the rest of the training is for the weights that are left.

    s(t) = s_final (1 - (1 - t / RAMP)^3)

What is zero stays so, so a run's masks are the zeros of its parameters, and a checkpoint needs no others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nblstm.nn.network import Network
from nblstm.nn.parameters import views
from nblstm.nn.sparsity import count_blocks, magnitudes, prunable, rows_of_blocks, smallest
from nblstm.training.companion import Companion
from nblstm.training.ranks import ProcessGroup
from nblstm.training.trainer import Trainer

RAMP = 0.5  # of the progress of the training
PRUNE_STEPS = 10  # updates between two choices of what is zero


def sparsity_at(progress: float, sparsity: float) -> float:
    """Return the share of blocks that is to be zero at some progress in [0, 1] of the training."""
    return sparsity * (1 - (1 - min(1.0, progress / RAMP)) ** 3)


class Pruner(Companion):
    """Keeps zero what is zero of a network's recurrent weights, and makes more of it so.

    sparsity: the share of each matrix's blocks that is zero in the end, in [0, 1).
    """

    def __init__(self, network: Network, sparsity: float) -> None:
        self.config, self.sparsity = network.config, sparsity
        named = views(network.parameters, network.config)
        self.matrices = [named[name] for name in prunable(network.config)]
        self._masks: list[np.ndarray] | None = None  # True where a matrix is zero; None: not looked at yet

    def prepare(self, part: Any) -> Any:
        """Look at what is zero before the first update; the chunk stays as it is."""
        if self._masks is None:
            self._masks = [self._mask(matrix, self._magnitudes(matrix) == 0) for matrix in self.matrices]
        return part

    def moved(self, trainer: Trainer) -> None:
        """Make zero again what was so, and what is to be so from now on."""
        assert self._masks is not None  # an update was prepared
        share = sparsity_at(trainer.progress, self.sparsity)
        for number, (matrix, mask) in enumerate(zip(self.matrices, self._masks)):
            np.copyto(matrix, 0, where=mask)
            if trainer.step % PRUNE_STEPS == 0 or share == self.sparsity:
                self._masks[number] = self._pruned(matrix, mask, share)

    def _pruned(self, matrix: np.ndarray, mask: np.ndarray, share: float) -> np.ndarray:
        """Make so large a share of a matrix's blocks zero, if it is not; return the mask."""
        found = self._magnitudes(matrix)
        count = round(share * found.size)
        if count <= np.count_nonzero(found == 0):
            return mask
        mask = self._mask(matrix, smallest(found, count))
        np.copyto(matrix, 0, where=mask)
        return mask

    def _magnitudes(self, matrix: np.ndarray) -> np.ndarray:
        return magnitudes(matrix, self.config.hidden_size)

    def _mask(self, matrix: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        return rows_of_blocks(blocks, len(matrix), self.config.hidden_size)

    def outranks(self, trainer: Trainer) -> bool:
        """Tell whether more is zero than in the best weights so far, whose loss may be less for that alone."""
        now, best = (count_blocks(self.config, flat)[0] for flat in (trainer.network.parameters, trainer.best))
        return now > best

    def restore(self, tensors: dict[str, np.ndarray], ranks: ProcessGroup, texts: int) -> None:
        """Look again at what is zero, in the parameters that were restored."""
        self._masks = None
