"""How a cell's gates stand in memory, and the time loop made for its equations on vectors of 16 units.

How a layer's time is spent decides the layout. A panel holds all gates of w = 16 hidden units (of 64 where there is
one gate), so that the gates of a tile are still in the L1 cache when the non-linearity reads them. Pre-activations
become gates, and gates become their gradients, in one buffer (P, M, S). Every thread takes its own texts of the batch
through all time steps; weight gradients are split by their own rows and columns. No sum is ever split between
threads, so the results do not depend on their number.

What a unit carries from step to step, elementwise, is its `memory`: c in an LSTM, h itself in a GRU or an RNN.

The figure of a panel is in the README of the kernels.

Names: P panels of w units, S columns of a panel, Q panels of 64 input or hidden columns, M rows, Hp = w * P.
Arrays are flat, or addressed by flat offsets; a kernel's last argument is its share of the texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from nblstm.kernels.cells import Cell
from nblstm.kernels.cpu.barrier import barrier
from nblstm.kernels.cpu.jit import inlined, named
from nblstm.kernels.cpu.pairs import per_element, store_factors
from nblstm.kernels.cpu.products import ROWS, product
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor, multiply_48, multiply_64, multiply_80
from nblstm.kernels.cpu.vectors import LANES, load, load_part, store, store_part
from nblstm.kernels.threads import Share


@inlined
def units_of(count, share):
    """The share's part of range(count) where several threads share every text; all of it where they do not."""
    if share.parts == 1:
        return 0, count
    return count * share.part // share.parts, count * (share.part + 1) // share.parts


class Inputs(NamedTuple):
    """The projected inputs of a layer that come through an index; R is 0 where they are in place already."""

    table: np.ndarray  # (P, R, S) flat
    index: np.ndarray  # (M,) int32
    R: int


class Slopes(NamedTuple):
    """The gradients of a layer's outputs, flat."""

    dy: np.ndarray  # (M, H)
    dcs: np.ndarray  # (M, H) of the memory of every step, or empty
    dh: np.ndarray  # (N, H) of hn, already added into dy, and zero; on return of h0, without what came as memory
    dmemory: np.ndarray  # (N, Hp) of the last memory; on return of the first


def _make_projection(name, S, multiply, column, columns):
    """The kernel z = x W + bias of panels with S columns, of which `multiply` fills those of the input."""

    def project(z, x, packed, bias, P, M, D, share):
        """z[:, start : stop] = bias + x @ packed in panels (P, M, S), the product from `column` on"""
        _, start, stop, _, _ = share
        for m in range(start, stop, ROWS):
            rows = min(ROWS, stop - m)
            for p in range(P):
                for r in range(rows):
                    for j in range(0, S, LANES):
                        store(z, (p * M + m + r) * S + j, load(bias, p * S + j))
                gates = Block(z, (p * M + m) * S + column, S)
                multiply(gates, rows, Factor(x, m * D, D, 0, 1, D), packed, p * D * columns)

    return named(project, f"_project_{name}")


