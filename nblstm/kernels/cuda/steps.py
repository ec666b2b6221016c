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

from nblstm.kernels.cuda.device import EACH, LOADS, REACH, TEXTS, THREADS, UNITS, device


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


def make_forward(G: int, element: Any, aligned: bool, recurrent: bool) -> tuple[Any, Any]:
    """Kernels (one step, all steps) of the forward direction. A block computes UNITS units of TEXTS texts.

    recurrent: whether there is a U; if not, `weight` is not read.
    """
    four, gate_units, padded = LOADS[aligned], G * UNITS, REACH + 1

    @device
    def step(layer, t):
        """h (row of y) and c (of cs) of step t"""
        y, cs, gates, inner, h0, c0, weight, bias, offsets = layer
        units = cuda.shared.array((gate_units, padded), np.float32)
        texts = cuda.shared.array((TEXTS, padded), np.float32)
        z = cuda.local.array((EACH, G), np.float32)
        H, start, thread = bias.size // G, offsets[t], cuda.threadIdx.x
        N, before = offsets[t + 1] - start, offsets[max(t, 1) - 1]
        u0, n0 = cuda.blockIdx.x * UNITS, cuda.blockIdx.y * TEXTS
        unit, text = thread % UNITS, thread // UNITS
        for r in range(EACH):
            for g in range(G):
                z[r, g] = np.float32(0)
        for k0 in range(0, H if recurrent and n0 < N else 0, REACH):
            for q in range(thread, G * UNITS * REACH // 4, THREADS):
                row, k = q // (REACH // 4), q % (REACH // 4) * 4
                u = u0 + row % UNITS
                a, b, c, d = four(weight, (row // UNITS * H + u) * H + k0 + k, H - k0 - k if u < H else 0)
                units[row, k], units[row, k + 1], units[row, k + 2], units[row, k + 3] = a, b, c, d
            for q in range(thread, TEXTS * REACH // 4, THREADS):
                row, k = q // (REACH // 4), q % (REACH // 4) * 4
                n, there = n0 + row, H - k0 - k if n0 + row < N else 0
                if t == 0:
                    a, b, c, d = four(h0, n * H + k0 + k, there)
                else:
                    a, b, c, d = four(y, (before + n) * H + k0 + k, there)
                texts[row, k], texts[row, k + 1], texts[row, k + 2], texts[row, k + 3] = a, b, c, d
            cuda.syncthreads()
            for k in range(REACH):
                for r in range(EACH):
                    for g in range(G):
                        z[r, g] += units[g * UNITS + unit, k] * texts[text + r * UNITS, k]
            cuda.syncthreads()
        u = u0 + unit
        for r in range(EACH):
            n = n0 + text + r * UNITS
            if u < H and n < N:
                for g in range(G):
                    z[r, g] += np.float32(bias[g * H + u])
                h = np.float32(h0[n * H + u]) if t == 0 else np.float32(y[(before + n) * H + u])
                c = c0[n * H + u] if t == 0 else cs[(before + n) * H + u]
                place = (start + n) * H + u
                h, c = element(gates, (start + n) * G * H + u, inner, place, H, z, r, h, c)
                y[place], cs[place] = h, c

    @cuda.jit
    def one(layer, first, stop):
        step(layer, first)

    @cuda.jit
    def all_(layer, first, stop):
        grid = cuda.cg.this_grid()
        for t in range(first, stop):
            step(layer, t)
            grid.sync()

    return one, all_


def make_backward(G: int, element: Any, aligned: bool, recurrent: bool) -> tuple[Any, Any]:
    """Kernels (one step, all steps) of back-propagation through time, from the last step to -1."""
    four, padded, padded_units = LOADS[aligned], REACH + 1, UNITS + 1

    @device
    def step(slopes, layer, t):
        """da, db of step t, and dh, dc of the step before; at t = -1 only the last product, into dh"""
        (dh, dc, da, db, dy), (y, cs, gates, inner, h0, c0, weight, bias, offsets) = slopes, layer
        units = cuda.shared.array((REACH, padded_units), np.float32)
        texts = cuda.shared.array((TEXTS, padded), np.float32)
        z = cuda.local.array(EACH, np.float32)
        H, start, thread = bias.size // G, offsets[max(t, 0)], cuda.threadIdx.x
        N, before, last = offsets[max(t, 0) + 1] - start, offsets[max(t, 1) - 1], offsets.size - 2
        after = offsets[min(t, last) + 1]  # where the rows of step t + 1 begin
        A = offsets[min(t + 1, last) + 1] - after if t < last else 0  # and how many they are
        u0, n0 = cuda.blockIdx.x * UNITS, cuda.blockIdx.y * TEXTS
        unit, text = thread % UNITS, thread // UNITS
        for r in range(EACH):
            z[r] = np.float32(0)
        for k0 in range(0, G * H if recurrent and n0 < A else 0, REACH):  # z = db U
            for q in range(thread, REACH * UNITS // 4, THREADS):
                k, j = q // (UNITS // 4), q % (UNITS // 4) * 4
                a, b, c, d = four(weight, (k0 + k) * H + u0 + j, H - u0 - j if k0 + k < G * H else 0)
                units[k, j], units[k, j + 1], units[k, j + 2], units[k, j + 3] = a, b, c, d
            for q in range(thread, TEXTS * REACH // 4, THREADS):
                row, k = q // (REACH // 4), q % (REACH // 4) * 4
                there = G * H - k0 - k if n0 + row < A else 0
                a, b, c, d = four(db, (after + n0 + row) * G * H + k0 + k, there)
                texts[row, k], texts[row, k + 1], texts[row, k + 2], texts[row, k + 3] = a, b, c, d
            cuda.syncthreads()
            for k in range(REACH):
                for r in range(EACH):
                    z[r] += units[k, unit] * texts[text + r * UNITS, k]
            cuda.syncthreads()
        u = u0 + unit
        for r in range(EACH):
            n = n0 + text + r * UNITS
            if u < H and n < N:
                own, place = n * H + u, (start + n) * H + u
                total = dh[own] + z[r]
                if t >= 0:
                    h_before = np.float32(h0[own]) if t == 0 else np.float32(y[(before + n) * H + u])
                    c_before = c0[own] if t == 0 else cs[(before + n) * H + u]
                    total, dc[own] = element(
                        da, db, gates, (start + n) * G * H + u, inner, place, H, total + dy[place], dc[own],
                        (h_before, c_before, cs[place]),
                    )  # fmt: skip
                dh[own] = total

    @cuda.jit
    def one(slopes, layer, first, stop):
        step(slopes, layer, first)

    @cuda.jit
    def all_(slopes, layer, first, stop):
        grid = cuda.cg.this_grid()
        for t in range(first, stop, -1):
            step(slopes, layer, t)
            grid.sync()

    return one, all_
