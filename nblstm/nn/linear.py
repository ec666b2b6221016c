"""Linear: y = W x + b, a product between the parts of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm.nn.parameters import Gradients
from nblstm.nn.workspace import Workspace


class Linear:
    """y = W x + b of rows x (M, D), weight (V, D); without a bias among the weights b is 0."""

    def __init__(self, weights: Mapping[str, np.ndarray], name: str) -> None:
        self.name, self.weight = name, weights[f"{name}.weight"]
        bias = weights.get(f"{name}.bias")
        self.is_biased = bias is not None
        self.bias = np.zeros(len(self.weight), self.weight.dtype) if bias is None else bias

    def forward(self, scratch: Workspace, x: np.ndarray) -> np.ndarray:
        """Return y (M, V), an array of the scratch."""
        kernels, threads, _, _ = scratch.backend
        y = scratch.array(f"{self.name} y", len(x), len(self.weight))
        kernels.linear_forward(y, self._work(scratch, len(x)), x, self.weight, self.bias, threads)
        return y

    def backward(self, scratch: Workspace, grads: Gradients, dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the gradient of x (M, D), an array of the scratch; add those of weight and bias."""
        kernels, threads, _, _ = scratch.backend
        dx = scratch.array(f"{self.name} dx", *x.shape)
        dbias = grads[f"{self.name}.bias"] if self.is_biased else np.zeros_like(self.bias)
        work = self._work(scratch, len(x))
        kernels.linear_backward(dx, grads[f"{self.name}.weight"], dbias, dy, work, x, self.weight, threads)
        return dx

    def _work(self, scratch: Workspace, rows: int) -> Any:
        """Return the kernels' work."""
        (V, D), (kernels, threads, dtype, _) = self.weight.shape, scratch.backend
        return scratch.work(f"linear {self.name}", lambda M: kernels.linear_work(M, D, V, dtype, threads), rows)


def linear_shapes(name: str, rows: int, columns: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the parameters of a `Linear`."""
    return {f"{name}.weight": (rows, columns), **({f"{name}.bias": (rows,)} if bias else {})}


def part_of(named: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with a prefix, under what is behind it."""
    return {name.removeprefix(prefix): array for name, array in named.items() if name.startswith(prefix)}
