"""Cells without device functions: the specification computes them, on copies in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from nblstm.kernels import reference
from nblstm.kernels.cuda.arrays import assign, host


def forward_on_host(y, cs, hn, cn, work, x, index, h0, c0, weights, cell, offsets, threads):
    """`reference.recurrent_forward` on copies, in float32."""
    outputs = y, cs, hn, cn
    found = [None if output is None else np.empty(tuple(output.shape), np.float32) for output in outputs]
    reference.recurrent_forward(
        *found, work, *_single(x), index, *_single(h0, c0), _named(weights), cell, offsets, threads
    )  # fmt: skip
    _put(outputs, found)


def backward_on_host(dx, dh, dc, grads, dy, y, work, x, index, h0, weights, cell, offsets, threads):
    """`reference.recurrent_backward` on copies, in float32."""
    outputs = dx, dh, dc, *grads.values()
    found = _single(*outputs)
    reference.recurrent_backward(
        *found[:3], dict(zip(grads, found[3:])), *_single(dy), None, *_single(y), work, *_single(x), index,
        *_single(h0), _named(weights), cell, offsets, threads,
    )  # fmt: skip
    _put(outputs, found)


def _single(*arrays: Any) -> list[np.ndarray]:
    """Copies as NumPy arrays in float32."""
    return [np.array(host(x), np.float32) for x in arrays]


def _named(weights: Any) -> dict[str, np.ndarray]:
    """`_single` of arrays by name."""
    return dict(zip(weights, _single(*weights.values())))


def _put(outputs: Any, found: Any) -> None:
    """Write what was found to the outputs, wherever they are, in their own type."""
    for output, value in zip(outputs, found):
        if output is not None and output.size:
            assign(output, value.astype(output.dtype))
