"""Layers whose input and output gate each other before every step, as in the Mogrifier LSTM: their time loops.

    s = sigmoid(Q_k h), x = 2 s x  for k = 1, 3, ...,  s = sigmoid(R_k x), h = 2 s h  for k = 2, 4, ...    (eq. 1 and 2)
    z = W x + U h + b                                             of that x and h     Melis, Kocisky & Blunsom 2020

W x waits for h, so the products of the rounds, W x and U h all stand inside the time loop; the gradients of their matrices
are formed behind it, of all rows at once. A thread takes its own texts through all steps, without a barrier.

What is multiplied stands in panels of 64 columns (`rounds`): what a product makes is a factor of the next one
as it is, in the loop and in the gradients of the matrices.

Names: P panels of w units, S columns of each, `column` the first of those that W x and U h fill; QD, QH panels of 64
columns of x (D) and h (H); M rows, Hp = w * P; `count` rounds, of which r = (count + 1) // 2 gate x, the others h. Arrays
are flat, or addressed by flat offsets; a kernel's last argument is its share of the texts.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from nblstm.kernels.cpu.jit import inlined, made_once, named, shared
from nblstm.kernels.cpu.products import (
    IN_ORDER,
    MOST_COLUMNS,
    Columns,
    pack,
    pack_inputs,
    panels,
    weight_gradient,
)
from nblstm.kernels.cpu.rounds import Panels, add_row, gate, gate_backward, product_of, put_row, spread, through_weight
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor
from nblstm.kernels.cpu.vectors import LANES, load, load_part, store, store_part
from nblstm.kernels.threads import Share, parallel_for, run_ranges

NO_INDEX = np.empty(0, np.int32)


class Kept(NamedTuple):
    """What the rounds of all rows keep for the way back."""

    x: np.ndarray  # (r + 1, QD, M, 64): before, between and after the rounds that gate it
    h: np.ndarray  # (count - r + 1, QH, M, 64)
    gates_x: np.ndarray  # (r, QD, M, 64): s of the rounds that gate x; on the way back the gradients of Q_k h
    gates_h: np.ndarray  # (count - r, QH, M, 64): of those that gate h; the gradients of R_k x


class Matrices(NamedTuple):
    """What a step multiplies with, in panels: on the way there those of x W^T, on the way back those of dz W."""

    rounds: np.ndarray  # Q_k (QD, H, 64) and R_k (QH, D, 64) in turn; back (QH, D, 64) and (QD, H, 64)
    places: np.ndarray  # (count,) int64: where each of them begins
    weight_ih: np.ndarray  # (P, D, columns); back (QD, P columns, 64)
    weight_hh: np.ndarray  # (P, H, columns); back (QH, P columns, 64)
    bias: np.ndarray  # (P, S)


# ---------------------------------------------------------------- the time loops


@made_once
def step_of(layout):
    """The function that takes rows through a step: all rounds, the gates, memory and h."""
    cell, S, w, (column, order) = layout.cell, layout.S, layout.w, layout.hidden
    columns = len(order) * w
    multiply = product_of(columns)

    def step(y, gates, memory, kept, matrices, places, rows, sizes):
        """y and memory of the rows first ..., from the first x and h that `kept` has of them.

        places: first, and where their memory before and after stands; y: (M, H); sizes: (M, D, H, count).
        """
        (first, before, after), (M, D, H, count) = places, sizes
        m, P, Hp, of_x, of_h = first * PANEL, -(-H // w), -(-H // w) * w, -(-D // PANEL) * PANEL, -(-H // PANEL) * PANEL
        x, h = Panels(kept.x, m, M, D), Panels(kept.h, m, M, H)
        for k in range(count):
            place, b0 = m + k // 2 * M * (of_h if k % 2 else of_x), matrices.places[k]
            if k % 2 == 0:
                old, x = x, Panels(kept.x, place + M * of_x, M, D)
                gate(x, Panels(kept.gates_x, place, M, D), old, h, rows, matrices.rounds, b0)
            else:
                old, h = h, Panels(kept.h, place + M * of_h, M, H)
                gate(h, Panels(kept.gates_h, place, M, H), old, x, rows, matrices.rounds, b0)
        for p in range(P):
            z = (p * M + first) * S
            for r in range(rows):
                for j in range(0, S, LANES):
                    store(gates, z + r * S + j, load(matrices.bias, p * S + j))
            C = Block(gates, z + column, S)
            multiply(C, rows, x, matrices.weight_ih, p * D * columns)
            multiply(C, rows, h, matrices.weight_hh, p * H * columns)
            for unit in range(p * w, min((p + 1) * w, H), LANES):
                width, skip = min(LANES, H - unit), unit - p * w
                for r in range(rows):
                    new, hidden = cell(gates, z + r * S + skip, load(memory, (before + r) * Hp + unit))
                    store(memory, (after + r) * Hp + unit, new)
                    store_part(y, (first + r) * H + unit, hidden, width)

    return named(step, f"rounds_step_{layout.name}", shared)


@cache
def forward_of(layout):
    """The forward kernel of a layout whose x and h gate each other."""
    step = step_of(layout)

    def forward(y, gates, memory, inputs, kept, matrices, offsets, sizes, given):
        """Take the share's texts of `recurrent_forward` through all steps. inputs: (x (rows, D), index or none, h0)."""
        share, (N, D, H, count), (x, index, h0) = Share(*given), sizes, inputs
        n0, n1, T = share.start, share.stop, len(offsets) - 1
        M = offsets[T]
        for t in range(T):
            first = offsets[t] + n0
            rows = min(n1, offsets[t + 1] - offsets[t]) - n0
            if rows <= 0:
                break  # shorter texts stand last
            for m in range(first, first + rows):
                put_row(kept.x, m, M, x, (index[m] if index.size > 0 else m) * D, D)
                if t == 0:
                    put_row(kept.h, m, M, h0, (m - offsets[t]) * H, H)
                else:
                    put_row(kept.h, m, M, y, (m - offsets[t] + offsets[t - 1]) * H, H)
            before = N + offsets[t - 1] + n0 if t > 0 else n0
            step(y, gates, memory, kept, matrices, (first, before, N + first), rows, (M, D, H, count))

    return named(forward, f"_forward_rounds_{layout.name}")


