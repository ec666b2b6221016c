"""MaskedNetwork: a network that reads in both directions, and predicts masked tokens.

Reading both ways it sees the token that follows, so it cannot be trained to predict that. Instead some tokens of a
chunk are read as MASK, and those are predicted (Devlin et al. 2019, section 3.1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nblstm.kernels.packed import indices
from nblstm.nn.network import Network
from nblstm.nn.noise import MASKED, Noise
from nblstm.nn.state import State

MASK = 0  # the id that is read for a masked token: <unk>'s
SPAN = 256  # tokens that are looked at together, at most
SIDE_BY_SIDE = 2048  # tokens of a text's copies, each with other tokens masked, that are read at once


class MaskedNetwork(Network):
    """As `Network`, but losses are those of masked tokens. A chunk's targets are read, its tokens are not."""

    span = SPAN

    def loss_and_gradient(
        self, gradient: np.ndarray, chunk: Any, state: State, seed: int, step: int, cleared: bool = False
    ) -> tuple[float, State]:
        """Compute as `Network.loss_and_gradient` does, the loss of this update's masked tokens, config.mask_fraction."""
        noise = Noise(self.kernels, seed, step, self.threads)
        masked = noise.factors((len(chunk.targets),), np.dtype("float32"), 1 - self.config.mask_fraction, MASKED) > 0
        masked[step % len(masked)] = True  # at least one
        return super().loss_and_gradient(gradient, mask_chunk(chunk, masked), state, seed, step, cleared)

    def losses(self, chunk: Any, state: State) -> tuple[np.ndarray, State]:
        """Return -log p of every token of a chunk (M,) where it is masked, and the state after the chunk, unmasked.

        Their sum is the pseudo-log-likelihood of Salazar et al. 2020. Each k-th token of a text is masked at a time,
        k = config.masked_passes, so k copies of the chunk are read, as texts of their own: copy j of its row r is row
        r C + j of C copies.
        """
        state = self.body.carried(state)
        M, steps = len(chunk.targets), np.diff(chunk.offsets)
        losses, passes = np.empty(M, self.config.dtype), self.config.masked_passes
        masked_in, copies = (
            np.repeat(np.arange(len(steps)), indices(steps)) % passes,
            np.arange(min(passes, len(steps))),
        )
        for part in np.array_split(copies, -(-len(copies) // max(1, SIDE_BY_SIDE // M))):
            C = len(part)
            several = replace(chunk, targets=np.repeat(chunk.targets, C), offsets=chunk.offsets * C, weights=None)
            several = mask_chunk(several, np.repeat(masked_in, C) == np.tile(part, M))
            rows = np.flatnonzero((part[0] <= masked_in) & (masked_in <= part[-1]))
            asked = rows * C + masked_in[rows] - part[0]
            before = state.take(np.repeat(np.arange(chunk.num_texts), C))
            losses[rows] = self.losses_of(asked, several, before)
        return losses, self.read(mask_chunk(chunk, np.zeros(M, bool)), state)


def mask_chunk(chunk: Any, masked: np.ndarray) -> Any:
    """Mask a chunk: its targets are read where they are not masked (M,), and count where they are."""
    weights = masked if chunk.weights is None else masked * chunk.weights
    return replace(chunk, tokens=np.where(masked, MASK, chunk.targets).astype(np.int32), weights=weights)
