"""Recurrent layers: one time loop for the equations of every cell (`cells/`).

The comment on a backward line names the forward line it differentiates. Weights, shapes and gate order are PyTorch's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nblstm.kernels.cells.functions import normalize, normalize_backward, noticed
from nblstm.kernels.reference.int8 import product
from nblstm.kernels.threads import not_while_forking

NAMES = {side: (f"weight_{side}", f"bias_{side}", f"gain_{side}") for side in ("ih", "hh")}


def recurrent_work(cells, M, N, rows, dtype, threads):
    """Make room for what `recurrent_forward` keeps, one work for each cell: here, a dict to be filled.

    Up to M rows of up to N texts. rows: for each cell, the most unique inputs that will come to it through an index,
    0 if its inputs are all in place.
    """
    return [{} for _ in cells]


@not_while_forking
def recurrent_forward(outputs, work, packed, weights, cell, threads):
    """Run one direction of one layer over T steps of packed texts.

    outputs: `kernels.Outputs`; packed: `kernels.Packed`, whose step t holds rows offsets[t] : offsets[t + 1], never
    more than step t - 1; row n of a step is text n. weights: name -> array, see `Cell.shapes`; cell: Cell; H is its
    output_size. `work` is written for the backward pass.

    With layer normalisation a = gain_ih norm(W x) + b_ih and b = gain_hh norm(U h) + b_hh (Ba, Kiros & Hinton 2016,
    eq. 20-22); with a projection h_t = W_hr (o tanh(c_t)).
    """
    (y, cs, hn, cn), (x, index, h, c, offsets) = outputs, packed
    a, work["a"], work["steps"] = None, None, []
    if cell.definition.mix is None:  # nothing of x waits for h
        a, work["a"] = preactivation(x, weights, "ih")
        a = a if index is None else a[index]
    for start, stop in zip(offsets[:-1], offsets[1:]):
        rows = slice(start, stop)
        n = stop - start
        seen = (None, a[rows]) if a is not None else (x[rows] if index is None else x[index[rows]], None)
        h, c, tape = step(*seen, h[:n], c[:n], weights, cell)
        work["steps"].append(tape)
        y[rows] = hn[:n] = h
        cn[:n] = c
        if cs is not None:
            cs[rows] = c


class StepTape(NamedTuple):
    """What one step hands to its way back, as a plain tuple until it is read there."""

    h_prev: Any  # (n, output_size)
    c_prev: Any  # (n, H or 0)
    x: Any  # (n, D) as W sees it; None where W x was known
    h: Any  # (n, output_size) as U sees it
    mixed: Any  # what `CellKind.mix` has saved
    norm_ih: Any  # what the layer normalisation of W x and U h has saved
    norm_hh: Any
    saved: Any  # what `CellKind.forward` has saved
    out: Any  # (n, H) before the projection


def step(x, a, h, c, weights, cell):
    """Compute (h, c, tape) after inputs x (n, D), or None where a = W x + b_ih (n, gates H) is known already."""
    kind, gates, h_seen, mixed, norm_ih = cell.definition, (len(h), -1, cell.hidden_size), h, None, None
    if kind.mix is not None:
        x, h_seen, mixed = kind.mix(x, h, weights, cell)
    if a is None:
        a, norm_ih = preactivation(x, weights, "ih")
    b, norm_hh = preactivation(h_seen, weights, "hh")
    a, b = a if a is None else a.reshape(gates), b if b is None else b.reshape(gates)
    out, new_c, saved = kind.forward(noticed(a, b), b, h, c, weights, cell)
    new_h = out @ weights["weight_hr"].T if cell.proj_size else out
    return new_h, new_c, (h, c, x, h_seen, mixed, norm_ih, norm_hh, saved, out)


@not_while_forking
def recurrent_backward(dx, grads, slopes, y, work, packed, weights, cell, threads):
    """Differentiate `recurrent_forward`: back-propagation through time.

    dx (rows, D) overwritten. grads: name -> array, accumulated into. slopes: `kernels.Outputs`, the gradients of
    them; on return those in the places of hn, cn are of h0, c0. The one of y and `work` are overwritten, too; both hold
    intermediate gradients afterwards.
    """
    (dy, dcs, dh, dc), (x, index, _, _, offsets) = slopes, packed
    # d: the gradient of W x + b, or where that waits for h of x
    size = cell.input_size if cell.definition.mix else cell.sides.get("ih", 0)
    d = np.empty((len(dy), size), dy.dtype)
    for start, stop in zip(offsets[-2::-1], offsets[:0:-1]):
        n, rows = stop - start, slice(start, stop)
        dc_t = dc[:n] if dcs is None else dc[:n] + dcs[rows]
        d[rows], dh[:n], dc[:n] = step_backward(dy[rows] + dh[:n], dc_t, work["steps"].pop(), weights, grads, cell)
    if index is not None:
        placed, d = d, np.zeros((len(x), size), dy.dtype)
        np.add.at(d, index, placed)  # a[index]
    if cell.definition.mix is None:
        d = preactivation_backward(d, x, work["a"], weights, grads, "ih")
    dx[...] = d


def step_backward(dh, dc, tape, weights, grads, cell):
    """Compute the gradient of a (n, gates H), or of x (n, D) where W x waits for h; of h and of c before. See `step`."""
    kind, n, tape = cell.definition, len(dh), StepTape(*tape)
    if cell.proj_size:
        grads["weight_hr"] += dh.T @ tape.out  # h = W_hr out
        dh = dh @ weights["weight_hr"]  # h = W_hr out
    da, db, dh_prev, dc = kind.backward(dh, dc, tape.saved, tape.h_prev, tape.c_prev, weights, grads, cell)
    da, db = (np.zeros((n, 0), dh.dtype) if half is None else half.reshape(n, -1) for half in (da, db))
    dh_seen = preactivation_backward(db, tape.h, tape.norm_hh, weights, grads, "hh")
    if kind.mix is not None:
        da = preactivation_backward(da, tape.x, tape.norm_ih, weights, grads, "ih")
        da, dh_seen = kind.mix_backward(da, dh_seen, tape.mixed, weights, grads, cell)
    return da, dh_seen + dh_prev, dc


def preactivation(x, weights, side):
    """Compute (W x + b, None), with gains (gain norm(W x) + b, what its gradient needs); (None, None) without a W.

    side: "ih" or "hh".
    """
    weight, bias, gain = NAMES[side]
    if weight not in weights:
        return None, None
    z = product(x, weights[weight])
    if gain not in weights:
        return z + weights[bias], None
    norm = normalize(z)
    return norm[0] * weights[gain] + weights[bias], norm


def preactivation_backward(d, x, norm, weights, grads, side):
    """Compute the gradient of x from d, that of `preactivation`. Adds those of weight, bias and gain."""
    weight, bias, gain = NAMES[side]
    if weight not in weights:
        return 0
    grads[bias] += d.sum(axis=0)
    if norm is not None:
        grads[gain] += (d * norm[0]).sum(axis=0)
        d = normalize_backward(d * weights[gain], norm)
    grads[weight] += d.T @ x
    return d @ weights[weight]
