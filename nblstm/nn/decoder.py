"""Decoder: a network's weights made ready to go on token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nblstm.config import check_writes
from nblstm.kernels import Beam, Filters, Net, Places
from nblstm.nn.state import State

if TYPE_CHECKING:
    from nblstm.nn.network import Network


class Decoder:
    """A network's weights made ready to go on token by token with up to num_texts texts."""

    def __init__(self, network: Network, num_texts: int) -> None:
        c, weights = network.config, network.weights
        check_writes(c)
        net = Net(
            weights["embedding.weight"], c.cells, network.body.cell_weights, c.residual, c.head == "cell",
            weights["head.weight"], weights["head.bias"],
        )  # fmt: skip
        self.config, self.kernels, self.threads = c, network.kernels, network.threads
        self.work = self.kernels.decode_work(num_texts, net, self.threads)

    def __call__(self, tokens: np.ndarray, state: State, want_logits: bool = True) -> np.ndarray:
        """Read one token of each text: logits (N, V) of the next ones, (0, V) if they are not wanted.

        tokens (N,) int; state is overwritten with the one after them.
        """
        logits = np.empty((len(tokens) if want_logits else 0, self.config.vocab_size), self.config.dtype)
        self.kernels.decode(logits, state.h, state.c, state.top, np.asarray(tokens, np.int64), self.work, self.threads)
        return logits

    def generate(
        self, history: np.ndarray, length: int, state: State, logits: np.ndarray, uniform: np.ndarray,
        banned: np.ndarray, filters: Filters,
    ) -> None:  # fmt: skip
        """Draw and read K tokens of each text, to history[:, length : length + K]; see `kernels.reference.generate`.

        state and logits (N, V), those of the next token, are overwritten with the ones after the K tokens.
        """
        self.kernels.generate(
            history, length, state.h, state.c, state.top, logits, uniform, banned, filters, self.work, self.threads
        )

    def search(
        self, parents: np.ndarray, tokens: np.ndarray, start: int, places: Places, state: State, logits: np.ndarray,
        noise: np.ndarray, banned: np.ndarray, beam: Beam,
    ) -> int:  # fmt: skip
        """Take up to len(noise) steps of a beam search, and return how many; see `kernels.reference.search`."""
        return self.kernels.search(
            parents, tokens, start, places, state.h, state.c, state.top, logits, noise, banned, beam, self.work,
            self.threads,
        )  # fmt: skip
