"""SeriesNetwork: the same layers between real numbers, read as they are and predicted with a squared error."""

from __future__ import annotations

from typing import Any

import numpy as np

from nblstm import checks
from nblstm.model.network import Network, Pass
from nblstm.model.noise import INPUT, Noise
from nblstm.model.state import State
from nblstm.model.workspace import Workspace


class SeriesNetwork(Network):
    """A Network, made from a SeriesConfig, that reads D numbers at a step and predicts K.

    What is said of tokens holds for numbers: a chunk's tokens are (M, D), its targets (M, K), both of config.dtype, and
    a loss is the mean squared error of a row. Nothing is hidden from a bidirectional one: its targets are not what it
    reads.
    """

    def _asked(self, chunk: Any, noise: Noise, step: int) -> Any:
        return chunk

    def _is_in_place(self, noise: Noise | None) -> bool:
        return True

    def _inputs(self, run: Pass, in_place: bool) -> tuple[np.ndarray, None]:
        """The numbers themselves, with noise in training."""
        x = run.space.array("x", *run.tokens.shape)
        x[...] = run.tokens
        return self._noise_behind(run, x, self.config.input_dropout, INPUT, into=x), None

    def _inputs_backward(self, run: Pass, grads: dict[str, np.ndarray], dx: np.ndarray) -> None:
        """Nothing in front of the layers is trained."""

    def _losses_and_gradient(self, space: Workspace, losses, dtop, grads, top, targets, scales) -> None:
        weight, bias, threads = self.weights["head.weight"], self.weights["head.bias"], self.threads
        work, y = self._head_work(space, self.kernels.linear_work, len(top)), space.array("predicted", *targets.shape)
        self.kernels.linear_forward(y, work, top, weight, bias, threads)
        self.kernels.squared_error(losses, y, y, targets, scales, threads)
        self.kernels.linear_backward(dtop, grads["head.weight"], grads["head.bias"], y, work, top, weight, threads)

    def _checked_rows(self, chunk: Any) -> tuple[np.ndarray, np.ndarray]:
        c, M = self.config, len(chunk.tokens)
        tokens = checks.in_form("chunk.tokens", chunk.tokens, (M, c.embedding_size), c.dtype)
        return tokens, checks.in_form("chunk.targets", chunk.targets, (M, c.vocab_size), c.dtype)

    def losses(self, chunk: Any, state: State) -> tuple[np.ndarray, State]:
        """The mean squared error of every row of a chunk that counts, those of weight 0 left out; the state after."""
        y, state = self.predictions(chunk, state)
        losses = np.empty(len(y), self.config.dtype)
        self.kernels.squared_error(losses, y, y, chunk.targets, np.zeros_like(losses), self.threads)
        return losses if chunk.weights is None else losses[chunk.weights > 0], state

    def predictions(self, chunk: Any, state: State) -> tuple[np.ndarray, State]:
        """What is predicted at every row of a chunk, (M, K), and the state after it."""
        chunk, state = self._checked(chunk, state)
        with checks.quiet(), self._spaces.lend() as space:
            run = self._forward(space, "reading", chunk, state, None)
            return self.logits(run.top), run.after