def _cells_reader(layout):
    """The function that differentiates the cells of some rows."""
    cell, S, w = layout.cell_backward, layout.S, layout.w

    def read_cells(slopes, gates, memory, first, rows, places, sizes):
        """The gates of the rows first ... become their gradients.

        places: where their memory before and after, and its gradient, stand; sizes: (M, H).
        """
        (dy, dcs, _, dmemory), (before, after, carried), (M, H) = slopes, places, sizes
        P = -(-H // w)
        for p in range(P):
            for unit in range(p * w, min((p + 1) * w, H), LANES):
                width = min(LANES, H - unit)
                for r in range(rows):
                    at, z = (first + r) * H + unit, (p * M + first + r) * S + unit - p * w
                    dm = load(dmemory, (carried + r) * P * w + unit)
                    if dcs.size > 0:
                        dm = dm + load_part(dcs, at, width, 0)
                    c, new = load(memory, (before + r) * P * w + unit), load(memory, (after + r) * P * w + unit)
                    dbefore = cell(gates, z, c, new, load_part(dy, at, width, 0), dm)
                    store(dmemory, (carried + r) * P * w + unit, dbefore)

    return named(read_cells, f"read_cells_{layout.name}", inlined)


@cache
def backward_of(layout):
    """The backward kernel of a layout whose x and h gate each other."""
    S, w, (column, order), read_cells = layout.S, layout.w, layout.hidden, _cells_reader(layout)
    columns = len(order) * w

    def backward(slopes, inner, gates, memory, kept, matrices, offsets, sizes, given):
        """Take the share's texts back through all steps; the gradient of h_{t-1} is added into dy of step t - 1.

        inner: the gradients of x (QD, M, 64), and of h (QH, N, 64) of one step.
        """
        share, (N, D, H, count), (dy, _, dh, _) = Share(*given), sizes, slopes
        n0, n1, T, P = share.start, share.stop, len(offsets) - 1, -(-H // w)
        M, of_x, of_h = offsets[T], -(-D // PANEL) * PANEL, -(-H // PANEL) * PANEL
        for t in range(T - 1, -1, -1):
            first = offsets[t] + n0
            rows = min(n1, offsets[t + 1] - offsets[t]) - n0
            if rows <= 0:
                continue
            before = N + offsets[t - 1] + n0 if t > 0 else n0
            read_cells(slopes, gates, memory, first, rows, (before, N + first, n0), (M, H))
            m, x, h = first * PANEL, Panels(inner[0], first * PANEL, M, D), Panels(inner[1], n0 * PANEL, N, H)
            dz = Factor(gates, first * S + column, S, M * S, P, columns)
            through_weight(x, rows, dz, matrices.weight_ih)  # z = W x + U h + b
            through_weight(h, rows, dz, matrices.weight_hh)
            for k in range(count - 1, -1, -1):
                place, b0 = m + k // 2 * M * (of_h if k % 2 else of_x), matrices.places[k]
                if k % 2 == 0:
                    s, old = Panels(kept.gates_x, place, M, D), Panels(kept.x, place, M, D)
                    gate_backward(x, h, s, old, rows, matrices.rounds, b0)
                else:
                    s, old = Panels(kept.gates_h, place, M, H), Panels(kept.h, place, M, H)
                    gate_backward(h, x, s, old, rows, matrices.rounds, b0)
            if t > 0:
                target, start = dy, (offsets[t - 1] + n0) * H
            else:
                target, start = dh, n0 * H
            for r in range(rows):
                add_row(target, start + r * H, inner[1], n0 + r, N, 0, H)

    return named(backward, f"_backward_rounds_{layout.name}")


# ---------------------------------------------------------------- what a layer keeps


def round_work(layout, cell, M, N, threads):
    """The sizes of a layer's buffers: (its own, those that layers share), by name."""
    S, P, QD, QH = layout.S, panels(cell.hidden_size, layout.w), panels(cell.input_size), panels(cell.hidden_size)
    count = len(cell.rounds)
    r = (count + 1) // 2
    own = {
        "gates": P * M * S, "memory": (N + M) * P * layout.w, "kept_x": (r + 1) * QD * M * PANEL,
        "kept_h": (count - r + 1) * QH * M * PANEL, "gates_x": r * QD * M * PANEL, "gates_h": (count - r) * QH * M * PANEL,
    }  # fmt: skip
    scratch = {
        "bias": P * S, "weight_ih": P * QD * PANEL * S, "weight_hh": P * QH * PANEL * S,
        "rounds": count * QD * QH * PANEL * PANEL, "dmemory": N * P * layout.w, "dx": QD * M * PANEL, "dh": QH * N * PANEL,
        "block": threads * MOST_COLUMNS * PANEL,
    }  # fmt: skip
    return own, scratch


def pack_rounds(packed, weights, cell, threads, back=False):
    """Put the rounds' matrices W into panels: those of x W^T or, back, those of dz W; returns where each begins."""
    places, end = [], 0
    for name in cell.rounds:
        (rows, columns), flat = weights[name].shape, weights[name].reshape(-1)
        size = panels(columns) * rows * PANEL if back else panels(rows) * columns * PANEL
        part = packed[end : end + size]
        if back:
            parallel_for(threads, pack_inputs, rows, part, flat, rows, columns)
        else:
            parallel_for(threads, pack, panels(rows), part, weights[name], IN_ORDER, PANEL, rows, columns)
        places.append(end)
        end += size
    return np.array(places, np.int64)


# ---------------------------------------------------------------- both ways


def _given(work, packed, cell, places):
    """What both time loops are given: `Kept`, `Matrices`, the offsets, and (N, D, H, count)."""
    kept = Kept(*(work[name] for name in ("kept_x", "kept_h", "gates_x", "gates_h")))
    matrices = Matrices(work["rounds"], places, work["weight_ih"], work["weight_hh"], work["bias"])
    return kept, matrices, packed.offsets, (len(packed.h0), cell.input_size, cell.hidden_size, len(cell.rounds))


def run_forward(edges, y, work, packed, weights, cell, layout, threads):
    """Run the time loop of a layer, whose W, U and first memory are in their places."""
    given = _given(work, packed, cell, pack_rounds(work["rounds"], weights, cell, threads))
    inputs = packed.x.reshape(-1), NO_INDEX if packed.index is None else packed.index, packed.h0.reshape(-1)
    run_ranges(forward_of(layout), edges, y.reshape(-1), work["gates"], work["memory"], inputs, *given)


def run_backward(edges, slopes, work, packed, weights, cell, layout, threads):
    """Run the time loop back; U is packed. slopes: `Slopes`."""
    order, w, D, H = layout.inputs[1], layout.w, cell.input_size, cell.hidden_size
    work["factors"].pack_transposed(threads, work, "weight_ih", weights["weight_ih"], order, w, H, D)
    given = _given(work, packed, cell, pack_rounds(work["rounds"], weights, cell, threads, back=True))
    inner = work["dx"], work["dh"]
    run_ranges(backward_of(layout), edges, slopes, inner, work["gates"], work["memory"], *given)


def gradients(dx, grads, work, packed, cell, layout, threads):
    """Write dx (rows, D) and add the gradients of all matrices and biases, of what `run_backward` has left."""
    D, H, M, (column, order) = cell.input_size, cell.hidden_size, int(packed.offsets[-1]), layout.inputs
    x, h = work["kept_x"], work["kept_h"]
    of_x, of_h, count = panels(D) * PANEL * M, panels(H) * PANEL * M, len(cell.rounds)

    def add(name, dz, order, w, size, K, read, dbias=x[:0]):
        """Add dz.T @ read to a matrix (., K), and the sum over the rows of dz to dbias."""
        parallel_for(
            threads, weight_gradient, panels(size, w) * panels(K), grads[name].reshape(-1), (dbias, dz), order, w, size,
            K, dz, read, work["block"],
        )  # fmt: skip

    for k, name in enumerate(cell.rounds):
        i = k // 2
        if k % 2 == 0:  # s = sigmoid(Q_k h)
            add(name, _columns(work["gates_x"][i * of_x :], M), IN_ORDER, PANEL, D, H, h[i * of_h :])
        else:  # s = sigmoid(R_k x)
            add(name, _columns(work["gates_h"][i * of_h :], M), IN_ORDER, PANEL, H, D, x[(i + 1) * of_x :])
    dbias = np.zeros_like(grads["bias_ih"])
    dz = tuple(Columns(work["gates"], M, layout.S, column, len(order) * layout.w))
    add("weight_ih", dz, order, layout.w, H, D, x[(count + 1) // 2 * of_x :], dbias)  # z = W x + U h + b
    add("weight_hh", dz, order, layout.w, H, H, h[count // 2 * of_h :])
    grads["bias_ih"] += dbias
    grads["bias_hh"] += dbias
    dx.fill(0)
    index = NO_INDEX if packed.index is None else packed.index
    parallel_for(threads, spread, panels(D), dx.reshape(-1), work["dx"], index, D, M)


def _columns(z, M):
    """All columns of panels (., M, 64)."""
    return tuple(Columns(z, M, PANEL, 0, PANEL))
