"""Heads: the last part of a network. A softmax over tokens, or numbers with a squared error; `crf.py` has one more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.kernels import CrossEntropy
from nblstm.nn.parameters import Gradients
from nblstm.nn.tape import Tape
from nblstm.nn.workspace import Workspace


class Head(ABC):
    """y = W x + b and a loss, of the body's features x (M, F)."""

    in_clusters = False  # whether decoders look into clusters of tokens, see `nblstm.nn.adaptive`

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config, self.weight, self.bias = config, weights["head.weight"], weights["head.bias"]

    @abstractmethod
    def checked(self, targets: np.ndarray, rows: int) -> np.ndarray:
        """Return the targets of so many rows, as the kernels read them. ConfigError if they are not of this head."""

    def outputs(self, scratch: Workspace, x: np.ndarray) -> np.ndarray:
        """Return y (M, V), an array of its own."""
        c, (kernels, threads, _, _) = self.config, scratch.backend
        y, work = np.empty((len(x), c.num_outputs), c.dtype), self._work(scratch, kernels.linear_work, len(x))
        kernels.linear_forward(y, work, x, self.weight, self.bias, threads)
        return y

    @abstractmethod
    def losses(self, tape: Tape, targets: np.ndarray) -> np.ndarray:
        """Return the loss of every row (M,) of tape.features, in an array of its own."""

    @abstractmethod
    def loss_and_gradient(self, tape: Tape, grads: Gradients, chunk: Any) -> tuple[float, np.ndarray]:
        """Return the mean loss of a chunk, weighted by chunk.weights, and its gradient with respect to tape.features.

        That of the head's own parameters is added to grads. Of a part of a chunk both are its share in those of the whole.
        """

    def _work(self, scratch: Workspace, kernel: Any, rows: int) -> Any:
        """Return the work of one of the head's kernels."""
        c, threads = self.config, scratch.backend.threads
        return scratch.work(kernel.__name__, lambda M: kernel(M, c.head_size, c.num_outputs, c.dtype, threads), rows)


