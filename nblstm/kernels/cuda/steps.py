"""The kernels of a recurrent step on a card, made for a cell's device functions.

A step is one kernel: the product U h of a tile of texts and units, all gates of them, and the non-linearity.

Forward: the element function reads the input's half of the pre-activations from `gates` at o, o + H, ... and gets the
other, U h + b_hh, as z[r, :]; it leaves the gates in `gates` and returns (h, c). Backward: it writes the gradients of
both halves to da and db (one array but for the GRU) and returns those of the h before, what does not pass through U,
and of the c before. `inner` (M, H): b_n of a GRU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from nblstm.kernels.cuda.device import EACH, REACH, TEXTS, UNITS, device, large_kernel, store_four
from nblstm.kernels.cuda.tiles import groups_of, make_tile


class Layer(NamedTuple):
    """What the forward steps of a layer read and write, flat on the device; a kernel gets it as a plain tuple."""

    y: Any  # (M, H)
    cs: Any  # (M, H)
    gates: Any  # (M, G, H)
    inner: Any
    h0: Any  # (N, H)
    c0: Any  # (N, H)
    weight: Any  # (G, H, H)
    bias: Any  # (G, H)
    offsets: Any  # (T + 1,)


class Slopes(NamedTuple):
    """The gradients of a layer, flat on the device."""

    dh: Any  # (N, H)
    dc: Any  # (N, H)
    da: Any  # (M, G, H)
    db: Any  # (M, G, H)
    dy: Any  # (M, H)


def _make_totals(columns: int, depth: int, by_rows: bool, aligned: bool) -> tuple[Any, Any]:
    """(add, total): the product of a block's TEXTS rows with `columns` columns, UNITS of each gate.

    add(parts, K, texts, units) leaves the parts of all sums in shared memory, `total(parts, text, column)` adds those of
    one. The operands are those of `tiles.make_tile`.
    """
    accumulate = make_tile(TEXTS, columns, UNITS, depth, (True, by_rows), aligned)
    groups, threads = groups_of(TEXTS, columns), TEXTS * columns // 16

    @device
    def add(parts, K, texts, units):
        sums = cuda.local.array((4, 4), np.float32)
        for i in range(4):
            for j in range(4):
                sums[i, j] = np.float32(0)
        accumulate(sums, K, texts, units)
        group, place = cuda.threadIdx.x // threads, cuda.threadIdx.x % threads
        row, column = place // (columns // 4) * 4, place % (columns // 4) * 4
        cuda.syncthreads()  # the parts of the step before have been read
        if group < groups:
            for i in range(4):
                store_four(
                    parts, (group * TEXTS + row + i) * columns + column, sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3]
                )
        cuda.syncthreads()

    @device
    def total(parts, text, column):
        result = np.float32(0)
        for group in range(groups):
            result += parts[(group * TEXTS + text) * columns + column]
        return result

    return add, total


def make_forward(G: int, element: Any, aligned: bool, recurrent: bool) -> tuple[Any, Any]:
    """Kernels (one step, all steps) of the forward direction. A block computes UNITS units of TEXTS texts.

    recurrent: whether there is a U; if not, `weight` is not read.
    """
    columns = G * UNITS
    add, total = _make_totals(columns, REACH if G > 2 else 2 * REACH, True, aligned)
    size = groups_of(TEXTS, columns) * TEXTS * columns

    @device
    def step(layer, t):
        """h (row of y) and c (of cs) of step t"""
        y, cs, gates, inner, h0, c0, weight, bias, offsets = layer
        parts = cuda.shared.array(size, np.float32, 16)
        z = cuda.local.array((EACH, G), np.float32)
        H, start, thread = bias.size // G, offsets[t], cuda.threadIdx.x
        N, before = offsets[t + 1] - start, offsets[max(t, 1) - 1]
        u0, n0 = cuda.blockIdx.x * UNITS, cuda.blockIdx.y * TEXTS
        if recurrent and n0 < N:  # z = U h
            units = (weight, u0 * H, H, H - u0, H - UNITS)
            if t == 0:
                add(parts, H, (h0, n0 * H, H, N - n0, 0), units)
            else:
                add(parts, H, (y, (before + n0) * H, H, N - n0, 0), units)
        unit = thread % UNITS
        u = u0 + unit
        for r in range(EACH):
            text = thread // UNITS + r * UNITS
            n = n0 + text
            if u < H and n < N:
                for g in range(G):
                    z[r, g] = np.float32(bias[g * H + u])
                    if recurrent:
                        z[r, g] += total(parts, text, g * UNITS + unit)
                h = np.float32(h0[n * H + u]) if t == 0 else np.float32(y[(before + n) * H + u])
                c = c0[n * H + u] if t == 0 else cs[(before + n) * H + u]
                place = (start + n) * H + u
                h, c = element(gates, (start + n) * G * H + u, inner, place, H, z, r, h, c)
                y[place], cs[place] = h, c

    @large_kernel
    def one(layer, first, stop):
        step(layer, first)

    @large_kernel
    def all_(layer, first, stop):
        grid = cuda.cg.this_grid()
        for t in range(first, stop):
            step(layer, t)
            grid.sync()

    return one, all_


def make_backward(G: int, element: Any, aligned: bool, recurrent: bool) -> tuple[Any, Any]:
    """Kernels (one step, all steps) of back-propagation through time, from the last step to -1."""
    add, total = _make_totals(UNITS, 2 * REACH, False, aligned)
    size = groups_of(TEXTS, UNITS) * TEXTS * UNITS

    @device
    def step(slopes, layer, t):
        """da, db of step t, and dh, dc of the step before; at t = -1 only the last product, into dh"""
        (dh, dc, da, db, dy), (y, cs, gates, inner, h0, c0, weight, bias, offsets) = slopes, layer
        parts = cuda.shared.array(size, np.float32, 16)
        H, start, thread = bias.size // G, offsets[max(t, 0)], cuda.threadIdx.x
        N, before, last = offsets[max(t, 0) + 1] - start, offsets[max(t, 1) - 1], offsets.size - 2
        after = offsets[min(t, last) + 1]  # where the rows of step t + 1 begin
        A = offsets[min(t + 1, last) + 1] - after if t < last else 0  # and how many they are
        u0, n0 = cuda.blockIdx.x * UNITS, cuda.blockIdx.y * TEXTS
        if recurrent and n0 < A:  # z = db U
            K = G * H
            add(parts, K, (db, (after + n0) * K, K, A - n0, 0), (weight, u0, H, H - u0, 0))
        u = u0 + thread % UNITS
        for r in range(EACH):
            text = thread // UNITS + r * UNITS
            n = n0 + text
            if u < H and n < N:
                own, place = n * H + u, (start + n) * H + u
                slope = dh[own]
                if recurrent and n0 < A:
                    slope += total(parts, text, thread % UNITS)
                if t >= 0:
                    h_before = np.float32(h0[own]) if t == 0 else np.float32(y[(before + n) * H + u])
                    c_before = c0[own] if t == 0 else cs[(before + n) * H + u]
                    slope, dc[own] = element(
                        da, db, gates, (start + n) * G * H + u, inner, place, H, slope + dy[place], dc[own],
                        (h_before, c_before, cs[place]),
                    )  # fmt: skip
                dh[own] = slope

    @large_kernel
    def one(slopes, layer, first, stop):
        step(slopes, layer, first)

    @large_kernel
    def all_(slopes, layer, first, stop):
        grid = cuda.cg.this_grid()
        for t in range(first, stop, -1):
            step(slopes, layer, t)
            grid.sync()

    return one, all_
