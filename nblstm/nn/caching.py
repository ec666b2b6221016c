"""CacheHead: a head with a neural cache, which remembers what has been read (Grave et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np

from nblstm.config.caching import CacheConfig
from nblstm.errors import ConfigError
from nblstm.kernels import NeuralCache
from nblstm.nn.heads import Head
from nblstm.nn.parameters import Gradients
from nblstm.nn.tape import Tape
from nblstm.nn.workspace import Workspace

ROWS_COMPARED = 256  # rows whose likeness to the cache is computed at once


class CacheHead(Head):
    """Another head, in whose losses a neural cache has its share: `nblstm.kernels.reference.cache`.

    head: one that predicts tokens; its gradient is that of its own loss. What comes out of `losses` is a function of all
    that it was asked about before. For one text at a time, and one thread.
    """

    def __init__(self, head: Head, how: CacheConfig) -> None:
        self.head, self.config, self.how = head, head.config, how
        self.weight, self.bias = head.weight, head.bias
        self._features = np.empty((0, self.config.head_size), self.config.dtype)  # (S, F): of the positions remembered
        self._targets = np.empty(0, np.int32)  # (S,): the tokens that followed

    def checked(self, targets: np.ndarray, rows: int) -> np.ndarray:
        """Return the targets of so many rows, as the kernels read them. ConfigError if they are not of this head."""
        return self.head.checked(targets, rows)

    def outputs(self, scratch: Workspace, x: np.ndarray) -> np.ndarray:
        """Return what the head gives without its cache (M, V)."""
        return self.head.outputs(scratch, x)

    def loss_and_gradient(self, tape: Tape, grads: Gradients, chunk: Any) -> tuple[float, np.ndarray]:
        """Return the mean loss of a chunk without the cache, and its gradient; see `Head`."""
        return self.head.loss_and_gradient(tape, grads, chunk)

    def losses(self, tape: Tape, targets: np.ndarray) -> np.ndarray:
        """Return -log p(target) (M,), and remember the rows. ConfigError for several texts."""
        if len(tape.offsets) != len(targets) + 1:
            raise ConfigError("a network with a cache must have one text at a time.")
        losses, features = self.head.losses(tape, targets), tape.backend.kernels.host(tape.features)
        for start in range(0, len(targets), ROWS_COMPARED):
            rows = slice(start, start + ROWS_COMPARED)
            self._add_share(tape, losses[rows], features[rows], targets[rows])
        return losses

    def _add_share(self, tape: Tape, losses: np.ndarray, features: np.ndarray, targets: np.ndarray) -> None:
        """Let the cache have its share in the losses (M,) of rows, which it then remembers."""
        kernels, threads, dtype, _ = tape.backend
        known, tokens = np.concatenate([self._features, features]), np.concatenate([self._targets, targets])
        M, F, positions = *features.shape, len(known)
        similarity, work = kernels.empty((M, positions), dtype), kernels.linear_work(M, F, positions, dtype, threads)
        rows = np.ascontiguousarray(features)
        kernels.linear_forward(similarity, work, rows, known, np.zeros(positions, dtype), threads)
        kernels.cache_losses(losses, similarity, tokens, NeuralCache(**self.how.to_dict()), threads)
        self._features, self._targets = known[-self.how.size :], tokens[-self.how.size :]