class RowHead(Head):
    """A head whose rows have losses that do not depend on each other."""

    def total(self, chunk: Any) -> float:
        """Add up how much the targets of a chunk count in its mean loss."""
        weights = np.ones(len(chunk.targets)) if chunk.weights is None else chunk.weights
        return float(self._counted(weights, chunk.targets).sum(dtype=np.float64))

    def loss_and_gradient(self, tape: Tape, grads: Gradients, chunk: Any) -> tuple[float, np.ndarray]:
        """Return the mean loss of a chunk, and its gradient; see `Head`."""
        x, (kernels, threads, dtype, _) = tape.features, tape.backend
        if chunk.weights is None:
            return self._of_rows(tape.scratch, grads, x, chunk.targets, np.ones(len(x), dtype), chunk.total)
        rows = np.flatnonzero(chunk.weights)  # the others add nothing
        some, dx = tape.scratch.array("rows of x", len(rows), x.shape[1]), tape.scratch.array("dx of rows", *x.shape)
        kernels.embedding_forward(some, rows, x, threads)
        weights = chunk.weights[rows].astype(dtype)
        loss, d = self._of_rows(tape.scratch, grads, some, chunk.targets[rows], weights, chunk.total)
        kernels.clear(dx.reshape(dx.size), threads)
        kernels.embedding_backward(dx, d, rows, threads)
        return loss, dx

    def _of_rows(self, scratch: Workspace, grads: Gradients, x, targets, weights, total) -> tuple[float, np.ndarray]:
        """Return the mean loss of x (M, F) and its targets (M,), weighted by (M,), and the gradient of x.

        total: what weights are divided by; None for their sum.
        """
        dtype = scratch.backend.dtype
        total = float(self._counted(weights, targets).sum(dtype=np.float64)) if total is None else total
        scales = weights / total if total > 0 else np.zeros_like(weights)  # where no target counts, nothing is learnt
        losses, dx = scratch.array("losses", len(x)), scratch.array("dx of head", len(x), x.shape[1])
        self._losses_and_gradient(scratch, losses, dx, grads, x, targets, scales.astype(dtype))
        losses = scratch.backend.kernels.host(losses)
        return float(np.dot(losses.astype(np.float64), scales.astype(np.float64))), dx

    def _counted(self, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return the weight of each row in the mean, (M,)."""
        return weights

    @abstractmethod
    def _losses_and_gradient(self, scratch: Workspace, losses, dx, grads: Gradients, x, targets, scales) -> None:
        """Return losses (M,); the gradient of sum(scales * losses) overwrites dx and is added to the head's own."""


class SoftmaxHead(RowHead):
    """-log softmax(y)[target], in nats.

    classes (V,): weights of the targets' classes, or None (weighted cross-entropy, the article's eq. 9). smoothing:
    label smoothing (Szegedy et al. 2016, section 7). Both are for training alone.
    """

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__(config, weights)
        self.classes: np.ndarray | None = None
        self.smoothing = 0.0

    def checked(self, targets: np.ndarray, rows: int) -> np.ndarray:
        """Return the ids (M,) int32. ConfigError for others."""
        return checks.ids("chunk.targets", targets, self.config.num_outputs, (rows,), np.int32)

    def losses(self, tape: Tape, targets: np.ndarray) -> np.ndarray:
        """Return -log p(target) (M,)."""
        if tape.reader is not None:
            return tape.reader.losses(tape, targets)
        x, (kernels, threads, _, _) = tape.features, tape.backend
        losses, work = np.empty(len(x), self.config.dtype), self._work(tape.scratch, kernels.softmax_work, len(x))
        kernels.softmax_losses(losses, work, x, targets, self.weight, self.bias, threads)
        return losses

    def _counted(self, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return weights if self.classes is None else weights * self.classes[targets]

    def _losses_and_gradient(self, scratch: Workspace, losses, dx, grads: Gradients, x, targets, scales) -> None:
        kernels = scratch.backend.kernels
        work = self._work(scratch, kernels.softmax_gradient_work, len(x))
        kernels.softmax_losses_and_gradient(
            losses, dx, grads["head.weight"], grads["head.bias"], work, x,
            CrossEntropy(targets, scales, self.classes, self.smoothing), self.weight, self.bias, scratch.backend.threads,
        )  # fmt: skip


class SquaredErrorHead(RowHead):
    """The mean of (y - target)^2 over a row's numbers; targets (M, K)."""

    def checked(self, targets: np.ndarray, rows: int) -> np.ndarray:
        """Return the numbers (M, K). ConfigError for another shape or dtype."""
        return checks.in_form("chunk.targets", targets, (rows, self.config.num_outputs), self.config.dtype)

    def losses(self, tape: Tape, targets: np.ndarray) -> np.ndarray:
        """Return the mean squared error of every row (M,)."""
        y, (kernels, threads, dtype, _) = self.outputs(tape.scratch, tape.features), tape.backend
        losses = np.empty(len(y), dtype)
        kernels.squared_error(losses, y, y, targets, np.zeros_like(losses), threads)
        return losses

    def _losses_and_gradient(self, scratch: Workspace, losses, dx, grads: Gradients, x, targets, scales) -> None:
        kernels, threads = scratch.backend.kernels, scratch.backend.threads
        work, y = self._work(scratch, kernels.linear_work, len(x)), scratch.array("predicted", *targets.shape)
        kernels.linear_forward(y, work, x, self.weight, self.bias, threads)
        kernels.squared_error(losses, y, y, targets, scales, threads)
        kernels.linear_backward(dx, grads["head.weight"], grads["head.bias"], y, work, x, self.weight, threads)


def softmax_head(config: Any, weights: Mapping[str, np.ndarray]) -> Head:
    """Make the head of a network that predicts tokens, as its config says."""
    if config.head != "adaptive":
        return SoftmaxHead(config, weights)
    from nblstm.nn.adaptive import AdaptiveHead  # what other heads need not import

    return AdaptiveHead(config, weights)
