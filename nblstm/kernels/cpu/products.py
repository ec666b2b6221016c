"""Packing and the products that the CPU kernels share: `tiles.multiply` over panels and blocks of rows.

A weight's rows stand in `len(order)` blocks of `size` rows: the gates of H units in a recurrent layer, one block of V
rows in a linear layer. A panel takes w rows of every block, block order[g] at its columns g * w ...: that is how one
tile comes to hold all gates of the same units. Rows and columns that are not there are zeros.

Names: P panels of a weight's rows, Q panels of 64 input or hidden columns, K the depth of a product, M rows.
Arrays are flat, or addressed by flat offsets; a kernel's last argument is its share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nblstm.kernels.cpu.jit import inlined, jit, shared
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor, multiply, multiply_transposed
from nblstm.kernels.cpu.vectors import LANES, like, load, load_part, store, store_part, transpose

IN_ORDER = np.zeros(1, np.int64)  # the order of a linear layer's one block of rows
DEPTH = 8  # panels that one product walks along: 128 KiB of the right-hand side for 64 columns of its result
ROWS = 96  # rows of a block in the large products: its A stays in the L2 cache while panels of B pass


def panels(columns, width=PANEL):
    """How many panels of `width` columns hold `columns`."""
    return -(-columns // width)


# ---------------------------------------------------------------- packing


@shared
def pack_panel(packed, place, weight, order, w, size, K, p):
    """packed[place + k * columns + g * w + j] = weight[order[g] * size + p * w + j, k]: panel p of x @ weight.T."""
    source, columns = weight.reshape(-1), len(order) * w
    for block in range(columns // LANES):  # of 16 columns, in one group as w is a multiple of 16
        g, j = block * LANES // w, block * LANES % w
        row, target = p * w + j, place + block * LANES
        first = (order[g] * size + row) * K
        for k in range(0, K, LANES):
            if row + LANES <= size and K >= LANES:
                whole = min(k, K - LANES)  # the last square overlaps the one before
                transpose(packed, target + whole * columns, columns, source, first + whole, K)
                continue
            for i in range(k, min(k + LANES, K)):
                for lane in range(LANES):
                    inside = row + lane < size
                    packed[target + i * columns + lane] = source[first + lane * K + i] if inside else 0


@jit
def pack(packed, weight, order, w, size, K, share):
    """packed (P, K, columns): the panels start ... stop of `pack_panel`, one after the other."""
    _, start, stop, _, _ = share
    for p in range(start, stop):
        pack_panel(packed, p * K * len(order) * w, weight, order, w, size, K, p)


@inlined
def copy_piece(packed, place, x, source, width):
    """packed[place : place + 64] = x[source : source + width], zeros behind."""
    for i in range(0, PANEL, LANES):
        if i + LANES <= width:
            store(packed, place + i, load(x, source + i))
        else:
            store(packed, place + i, load_part(x, source + i, max(0, width - i), 0))


@jit
def pack_transposed(packed, weight, order, w, size, K, share):
    """packed[q, p * columns + g * w + j, i] = weight[order[g] * size + p * w + j, q * 64 + i]: of dz @ weight."""
    _, start, stop, _, _ = share
    source, columns = weight.reshape(-1), len(order) * w
    P, Q = -(-size // w), -(-K // PANEL)
    for row in range(start * columns, stop * columns):
        g, j = row % columns // w, row // columns * w + row % w
        for q in range(Q):
            width = min(PANEL, K - q * PANEL) if j < size else 0
            copy_piece(packed, (q * P * columns + row) * PANEL, source, (order[g] * size + j) * K + q * PANEL, width)


@jit
def pack_inputs(packed, x, rows, columns, share):
    """packed (Q, rows, 64) = the columns of x (rows, columns), panel by panel, for the rows start ... stop."""
    _, start, stop, _, _ = share
    for r in range(start, stop):
        for q in range(-(-columns // PANEL)):
            column = q * PANEL
            copy_piece(packed, (q * rows + r) * PANEL, x, r * columns + column, min(PANEL, columns - column))


# ---------------------------------------------------------------- products


class Columns(NamedTuple):
    """Some columns of every panel of z (P, M, stride), flat: `count` of them from `first` on."""

    z: np.ndarray
    M: int
    stride: int
    first: int
    count: int


@shared
def product(C, rows, q0, q1, A, B, tail, t0):
    """C += A @ B for `rows` rows and the panels q0 ... q1 of B. The rows of C stand side by side: it has C.step columns.

    C, B: `Block`, of rows and of panels; A: `Factor`. tail[t0:]: room for ROWS * 16.
    """
    for q in range(q0, q1):
        width, c, b = min(PANEL, C.step - q * PANEL), C.place + q * PANEL, B.place + q * B.step
        whole = width - width % LANES
        if whole > 0:
            multiply(Block(C.numbers, c, C.step), rows, whole, A, B.numbers, b)
        if width > whole:
            for i in range(t0, t0 + rows * LANES):
                tail[i] = 0
            multiply(Block(tail, t0, LANES), rows, LANES, A, B.numbers, b + whole)
            for r in range(rows):
                for j in range(width - whole):
                    C.numbers[c + r * C.step + whole + j] += tail[t0 + r * LANES + j]


@jit
def panels_product(dx, dz, packed, step, p0, p1, depth, D, tail, share):
    """dx[start : stop] += dz @ weight for the panels p0 ... p1 of dz; overwritten where p0 is 0.

    dz: `Columns`, of all panels together no more than `depth`. packed (Q, ..., 64), `step` numbers from one of its
    panels to the next: the weight's rows from panel p0 on.
    """
    part, start, stop, _, _ = share
    (z, M, stride, column, columns), Q = dz, -(-D // PANEL)
    for m in range(start, stop, ROWS):
        rows = min(ROWS, stop - m)
        if p0 == 0:
            for i in range(m * D, (m + rows) * D):
                dx[i] = 0
        for p in range(p0, p1, DEPTH):
            last = min(p + DEPTH, p1)
            whole = last if last * columns <= depth else last - 1  # behind the last panel that is there as a whole
            for first, count, width in ((p, whole - p, columns), (whole, last - whole, depth - whole * columns)):
                if count > 0:
                    A = Factor(z, (first * M + m) * stride + column, stride, M * stride, count, width)
                    B = Block(packed, (first - p0) * columns * PANEL, step)
                    product(Block(dx, m * D, D), rows, 0, Q, A, B, tail, part * ROWS * LANES)


@jit
def weight_gradient(dweight, bias, order, w, size, K, dz, x, block, share):
    """dweight += dz.T @ x for the blocks start ... stop of a panel of dz and one of x, counted along x's first.

    dz: `Columns`; x: panels (Q, M, 64). block: room for 80 x 64 numbers of
    each part. bias: dbias += the sum over the rows of summed, `Columns` of numbers as those of dz, unless it is empty.
    """
    part, start, stop, _, _ = share
    (z, M, stride, column, columns), Q = dz, -(-K // PANEL)
    dbias, (numbers, count, step, first, _) = bias
    b0 = part * MOST_COLUMNS * PANEL
    for task in range(start, stop):
        p, q = task // Q, task % Q
        a0 = p * M * stride + column
        for i in range(b0, b0 + columns * PANEL):
            block[i] = 0
        width = min(PANEL, K - q * PANEL)
        padded = -(-width // LANES) * LANES
        rows = columns if w < PANEL else min(PANEL, size - p * PANEL)
        A = Factor(z, a0, stride, 0, 1, M)
        multiply_transposed(Block(block, b0, PANEL), rows, padded, A, x, q * M * PANEL)
        for g in range(len(order)):
            for j in range(min(w, size - p * w)):
                target, row = (order[g] * size + p * w + j) * K + q * PANEL, b0 + (g * w + j) * PANEL
                for i in range(0, width, LANES):
                    if i + LANES <= width:
                        store(dweight, target + i, load(dweight, target + i) + load(block, row + i))
                    else:
                        value = load_part(dweight, target + i, width - i, 0) + load(block, row + i)
                        store_part(dweight, target + i, value, width - i)
        if q == 0 and dbias.size > 0:
            for j in range(0, columns, LANES):
                place = p * count * step + first + j
                _add_sum(dbias, order[j // w] * size, p * w + j % w, size, numbers, place, step, count)


MOST_COLUMNS = 80  # of a panel's gates


@inlined
def _add_sum(dbias, first, row, size, dz, place, stride, M):
    """dbias[first + row :] += the sum over M rows of 16 columns of dz, those that are below `size`"""
    count = min(LANES, size - row)
    if count <= 0:
        return
    a = b = c = d = like(load(dz, place), 0)
    end = place + M * stride
    for m in range(place, end - 3 * stride, 4 * stride):
        a, b = a + load(dz, m), b + load(dz, m + stride)
        c, d = c + load(dz, m + 2 * stride), d + load(dz, m + 3 * stride)
    for m in range(end - M % 4 * stride, end, stride):
        a = a + load(dz, m)
    total = load_part(dbias, first + row, count, 0) + (a + b + (c + d))
    store_part(dbias, first + row, total, count)
