"""Recurrent layers on the CPU, of every cell: one time loop, with the cell's equations on vectors of 16 units.

How a layer's time is spent decides the layout. A panel holds all gates of w = 16 hidden units (of 64 where there is
one gate), so that the gates of a tile are still in the L1 cache when the non-linearity reads them. Pre-activations
become gates, and gates become their gradients, in one buffer (P, M, S). Every thread takes its own texts of the batch
through all time steps; weight gradients are split by their own rows and columns. No sum is ever split between
threads, so the results do not depend on their number.

What a unit carries from step to step, elementwise, is its `memory`: c in an LSTM, h itself in a GRU or an RNN.

A GRU's candidate needs W x and U h apart, n = tanh(W x + r (U h)). Its panel has the columns n, r, z, U h of n: the
input product fills the first three, the recurrent product the last three.

Names: P panels of w units, S columns of a panel, Q panels of 64 input or hidden columns, M rows, Hp = w * P.
Arrays are flat, or addressed by flat offsets; a kernel's last arguments are its share of the texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from nblstm.kernels import reference
from nblstm.kernels.barrier import barrier
from nblstm.kernels.cells import Cell
from nblstm.kernels.jit import jit, named
from nblstm.kernels.packed import last_rows, lengths
from nblstm.kernels.products import MOST_COLUMNS, ROWS, pack, pack_inputs, pack_transposed, panels, panels_product
from nblstm.kernels.products import copy_piece, product, weight_gradient
from nblstm.kernels.threads import equal, ranges, split, together
from nblstm.kernels.tiles import PANEL, multiply_48, multiply_64, multiply_80
from nblstm.kernels.vectors import LANES, load, load_part, store, store_part

NO_INDEX, NO_COUNTER, NO_WEIGHT = np.empty(0, np.int32), np.zeros(3, np.int64), np.empty(0)
SHARED_BYTES = 1 << 22  # of weights, from which on a stream is worth several threads
MANY_STEPS = 16  # in one call: more do not make smaller weights worth a barrier a layer ...
FEW_STEPS = 4  # ... and of one layer alone more than these do not


# ---------------------------------------------------------------- the time loop


def _make_projection(name, S, multiply):
    """The kernel z = x W + bias of panels with S columns, of which `multiply` fills those of the input."""

    def project(z, x, packed, bias, columns, column, P, M, D, part, start, stop):
        """z[:, start : stop] = bias + x @ packed in panels (P, M, S), the product from `column` on"""
        for m in range(start, stop, ROWS):
            rows = min(ROWS, stop - m)
            for p in range(P):
                for r in range(rows):
                    for j in range(0, S, LANES):
                        store(z, (p * M + m + r) * S + j, load(bias, p * S + j))
                multiply(
                    z, (p * M + m) * S + column, S, rows, PANEL, x, m * D, D, 0, 1, D, packed, p * D * columns
                )  # fmt: skip

    return named(project, f"_project_{name}")


def _make_forward(name, cell, S, w, multiply):
    """The forward kernel of a cell."""

    def forward(
        y, gates, memory, table, index, R, h0, weight_hh, columns, column, offsets, N, H, counter, parts, part, n0, n1
    ):
        """The part's texts of `recurrent_forward` through all steps; R distinct inputs, 0 if z is in place."""
        P, T = -(-H // w), len(offsets) - 1
        M, Hp = offsets[T], P * w
        p0, p1 = share(P, parts, part)
        for t in range(T):
            first = offsets[t] + n0
            rows = min(n1, offsets[t + 1] - offsets[t]) - n0
            if rows <= 0:
                break  # shorter texts stand last
            if t == 0:
                h, start, before = h0, n0 * H, n0
            else:
                h, start, before = y, (offsets[t - 1] + n0) * H, N + offsets[t - 1] + n0
            for p in range(p0, p1):
                z = (p * M + first) * S
                if R > 0:
                    for r in range(rows):
                        row = (p * R + index[first + r]) * S
                        for j in range(0, S, LANES):
                            store(gates, z + r * S + j, load(table, row + j))
                if columns > 0:
                    multiply(gates, z + column, S, rows, PANEL, h, start, H, 0, 1, H, weight_hh, p * H * columns)
                for unit in range(p * w, min((p + 1) * w, H), LANES):
                    width, skip = min(LANES, H - unit), unit - p * w
                    for r in range(rows):
                        new, hidden = cell(gates, z + r * S + skip, load(memory, (before + r) * Hp + unit))
                        store(memory, (N + first + r) * Hp + unit, new)
                        if width == LANES:
                            store(y, (first + r) * H + unit, hidden)
                        else:
                            store_part(y, (first + r) * H + unit, hidden, width)
            barrier(counter, parts, t + 1)

    return named(forward, f"_forward_{name}")


def _make_backward(name, cell, S, w):
    """The backward kernel of a cell."""

    def backward(
        dy, dcs, dh, dmemory, gates, memory, weight_hh, columns, column, offsets, N, H, tail, counter, parts, part, n0, n1
    ):
        """The part's texts back through all time steps; the gradient of h_{t-1} is added into dy of step t - 1.

        dh is that of hn on entry, already added into dy and zero; that of h0 on return, without what came as memory.
        dcs: the gradient of the memory of every step, or empty.
        """
        P, Q, T = -(-H // w), -(-H // PANEL), len(offsets) - 1
        M, Hp = offsets[T], P * w
        p0, p1 = share(P, parts, part)
        q0, q1 = share(Q, parts, part)
        round_ = 0
        for t in range(T - 1, -1, -1):
            first = offsets[t] + n0
            rows = min(n1, offsets[t + 1] - offsets[t]) - n0
            if rows <= 0:
                continue
            before = N + offsets[t - 1] + n0 if t > 0 else n0
            for p in range(p0, p1):
                for r in range(rows):
                    for unit in range(p * w, min((p + 1) * w, H), LANES):
                        width, at = min(LANES, H - unit), (first + r) * H + unit
                        d = load(dy, at) if width == LANES else load_part(dy, at, width, 0)
                        carried = (n0 + r) * Hp + unit
                        dm = load(dmemory, carried)
                        if dcs.size > 0:
                            dm = dm + load_part(dcs, at, width, 0)
                        dbefore = cell(
                            gates, (p * M + first + r) * S + unit - p * w, load(memory, (before + r) * Hp + unit),
                            load(memory, (N + first + r) * Hp + unit), d, dm,
                        )  # fmt: skip
                        store(dmemory, carried, dbefore)
            barrier(counter, parts, round_ + 1)
            if t > 0:
                target, start = dy, (offsets[t - 1] + n0) * H
            else:
                target, start = dh, n0 * H
            for m in range(0, rows if columns > 0 else 0, ROWS):  # z = W x + b + U h
                product(
                    target, start + m * H, min(ROWS, rows - m), H, q0, q1, gates, (first + m) * S + column, S, M * S,
                    P, columns, weight_hh, 0, P * columns * PANEL, tail, part * ROWS * LANES,
                )  # fmt: skip
            barrier(counter, parts, round_ + 2)
            round_ += 2

    return named(backward, f"_backward_{name}")


def by_texts(threads, weights, kernel, edges, *args, steps=1):
    """kernel(*args, counter, parts, part, n0, n1): each thread takes the texts between two edges and never waits.

    Where texts are fewer than threads and the weights are many, the threads share every text: each takes its part
    of the units and waits for the others (`barrier(counter, parts, ...)`) before it reads theirs. A call of several
    steps wakes the threads once, so that fewer weights are worth it.
    """
    N = edges[-1]
    if N < threads and weights.nbytes * min(steps, MANY_STEPS) >= SHARED_BYTES:
        together(threads, kernel, N, *args)
    else:
        ranges(kernel, edges, *args, NO_COUNTER, 1)


def fair_edges(offsets, threads):
    """Where to cut packed texts so that each thread gets as many tokens: as `threads.equal`, but for unequal texts."""
    counts = np.diff(offsets)
    N, T = int(counts[0]), len(counts)
    if N * T == offsets[-1]:
        return equal(N, threads)
    tokens = np.concatenate([[0], np.cumsum(lengths(offsets))])
    cuts = np.searchsorted(tokens, offsets[-1] * np.arange(1, threads) / threads)
    return sorted({0, *cuts.tolist(), N})


@jit
def share(count, parts, part):
    """The part's share of range(count) where `parts` threads share every text; all of it where they do not."""
    if parts == 1:
        return 0, count
    return count * part // parts, count * (part + 1) // parts


# ---------------------------------------------------------------- what each cell is made of


@dataclass(frozen=True, eq=False)
class Layout:
    """A cell's kernels, and where its gates stand in a panel of S columns, w units each. There is one of each cell.

    inputs, hidden: the first column that W x + b, or U h + b, goes to, and which gates stand there in what order. Where
    there is no U the order is empty.
    """

    name: str
    cell: object  # its equations
    S: int
    w: int
    inputs: tuple[int, np.ndarray]
    hidden: tuple[int, np.ndarray]
    multiply_ih: object  # the product that fills the columns of W x
    multiply_hh: object  # those of U h
    project: object
    forward: object
    backward: object

    @property
    def is_recurrent(self) -> bool:
        """Whether there is a U."""
        return len(self.hidden[1]) > 0


MULTIPLY = {0: multiply_64, 48: multiply_48, 64: multiply_64, 80: multiply_80}  # columns -> product; of none: never called


def layout_of(cell):
    """The cell's layout, or None where only the specification computes it."""
    return _layout(cell.definition, cell.nonlinearity) if cell.compiled else None


@cache
def _layout(kind, nonlinearity):
    """The layout of a kind; its cells differ in the nonlinearity alone."""
    functions = kind.cpu(Cell(kind.name, 1, 1, nonlinearity))
    w, S = kind.panel.units, kind.panel.units * kind.panel.blocks
    sides = kind.panel.inputs, kind.panel.hidden or (0, ())
    inputs, hidden = ((block * w, np.array(order, np.int64)) for block, order in sides)
    multiply_ih, multiply_hh = (MULTIPLY[len(order) * w] for _, order in (inputs, hidden))
    return Layout(
        functions.name, functions.forward, S, w, inputs, hidden, multiply_ih, multiply_hh,
        _make_projection(functions.name, S, multiply_ih), _make_forward(functions.name, functions.forward, S, w, multiply_hh),
        _make_backward(functions.name, functions.backward, S, w),
    )  # fmt: skip


# ---------------------------------------------------------------- the contract


def recurrent_work(cells, M, N, rows, dtype, threads):
    """Buffers for `recurrent_forward` and `recurrent_backward`, by name, one dict a cell.

    A cell's own: gates (P, M, S) and memory (N + M, Hp), kept for the backward pass. All cells share the rest: a table
    (P, rows, S) for the projection of distinct inputs, and scratch.
    """
    shared, works = {}, []
    for cell, distinct in zip(cells, rows):
        layout = layout_of(cell)
        if layout is None:
            works.append({})
            continue
        S, w, H, D = layout.S, layout.w, cell.hidden_size, cell.input_size
        P, QH, QD = panels(H, w), panels(H), panels(D)
        sizes = {
            "table": P * distinct * S, "weight_ih": P * max(D, QD * PANEL) * S,
            "weight_hh": P * max(H, QH * PANEL) * S, "bias": P * S, "dmemory": N * P * w,
            "inputs": max(QH * M, QD * (distinct or M)) * PANEL, "tail": threads * ROWS * LANES,
            "block": threads * MOST_COLUMNS * PANEL,
        }  # fmt: skip
        for name, size in sizes.items():
            shared[name] = max(size, shared.get(name, 0))
        works.append({"gates": np.zeros(P * M * S, dtype), "memory": np.zeros((N + M) * P * w, dtype)})
    scratch = {name: np.zeros(size, dtype) for name, size in shared.items()}
    return [{**scratch, **work} if work else {} for work in works]


def recurrent_forward(y, cs, hn, cn, work, x, index, h0, c0, weights, cell, offsets, threads):
    """See reference.recurrent_forward."""
    layout = layout_of(cell)
    if layout is None:
        return reference.recurrent_forward(y, cs, hn, cn, work, x, index, h0, c0, weights, cell, offsets, threads)
    (rows, D), (M, H), N = x.shape, y.shape, len(h0)
    S, w, gather = layout.S, layout.w, index is not None
    P = panels(H, w)
    gate_panels(work["bias"], weights, layout, P, H)
    (column_ih, order_ih), (column_hh, order_hh) = layout.inputs, layout.hidden
    split(threads, pack, P, work["weight_ih"], weights["weight_ih"], order_ih, w, H, D)
    if layout.is_recurrent:
        split(threads, pack, P, work["weight_hh"], weights["weight_hh"], order_hh, w, H, H)
    split(
        threads, layout.project, rows, work["table" if gather else "gates"], x.reshape(-1), work["weight_ih"],
        work["bias"], len(order_ih) * w, column_ih, P, rows, D,
    )  # fmt: skip
    memory = work["memory"][: (N + M) * P * w].reshape(N + M, P * w)
    memory[:N, :H] = c0 if cell.has_memory else h0
    by_texts(
        threads, weights.get("weight_hh", NO_WEIGHT), layout.forward, fair_edges(offsets, threads), y.reshape(-1),
        work["gates"], work["memory"], work["table"], index if gather else NO_INDEX, rows if gather else 0,
        np.ascontiguousarray(h0).reshape(-1), work["weight_hh"], len(order_hh) * w, column_hh, offsets, N, H,
        steps=min(len(offsets) - 1, FEW_STEPS),
    )  # fmt: skip
    last = last_rows(offsets)
    hn[...] = y[last]
    if cell.has_memory:
        cn[...] = memory[N + last, :H]
    if cs is not None:
        cs[...] = memory[N:, :H]


def gate_panels(bias, weights, layout, P, H):
    """The columns of both biases in panels (P, S), zeros behind the last unit."""
    G, w = layout.S // layout.w, layout.w
    padded = np.zeros((G, P * w), bias.dtype)
    for (column, order), name in ((layout.inputs, "bias_ih"), (layout.hidden, "bias_hh")):
        if len(order):
            padded[column // w : column // w + len(order), :H] += weights[name].reshape(-1, H)[order]
    bias[: P * layout.S].reshape(P, G, w)[...] = padded.reshape(G, P, w).transpose(1, 0, 2)


@jit
def _scatter(table, gates, index, S, M, R, part, start, stop):
    """table[p, index[m]] += gates[p, m] for panels start ... stop: the gradient of the gather."""
    for p in range(start, stop):
        for i in range(p * R * S, (p + 1) * R * S):
            table[i] = 0
        for m in range(M):
            row, z = (p * R + index[m]) * S, (p * M + m) * S
            for j in range(0, S, LANES):
                store(table, row + j, load(table, row + j) + load(gates, z + j))


@jit
def _pack_previous(packed, h0, y, offsets, N, H, part, start, stop):
    """packed (Q, M, 64) = h_{t-1} of the rows of steps start ... stop: those of h0, then of y."""
    M = offsets[len(offsets) - 1]
    for t in range(start, stop):
        for n in range(offsets[t + 1] - offsets[t]):
            for q in range(-(-H // PANEL)):
                column, place = q * PANEL, (q * M + offsets[t] + n) * PANEL
                width = min(PANEL, H - column)
                if t == 0:
                    copy_piece(packed, place, h0, n * H + column, width)
                else:
                    copy_piece(packed, place, y, (offsets[t - 1] + n) * H + column, width)


def recurrent_backward(dx, dh, dc, grads, dy, dcs, y, work, x, index, h0, weights, cell, offsets, threads):
    """See reference.recurrent_backward."""
    layout = layout_of(cell)
    if layout is None:
        return reference.recurrent_backward(
            dx, dh, dc, grads, dy, dcs, y, work, x, index, h0, weights, cell, offsets, threads
        )
    (rows, D), (M, H), N = x.shape, y.shape, len(h0)
    S, w, (column_ih, order_ih), (column_hh, order_hh) = layout.S, layout.w, layout.inputs, layout.hidden
    P, tail, gates = panels(H, w), work["tail"], work["gates"]
    dmemory = work["dmemory"][: N * P * w].reshape(N, P * w)
    dmemory[:, :H] = dc if cell.has_memory else 0
    dy[last_rows(offsets)] += dh  # hn = y at a text's last step
    dh.fill(0)
    if layout.is_recurrent:
        split(threads, pack_transposed, P, work["weight_hh"], weights["weight_hh"], order_hh, w, H, H)
    by_texts(
        threads, weights.get("weight_hh", NO_WEIGHT), layout.backward, fair_edges(offsets, threads), dy.reshape(-1),
        dy[:0].reshape(-1) if dcs is None else dcs.reshape(-1), dh.reshape(-1), work["dmemory"], gates,
        work["memory"], work["weight_hh"], len(order_hh) * w, column_hh, offsets, N, H, tail,
        steps=min(len(offsets) - 1, FEW_STEPS),
    )  # fmt: skip
    if cell.has_memory:
        dc[...] = dmemory[:, :H]
    else:
        dh += dmemory[:, :H]
    # both biases have one gradient where their columns are the same
    same = layout.is_recurrent and column_ih == column_hh
    if layout.is_recurrent:  # dweight_hh = dz.T @ h_{t-1}
        split(
            threads, _pack_previous, len(offsets) - 1, work["inputs"], np.ascontiguousarray(h0).reshape(-1),
            y.reshape(-1), offsets, N, H,
        )  # fmt: skip
        dbias = grads["bias_hh"]
        split(
            threads, weight_gradient, P * panels(H), grads["weight_hh"].reshape(-1), dbias[:0] if same else dbias,
            order_hh, w, H, H, gates, S, column_hh, M, work["inputs"], work["block"],
        )  # fmt: skip
    dz = gates
    if index is not None:
        dz = work["table"]
        split(threads, _scatter, P, dz, gates, index, S, M, rows)
    # dweight_ih = dz.T @ x, dx = dz @ weight_ih
    dbias = np.zeros_like(grads["bias_ih"])
    split(threads, pack_inputs, rows, work["inputs"], x.reshape(-1), rows, D)
    split(
        threads, weight_gradient, P * panels(D), grads["weight_ih"].reshape(-1), dbias, order_ih, w, H, D, dz, S,
        column_ih, rows, work["inputs"], work["block"],
    )  # fmt: skip
    for side in ("bias_ih", "bias_hh") if same else ("bias_ih",):
        grads[side] += dbias
    split(threads, pack_transposed, P, work["weight_ih"], weights["weight_ih"], order_ih, w, H, D)
    columns = len(order_ih) * w
    split(
        threads, panels_product, rows, dx.reshape(-1), dz, work["weight_ih"], P * columns * PANEL, columns, S, column_ih,
        0, P, P * columns, rows, D, tail,
    )  # fmt: skip
