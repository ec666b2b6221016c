"""DistilledHead: the softmax of a network that learns what a teacher says, beside its targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm.kernels import LOGITS_BYTES, Lesson
from nblstm.nn.heads import SoftmaxHead
from nblstm.nn.network import Network
from nblstm.nn.parameters import Gradients
from nblstm.nn.tape import Tape


class DistilledHead(SoftmaxHead):
    """A softmax whose loss in training is `kernels.reference.distillation`; chunks bring the teacher's features.

    teacher: a network of the same tokens, of any shape. temperature above 0; weight in [0, 1], of the teacher's share.
    classes as in `SoftmaxHead`; there is no label smoothing.
    """

    def __init__(
        self, config: Any, weights: Mapping[str, np.ndarray], teacher: Network, temperature: float, weight: float
    ) -> None:
        super().__init__(config, weights)
        self.teacher, self.temperature, self.share = teacher, temperature, weight

    def loss_and_gradient(self, tape: Tape, grads: Gradients, chunk: Any) -> tuple[float, np.ndarray]:
        """Return the mean loss of a chunk, and its gradient; see `Head`. chunk.taught: the teacher's features (M, F)."""
        x, targets, (kernels, threads, dtype, _) = tape.features, chunk.targets, tape.backend
        total = self.total(chunk) if chunk.total is None else chunk.total
        weights = self._counted(np.ones(len(x)) if chunk.weights is None else chunk.weights, targets)
        scales = (weights / total if total > 0 else np.zeros_like(weights)).astype(dtype)
        losses, dx = tape.scratch.array("losses", len(x)), tape.scratch.array("dx of head", *x.shape)
        turn = max(1, LOGITS_BYTES // (self.config.num_outputs * dtype.itemsize))
        for start in range(0, len(x), turn):
            rows = slice(start, start + turn)
            taught = self.teacher.logits(chunk.taught[rows]).astype(dtype, copy=False)
            lesson = Lesson(targets[rows], scales[rows], taught, self.temperature, self.share)
            work = self._work(tape.scratch, kernels.linear_work, min(turn, len(x)))
            y = tape.scratch.array("logits", len(taught), self.config.num_outputs)
            kernels.linear_forward(y, work, x[rows], self.weight, self.bias, threads)
            kernels.distillation(losses[rows], y, y, lesson, threads)
            kernels.linear_backward(
                dx[rows], grads["head.weight"], grads["head.bias"], y, work, x[rows], self.weight, threads
            )
        return float(np.dot(losses.astype(np.float64), scales.astype(np.float64))), dx
