"""Rows of mean 0 and variance 1, as layer normalisation makes them of W x, U h and c, and the gradients of gains and peepholes.

A row stands in blocks of 16 numbers over the panels; what stands in lanes behind the last unit is not counted.

Names: P panels of w units, `columns` of them that W x or U h fill, M or R rows, Hp = w * P; sizes: (H, w, columns).
Arrays are flat, or addressed by flat offsets; a kernel's last argument is its share.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cpu.jit import inlined, jit, shared
from nblstm.kernels.cpu.tiles import Block
from nblstm.kernels.cpu.vectors import LANES, lane_sum, like, load, load_part, store, store_part

EPSILON = 1e-5


# ---------------------------------------------------------------- one row; `Block.step` leads from a panel to the next


@shared
def moments(z, sizes):
    """(mean, 1 / sigma) of a row of `columns` columns a panel; z: `Block`; sizes: (H, w, columns)."""
    H, w, columns = sizes
    total = like(load_part(z.numbers, z.place, 0, 0), 0)
    squares, count = total, columns // w * H
    for p in range(-(-H // w)):
        for j in range(0, columns, LANES):
            inside = min(LANES, H - p * w - j % w)
            if inside > 0:
                total = total + load_part(z.numbers, z.place + p * z.step + j, inside, 0)
    mean = lane_sum(total) / count
    for p in range(-(-H // w)):
        for j in range(0, columns, LANES):
            inside = min(LANES, H - p * w - j % w)
            if inside > 0:
                centred = load_part(z.numbers, z.place + p * z.step + j, inside, mean) - mean
                squares = squares + centred * centred
    return mean, 1 / np.sqrt(lane_sum(squares) / count + EPSILON)


@inlined
def normalize(normed, z, sizes):
    """normed = norm(z) of a row, `Block` both; returns 1 / sigma."""
    H, w, columns = sizes
    mean, scale = moments(z, sizes)
    for p in range(-(-H // w)):
        for j in range(0, columns, LANES):
            inside = min(LANES, H - p * w - j % w)
            if inside > 0:
                value = (load(z.numbers, z.place + p * z.step + j) - mean) * scale
                store_part(normed.numbers, normed.place + p * normed.step + j, value, inside)
    return scale


@shared
def normalize_backward(dz, d, normed, gain, scale, sizes):
    """dz, the gradient of a row z, from d, that of gain norm(z) + b; all `Block`, dz may be d. gain: (P, columns)."""
    H, w, columns = sizes
    first = like(load_part(gain, 0, 0, 0), 0)
    second, count = first, columns // w * H
    for p in range(-(-H // w)):
        for j in range(0, columns, LANES):
            value = load(d.numbers, d.place + p * d.step + j) * load(gain, p * columns + j)
            first = first + value
            second = second + value * load(normed.numbers, normed.place + p * normed.step + j)
    mean, slope = lane_sum(first) / count, lane_sum(second) / count
    for p in range(-(-H // w)):
        for j in range(0, columns, LANES):
            inside = min(LANES, H - p * w - j % w)
            if inside > 0:
                value = load(d.numbers, d.place + p * d.step + j) * load(gain, p * columns + j)
                value = (value - mean - load(normed.numbers, normed.place + p * normed.step + j) * slope) * scale
                store_part(dz.numbers, dz.place + p * dz.step + j, value, inside)


# ---------------------------------------------------------------- inputs


@jit
def normalize_inputs(z, normed, scale, gain, bias, column, stride, sizes, R, share):
    """z (P, R, stride) = bias, and gain norm(z) + bias in its columns of W x, for the rows start ... stop.

    normed (P, R, columns) = norm(z), scale (R,) = 1 / sigma. bias: (P, stride).
    """
    _, start, stop, _, _ = share
    H, w, columns = sizes
    for r in range(start, stop):
        own = Block(normed, r * columns, R * columns)
        scale[r] = normalize(own, Block(z, r * stride + column, R * stride), sizes)
        for p in range(-(-H // w)):
            at = (p * R + r) * stride
            for j in range(0, stride, LANES):
                store(z, at + j, load(bias, p * stride + j))
            for j in range(0, columns, LANES):
                value = load(normed, (p * R + r) * columns + j) * load(gain, p * columns + j)
                store(z, at + column + j, load(z, at + column + j) + value)


@jit
def inputs_backward(dz, normed, scale, gain, column, stride, sizes, R, share):
    """dz (P, R, stride), in its columns of W x: the gradient of W x in the place of that of gain norm(W x) + b."""
    _, start, stop, _, _ = share
    columns = sizes[2]
    for r in range(start, stop):
        d = Block(dz, r * stride + column, R * stride)
        normalize_backward(d, d, Block(normed, r * columns, R * columns), gain, scale[r], sizes)


@jit
def gain_gradients(dgain, dbias, order, dz, column, stride, normed, sizes, M, share):
    """dgain += the sum of dz normed over M rows, dbias += that of dz, for the panels start ... stop."""
    _, start, stop, _, _ = share
    H, w, columns = sizes
    for p in range(start, stop):
        for j in range(0, columns, LANES):
            inside = min(LANES, H - p * w - j % w)
            if inside > 0:
                total = like(load_part(dz, 0, 0, 0), 0)
                slope = total
                for m in range(M):
                    value = load(dz, (p * M + m) * stride + column + j)
                    total, slope = total + value, slope + value * load(normed, (p * M + m) * columns + j)
                row = order[j // w] * H + p * w + j % w
                store_part(dbias, row, load_part(dbias, row, inside, 0) + total, inside)
                store_part(dgain, row, load_part(dgain, row, inside, 0) + slope, inside)


@jit
def squash_gradients(dgain, dbias, dnormed, memory, normed, before, H, Hp, M, share):
    """dgain_c += the sum of dnormed norm(c) over M rows, dbias_c += that of dnormed, for the vectors start ... stop.

    memory: c (before + M, Hp).
    """
    _, start, stop, _, _ = share
    for unit in range(start * LANES, min(stop * LANES, H), LANES):
        inside = min(LANES, H - unit)
        total = like(load_part(dnormed, 0, 0, 0), 0)
        slope = total
        for m in range(M):
            value = load(dnormed, m * Hp + unit)
            c = (load(memory, (before + m) * Hp + unit) - normed[2 * m]) * normed[2 * m + 1]
            total, slope = total + value, slope + value * c
        store_part(dbias, unit, load_part(dbias, unit, inside, 0) + total, inside)
        store_part(dgain, unit, load_part(dgain, unit, inside, 0) + slope, inside)


@jit
def peephole_gradients(dpeepholes, gates, memory, offsets, N, layout, H, share):
    """dpeepholes (3, H) += the sum over all rows of di c_{t-1}, df c_{t-1} and do c_t, for the vectors start ... stop.

    gates: the gradients of z; memory: c (N + M, Hp); layout: (S, w, block of o).
    """
    _, start, stop, _, _ = share
    (S, w, output), T = layout, len(offsets) - 1
    M, Hp = offsets[T], -(-H // w) * w
    for unit in range(start * LANES, min(stop * LANES, H), LANES):
        inside = min(LANES, H - unit)
        i = like(load_part(memory, 0, 0, 0), 0)
        f = o = i
        for t in range(T):
            before = N + offsets[t - 1] if t > 0 else 0
            for n in range(offsets[t + 1] - offsets[t]):
                m = offsets[t] + n
                z, c = (unit // w * M + m) * S + unit % w, load(memory, (before + n) * Hp + unit)
                i, f = i + load(gates, z) * c, f + load(gates, z + w) * c
                o = o + load(gates, z + output * w) * load(memory, (N + m) * Hp + unit)
        store_part(dpeepholes, unit, load_part(dpeepholes, unit, inside, 0) + i, inside)
        store_part(dpeepholes, H + unit, load_part(dpeepholes, H + unit, inside, 0) + f, inside)
        store_part(dpeepholes, 2 * H + unit, load_part(dpeepholes, 2 * H + unit, inside, 0) + o, inside)
