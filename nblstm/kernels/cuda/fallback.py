"""Cells without device functions: the specification computes them, on copies in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from nblstm.kernels import Outputs, Packed, reference
from nblstm.kernels.cuda.arrays import assign, host


def forward_on_host(outputs, work, packed, weights, cell, threads):
    """`reference.recurrent_forward` on copies, in float32."""
    found = Outputs(*(None if output is None else np.empty(tuple(output.shape), np.float32) for output in outputs))
    reference.recurrent_forward(found, work, _packed(packed), _named(weights), cell, threads)
    _put(outputs, found)


def backward_on_host(dx, grads, slopes, y, work, packed, weights, cell, threads):
    """`reference.recurrent_backward` on copies, in float32."""
    outputs = dx, slopes.hn, slopes.cn, *grads.values()
    (dy, y), found = _single(slopes.y, y), _single(*outputs)
    dx, dh, dc, *others = found
    given = Outputs(dy, None, dh, dc)
    reference.recurrent_backward(
        dx, dict(zip(grads, others)), given, y, work, _packed(packed), _named(weights), cell, threads
    )
    _put(outputs, found)


def _packed(packed: Packed) -> Packed:
    """`_single` of its arrays of numbers."""
    x, h0, c0 = _single(packed.x, packed.h0, packed.c0)
    return packed._replace(x=x, h0=h0, c0=c0)


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