def _make_forward(name, cell, S, w, multiply, column, columns):
    """The forward kernel of a cell."""

    def forward(y, gates, memory, inputs, factors, weight_hh, offsets, N, H, given):
        """Take the share's texts of `recurrent_forward` through all steps; U h fills `columns` from `column` on.

        factors: h0 and h as factors of products, (N, K) and (M, K); h is y, or pairs that are written beside it.
        """
        share = Share(*given)
        (h0, seen), n0, n1, (table, index, R), P, T = (
            factors,
            share.start,
            share.stop,
            inputs,
            -(-H // w),
            len(offsets) - 1,
        )
        M, Hp, per = offsets[T], P * w, per_element(seen)
        K = -(-H // per)
        p0, p1 = units_of(P, share)
        for t in range(T):
            first = offsets[t] + n0
            rows = min(n1, offsets[t + 1] - offsets[t]) - n0
            if rows <= 0:
                break  # shorter texts stand last
            if t == 0:
                h, start, before = h0, n0 * K, n0
            else:
                h, start, before = seen, (offsets[t - 1] + n0) * K, N + offsets[t - 1] + n0
            for p in range(p0, p1):
                z = (p * M + first) * S
                if R > 0:
                    for r in range(rows):
                        row = (p * R + index[first + r]) * S
                        for j in range(0, S, LANES):
                            store(gates, z + r * S + j, load(table, row + j))
                if columns > 0:
                    multiply(
                        Block(gates, z + column, S), rows, Factor(h, start, K, 0, 1, K), weight_hh, p * K * columns
                    )
                for unit in range(p * w, min((p + 1) * w, H), LANES):
                    width, skip = min(LANES, H - unit), unit - p * w
                    for r in range(rows):
                        new, hidden = cell(gates, z + r * S + skip, load(memory, (before + r) * Hp + unit))
                        store(memory, (N + first + r) * Hp + unit, new)
                        if width == LANES:
                            store(y, (first + r) * H + unit, hidden)
                        else:
                            store_part(y, (first + r) * H + unit, hidden, width)
                        store_factors(seen, (first + r) * K + unit // per, hidden, width)
            barrier(share.counter, share.parts, t + 1)

    return named(forward, f"_forward_{name}")


def _make_backward(name, cell, S, w, column, columns):
    """The backward kernel of a cell."""

    def backward(slopes, gates, dz, memory, weight_hh, offsets, N, H, tail, given):
        """Take the share's texts back through all steps; the gradient of h_{t-1} is added into dy of step t - 1.

        dz: the gradients of gates as a factor of products; gates, or pairs that are written beside them.
        """
        share = Share(*given)
        n0, n1, (dy, dcs, dh, dmemory), part = share.start, share.stop, slopes, share.part
        P, Q, T = -(-H // w), -(-H // PANEL), len(offsets) - 1
        M, Hp, per = offsets[T], P * w, per_element(dz)
        p0, p1 = units_of(P, share)
        q0, q1 = units_of(Q, share)
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
                        z = (p * M + first + r) * S + unit - p * w
                        dbefore = cell(
                            gates, z, load(memory, (before + r) * Hp + unit), load(memory, (N + first + r) * Hp + unit),
                            d, dm,
                        )  # fmt: skip
                        store(dmemory, carried, dbefore)
                        for block in range(z, z + S, w):
                            store_factors(dz, block // per, load(gates, block), LANES)
            barrier(share.counter, share.parts, round_ + 1)
            if t > 0:
                target, start = dy, (offsets[t - 1] + n0) * H
            else:
                target, start = dh, n0 * H
            for m in range(0, rows if columns > 0 else 0, ROWS):  # z = W x + b + U h
                A = Factor(dz, ((first + m) * S + column) // per, S // per, M * S // per, P, columns // per)
                B = Block(weight_hh, 0, P * columns // per * PANEL)
                C = Block(target, start + m * H, H)
                product(C, min(ROWS, rows - m), q0, q1, A, B, tail, part * ROWS * LANES)
            barrier(share.counter, share.parts, round_ + 2)
            round_ += 2

    return named(backward, f"_backward_{name}")


# ---------------------------------------------------------------- what each cell is made of


@dataclass(frozen=True, eq=False)
class Layout:
    """A cell's kernels, and where its gates stand in a panel of S columns, w units each. There is one of each cell.

    inputs, hidden: the first column that W x + b, or U h + b, goes to, and which gates stand there in what order. Where
    there is no U the order is empty.
    """

    name: str
    cell: object  # its equations
    cell_backward: object
    S: int
    w: int
    inputs: tuple[int, np.ndarray]
    hidden: tuple[int, np.ndarray]
    output: int  # the block of o, where h = o tanh(c); else -1
    multiply_hh: object  # the product that fills the columns of U h
    project: object
    forward: object
    backward: object
    int8: bool = False  # the token reader multiplies small integers, see `int8`
    sparse: bool = False  # the token reader skips blocks of zeros, see `sparse`
    options: tuple = ()  # (the layout itself, `flags`) where the token reader is that of `option_decoding`
    rounds: Layout | None = None  # the layout itself, where it is that of `mogrifier_decoding`

    @property
    def is_recurrent(self) -> bool:
        """Whether there is a U."""
        return len(self.hidden[1]) > 0


MULTIPLY = {
    0: multiply_64,
    48: multiply_48,
    64: multiply_64,
    80: multiply_80,
}  # columns -> product; of none: never called


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
    columns_ih, columns_hh = ((first, len(order) * w) for first, order in (inputs, hidden))
    multiply_ih, multiply_hh = (MULTIPLY[len(order) * w] for _, order in (inputs, hidden))
    return Layout(
        functions.name, functions.forward, functions.backward, S, w, inputs, hidden,
        -1 if kind.panel.output is None else kind.panel.output, multiply_hh,
        _make_projection(functions.name, S, multiply_ih, *columns_ih),
        _make_forward(functions.name, functions.forward, S, w, multiply_hh, *columns_hh),
        _make_backward(functions.name, functions.backward, S, w, *columns_hh),
    )  # fmt: skip
