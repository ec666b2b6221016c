"""Rows in panels of 64 columns, and what a round of the Mogrifier LSTM does to them: see `mogrifier`.

Arrays are flat, or addressed by flat offsets. Zeros stand behind the last column, and stay there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nblstm.kernels.cpu.functions import sigmoid
from nblstm.kernels.cpu.jit import inlined, jit, made_once, named, shared
from nblstm.kernels.cpu.layouts import MULTIPLY
from nblstm.kernels.cpu.products import ROWS, copy_piece
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor, multiply_64
from nblstm.kernels.cpu.vectors import LANES, load, load_part, store, store_part


class Panels(NamedTuple):
    """Rows in panels: number j of row r stands at numbers[place + (j // 64 * M + r) * 64 + j % 64]."""

    numbers: np.ndarray
    place: int
    M: int
    columns: int


# ---------------------------------------------------------------- products and rounds


@made_once
def product_of(columns):
    """The product with panels of so many columns."""
    multiply = MULTIPLY[columns]

    def multiply_panel(C, rows, A, packed, b0):
        """C += A B for `rows` rows. C: `Block`; A: `Panels`; packed[b0:]: a panel (A.columns, columns) of B."""
        whole, rest = A.columns // PANEL, A.columns % PANEL
        if whole > 0:
            multiply(C, rows, Factor(A.numbers, A.place, PANEL, A.M * PANEL, whole, PANEL), packed, b0)
        if rest > 0:
            last = Factor(A.numbers, A.place + whole * A.M * PANEL, PANEL, 0, 1, rest)
            multiply(C, rows, last, packed, b0 + whole * PANEL * columns)

    return named(multiply_panel, f"multiply_panel_{columns}", shared)


multiply_panel = product_of(PANEL)


@shared
def gate(new, s, old, other, rows, packed, b0):
    """s = sigmoid(W other), new = 2 s old, `Panels` all, for `rows` rows. packed[b0:]: the panels of W."""
    for q in range(-(-s.columns // PANEL)):
        c = q * s.M * PANEL
        first, b = s.place + c, b0 + q * other.columns * PANEL
        for i in range(first, first + rows * PANEL):
            s.numbers[i] = 0
        multiply_panel(Block(s.numbers, first, PANEL), rows, other, packed, b)
        for i in range(c, c + rows * PANEL, LANES):
            value = sigmoid(load(s.numbers, s.place + i))
            store(s.numbers, s.place + i, value)
            store(new.numbers, new.place + i, 2.0 * value * load(old.numbers, old.place + i))


@shared
def gate_backward(d, dother, s, old, rows, packed, b0):
    """Differentiate `gate`: d, of `new`, becomes that of `old`, s that of W other; dother += what passes through W.

    packed[b0:]: the panels of W^T.
    """
    for q in range(-(-s.columns // PANEL)):
        c = q * s.M * PANEL
        for r in range(0, rows * PANEL, LANES):
            place = d.place + q * d.M * PANEL + r
            slope, value = 2.0 * load(d.numbers, place), load(s.numbers, s.place + c + r)
            dz = slope * load(old.numbers, old.place + c + r) * value * (1.0 - value)
            store(s.numbers, s.place + c + r, dz)  # new = 2 s old, s = sigmoid(z)
            store(d.numbers, place, slope * value)  # new = 2 s old
    for q in range(-(-dother.columns // PANEL)):
        C = Block(dother.numbers, dother.place + q * dother.M * PANEL, PANEL)
        multiply_panel(C, rows, s, packed, b0 + q * s.columns * PANEL)  # z = W other


@inlined
def through_weight(d, rows, A, packed):
    """d = A B for `rows` rows. d: `Panels`; A: `Factor`; packed: B in panels (., depth of A, 64)."""
    for q in range(-(-d.columns // PANEL)):
        place = d.place + q * d.M * PANEL
        for i in range(place, place + rows * PANEL):
            d.numbers[i] = 0
        for r in range(0, rows, ROWS):
            block = Factor(A.numbers, A.place + r * A.step, A.step, A.piece, A.pieces, A.depth)
            C = Block(d.numbers, place + r * PANEL, PANEL)
            multiply_64(C, min(ROWS, rows - r), block, packed, q * A.pieces * A.depth * PANEL)


# ---------------------------------------------------------------- rows


@inlined
def put_row(numbers, m, M, source, place, columns):
    """Row m of numbers (., M, 64) = source[place : place + columns]."""
    for q in range(-(-columns // PANEL)):
        column = q * PANEL
        copy_piece(numbers, (q * M + m) * PANEL, source, place + column, min(PANEL, columns - column))


@inlined
def add_row(target, place, numbers, m, M, first, last):
    """target[place + first : place + last] += the columns first ... last of row m of numbers (., M, 64)."""
    for j in range(first, last, LANES):
        width, value = min(LANES, last - j), load(numbers, (j // PANEL * M + m) * PANEL + j % PANEL)
        store_part(target, place + j, load_part(target, place + j, width, 0) + value, width)


@jit
def spread(dx, d, index, D, M, share):
    """dx[index[m]] += row m of d (QD, M, 64), dx[m] where there is no index; for its panels start ... stop."""
    _, start, stop, _, _ = share
    for q in range(start, stop):
        for m in range(M):
            row = index[m] if index.size > 0 else m
            add_row(dx, row * D, d, m, M, q * PANEL, min((q + 1) * PANEL, D))
