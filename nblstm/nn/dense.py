"""Dense: a body without a state, one layer with relu."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm.kernels.cells.functions import noticed
from nblstm.nn.noise import LAYER
from nblstm.nn.parameters import Gradients
from nblstm.nn.stack import StateGradient
from nblstm.nn.state import State, Stateless
from nblstm.nn.tape import Inputs, Tape


class Dense(Stateless):
    """h = max(0, W x + b); without a weight h = max(0, x + b), x being a product already. Dropout behind it."""

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config, self.weight, self.bias = config, weights.get("dense.weight"), weights["dense.bias"]

    def forward(self, tape: Tape, inputs: Inputs, state: State) -> State:
        """Put h (M, H), after dropout in training, on the tape; return the state, which holds nothing."""
        x, backend = inputs.x, tape.backend
        h = tape.scratch.array("h", len(x), self.config.hidden_size)
        if self.weight is None:
            np.add(x, self.bias, out=h)
        else:
            backend.kernels.linear_forward(h, self._work(tape, x), x, self.weight, self.bias, backend.threads)
        np.maximum(noticed(h), 0, out=h)
        tape.body_kept = x, h
        tape.features = tape.dropped(h, self.config.dropout, 0.0, LAYER)
        return state

    def backward(
        self, tape: Tape, grads: Gradients, dfeatures: np.ndarray, fresh: bool, dlast: StateGradient | None = None
    ) -> tuple[np.ndarray, StateGradient]:
        """Add the gradients of weight and bias; return (that of x, nothing). dfeatures (M, H) is overwritten."""
        (x, h), backend = tape.body_kept, tape.backend
        dz = tape.dropped(dfeatures, self.config.dropout, 0.0, LAYER, into=dfeatures)
        dz *= h > 0  # h = max(0, z)
        if self.weight is None:
            grads["dense.bias"] += dz.sum(axis=0)  # z = x + b
            return dz, []
        dx = tape.scratch.array("dx", *x.shape)
        backend.kernels.linear_backward(
            dx, grads["dense.weight"], grads["dense.bias"], dz, self._work(tape, x), x, self.weight, backend.threads
        )
        return dx, []

    def _work(self, tape: Tape, x: np.ndarray) -> Any:
        """Return the kernels' work of the layer."""
        c, (kernels, threads, _, _) = self.config, tape.backend
        make = lambda M: kernels.linear_work(M, x.shape[1], c.hidden_size, c.dtype, threads)
        return tape.scratch.work("dense", make, len(x))
