"""Layer normalisation inside the time loop: z = gain_ih norm(W x) + gain_hh norm(U h) + b, h = o tanh(gain_c norm(c) + b_c).

Source: Ba, Kiros & Hinton 2016, eq. 20-22. A row is normalised over all gates, so it needs the products of all panels
before the first of its gates: every thread has all units of its texts, and none shares one. What stands in lanes behind
the last unit is zero where a sum may see it.

Names: P panels of w units, S columns of a panel, `columns` of them that W x or U h fill, M rows, Hp = w * P.
Arrays are flat, or addressed by flat offsets; a kernel's last argument is its share of the texts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nblstm.kernels.cpu.functions import tanh
from nblstm.kernels.cpu.jit import inlined, jit, made_once, named, shared
from nblstm.kernels.cpu.products import ROWS, panels, product
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor
from nblstm.kernels.cpu.vectors import LANES, lane_sum, like, load, load_part, store, store_part
from nblstm.kernels.threads import Share, parallel_for

EPSILON = 1e-5


class Normed(NamedTuple):
    """What the way back needs of a layer's norms, and their gains."""

    hidden: np.ndarray  # (P, M, columns): norm(U h)
    scale: np.ndarray  # (M,): 1 / sigma of U h
    gain: np.ndarray  # (P, columns): gain_hh
    memory: np.ndarray  # (M, 2): mean and 1 / sigma of c
    squash: np.ndarray  # (2, Hp): gain_c and bias_c


class NormedSlopes(NamedTuple):
    """The gradients of what is normalised."""

    dhidden: np.ndarray  # (P, M, columns): of U h
    dnormed: np.ndarray  # (M, Hp): of gain_c norm(c) + bias_c


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


# ---------------------------------------------------------------- the time loops


def _gate_reader(layout):
    """The function that makes the gates of a row, of the first layer's table or of z, and its c and h of them."""
    cell, S, w, (column, order) = layout.cell, layout.S, layout.w, layout.hidden
    columns = len(order) * w

    def read_gates(y, gates, memory, inputs, normed, m, before, after, H, M):
        """y[m], memory[after] of the row m of gates, whose norm(U h) is known; y without the norm of c."""
        (table, index, R), Hp = inputs, -(-H // w) * w
        for p in range(-(-H // w)):
            z = (p * M + m) * S
            if R > 0:
                for j in range(0, S, LANES):
                    store(gates, z + j, load(table, (p * R + index[m]) * S + j))
            for j in range(0, columns, LANES):
                value = load(normed.hidden, (p * M + m) * columns + j) * load(normed.gain, p * columns + j)
                store(gates, z + column + j, load(gates, z + column + j) + value)
            for unit in range(p * w, min((p + 1) * w, H), LANES):
                new, hidden = cell(gates, z + unit - p * w, load(memory, before * Hp + unit))
                store(memory, after * Hp + unit, new)
                store_part(y, m * H + unit, hidden, min(LANES, H - unit))

    return named(read_gates, f"read_gates_{layout.name}", inlined)


@made_once
def forward_of(layout):
    """The forward kernel of a layout with layer normalisation."""
    multiply, S, w, columns, output = (
        layout.multiply_hh,
        layout.S,
        layout.w,
        len(layout.hidden[1]) * layout.w,
        layout.output,
    )
    read_gates = _gate_reader(layout)

    def forward(y, gates, memory, inputs, h0, weight_hh, normed, offsets, sizes, given):
        """Take the share's texts of `recurrent_forward` through all steps."""
        share, (N, H) = Share(*given), sizes
        n0, n1, P, T = share.start, share.stop, -(-H // w), len(offsets) - 1
        M, Hp = offsets[T], P * w
        for t in range(T):
            first = offsets[t] + n0
            rows = min(n1, offsets[t + 1] - offsets[t]) - n0
            if rows <= 0:
                break  # shorter texts stand last
            if t == 0:
                h, start, before = h0, n0 * H, n0
            else:
                h, start, before = y, (offsets[t - 1] + n0) * H, N + offsets[t - 1] + n0
            for p in range(P if columns > 0 else 0):
                u = (p * M + first) * columns
                for i in range(u, u + rows * columns):
                    normed.hidden[i] = 0
                A = Factor(h, start, H, 0, 1, H)
                multiply(Block(normed.hidden, u, columns), rows, A, weight_hh, p * H * columns)
            for m in range(first, first + rows):
                if columns > 0:
                    u = Block(normed.hidden, m * columns, M * columns)
                    normed.scale[m] = normalize(u, u, (H, w, columns))
                read_gates(y, gates, memory, inputs, normed, m, before + m - first, N + m, H, M)
                if output >= 0:  # h = o tanh(gain_c norm(c) + bias_c)
                    c = (N + m) * Hp
                    mean, scale = moments(Block(memory, c, w), (H, w, w))
                    normed.memory[2 * m], normed.memory[2 * m + 1] = mean, scale
                    for unit in range(0, H, LANES):
                        o = load(gates, (unit // w * M + m) * S + output * w + unit % w)
                        value = (load(memory, c + unit) - mean) * scale * load(normed.squash, unit)
                        hidden = o * tanh(value + load(normed.squash, Hp + unit))
                        store_part(y, m * H + unit, hidden, min(LANES, H - unit))

    return named(forward, f"_forward_normed_{layout.name}")


def _squash_reader(layout):
    """The function that differentiates h = o tanh(gain_c norm(c) + bias_c)."""
    S, w, output = layout.S, layout.w, layout.output

    def read_squash(dy, dnormed, gates, memory, normed, m, c, H, M):
        """dy[m] = the gradient of z_o, dnormed[m], from dy, that of h; returns two means of the gradient of norm(c)."""
        Hp = -(-H // w) * w
        mean, scale = normed.memory[2 * m], normed.memory[2 * m + 1]
        first = like(load_part(dy, 0, 0, 0), 0)
        second = first
        for unit in range(0, H, LANES):
            inside = min(LANES, H - unit)
            o = load(gates, (unit // w * M + m) * S + output * w + unit % w)
            d, gain = load_part(dy, m * H + unit, inside, 0), load(normed.squash, unit)
            norm = (load(memory, c + unit) - mean) * scale
            tanh_c = tanh(norm * gain + load(normed.squash, Hp + unit))
            dn = d * o * (1.0 - tanh_c * tanh_c)  # h = o tanh(n)
            store(dnormed, m * Hp + unit, dn)
            store_part(dy, m * H + unit, d * tanh_c * o * (1.0 - o), inside)  # h = o tanh(n), o = sigmoid(z)
            first, second = first + dn * gain, second + dn * gain * norm
        return lane_sum(first) / H, lane_sum(second) / H

    return named(read_squash, f"read_squash_{layout.name}", inlined)


@made_once
def backward_of(layout):
    """The backward kernel of a layout with layer normalisation."""
    cell, S, w, (column, order), output = layout.cell_backward, layout.S, layout.w, layout.hidden, layout.output
    read_squash, columns = _squash_reader(layout), len(order) * w

    def backward(slopes, gates, memory, weight_hh, normed, dnorms, offsets, sizes, tail, given):
        """Take the share's texts back through all steps; the gradient of h_{t-1} is added into dy of step t - 1."""
        share, (N, H), (dy, dcs, dh, dmemory), (dhidden, dnormed) = Share(*given), sizes, slopes, dnorms
        n0, n1, P, Q, T = share.start, share.stop, -(-H // w), -(-H // PANEL), len(offsets) - 1
        M, Hp = offsets[T], P * w
        for t in range(T - 1, -1, -1):
            first = offsets[t] + n0
            rows = min(n1, offsets[t + 1] - offsets[t]) - n0
            if rows <= 0:
                continue
            before = N + offsets[t - 1] + n0 if t > 0 else n0
            for r in range(rows):
                m = first + r
                mean, slope = 0.0, 0.0
                if output >= 0:
                    mean, slope = read_squash(dy, dnormed, gates, memory, normed, m, (N + m) * Hp, H, M)
                for unit in range(0, H, LANES):
                    inside, at, z = min(LANES, H - unit), m * H + unit, (unit // w * M + m) * S + unit % w
                    d, carried = load_part(dy, at, inside, 0), (n0 + r) * Hp + unit
                    dm, c = load(dmemory, carried), load(memory, (N + m) * Hp + unit)
                    if dcs.size > 0:
                        dm = dm + load_part(dcs, at, inside, 0)
                    own = d
                    if output >= 0:  # the gradient of norm(c); what of o the cell's own equation says is written over
                        scale = normed.memory[2 * m + 1]
                        norm = (c - normed.memory[2 * m]) * scale
                        dn = load(dnormed, m * Hp + unit) * load(normed.squash, unit)
                        dm, own = dm + (dn - mean - norm * slope) * scale, like(d, 0)
                    dbefore = cell(gates, z, load(memory, (before + r) * Hp + unit), c, own, dm)
                    if output >= 0:
                        store(gates, z + output * w, d)
                    store(dmemory, carried, dbefore)
                if columns > 0:
                    d, own = Block(gates, m * S + column, M * S), Block(normed.hidden, m * columns, M * columns)
                    du = Block(dhidden, m * columns, M * columns)
                    normalize_backward(du, d, own, normed.gain, normed.scale[m], (H, w, columns))
            if t > 0:
                target, start = dy, (offsets[t - 1] + n0) * H
            else:
                target, start = dh, n0 * H
            for m in range(0, rows if columns > 0 else 0, ROWS):
                A = Factor(dhidden, (first + m) * columns, columns, M * columns, P, columns)
                B, C = Block(weight_hh, 0, P * columns * PANEL), Block(target, start + m * H, H)
                product(C, min(ROWS, rows - m), 0, Q, A, B, tail, share.part * ROWS * LANES)

    return named(backward, f"_backward_normed_{layout.name}")


# ---------------------------------------------------------------- what a layer keeps


def normed_work(layout, cell, M, N, rows, dtype):
    """Buffers of a layer with layer normalisation: (its own, those that layers share and their sizes), by name."""
    w = layout.w
    P = panels(cell.hidden_size, w)
    columns_ih, columns_hh = (len(order) * w for _, order in (layout.inputs, layout.hidden))
    own = {
        "normed_ih": P * rows * columns_ih, "scale_ih": rows, "normed_hh": P * M * columns_hh, "scale_hh": M,
        "normed_c": 2 * M,
    }  # fmt: skip
    shared_sizes = {
        "gain_ih": P * columns_ih, "gain_hh": P * columns_hh, "squash": 2 * P * w, "no_bias": P * layout.S,
        "dhidden": P * M * columns_hh, "dnormed": M * P * w,
    }  # fmt: skip
    return {name: np.zeros(size, dtype) for name, size in own.items()}, shared_sizes


def prepare(work, layout, weights, cell):
    """Put gains into panels; returns `Normed`."""
    H, w = cell.hidden_size, layout.w
    P = panels(H, w)
    for side, (_, order) in (("ih", layout.inputs), ("hh", layout.hidden)):
        if len(order):
            padded = np.zeros((len(order), P * w), work["squash"].dtype)
            padded[:, :H] = weights[f"gain_{side}"].reshape(-1, H)[order]
            rows = padded.reshape(len(order), P, w).transpose(1, 0, 2)
            work[f"gain_{side}"][: padded.size].reshape(rows.shape)[...] = rows
    if cell.has_memory:
        squash = work["squash"][: 2 * P * w].reshape(2, P * w)
        squash[0, :H], squash[1, :H] = weights["gain_c"], weights["bias_c"]
        squash[:, H:] = 0
    return Normed(work["normed_hh"], work["scale_hh"], work["gain_hh"], work["normed_c"], work["squash"])


def hidden_gradients(grads, work, layout, cell, M, N, threads):
    """Add the gradients of gain_hh, bias_hh, gain_c and bias_c of M rows of N texts, from what `backward_of` has left."""
    H, w, (column, order) = cell.hidden_size, layout.w, layout.hidden
    P = panels(H, w)
    if len(order):
        parallel_for(
            threads, gain_gradients, P, grads["gain_hh"], grads["bias_hh"], order, work["gates"], column, layout.S,
            work["normed_hh"], (H, w, len(order) * w), M,
        )  # fmt: skip
    if cell.has_memory:
        parallel_for(
            threads, squash_gradients, panels(H, LANES), grads["gain_c"], grads["bias_c"], work["dnormed"],
            work["memory"], work["normed_c"], N, H, P * w, M,
        )  # fmt: skip


def input_gradients(grads, work, layout, cell, dz, threads):
    """Add the gradients of gain_ih and bias_ih; dz, `Columns` of gain_ih norm(W x) + b_ih, becomes that of W x."""
    H, w, order, R = cell.hidden_size, layout.w, layout.inputs[1], dz.M
    sizes = H, w, dz.count
    parallel_for(
        threads, gain_gradients, panels(H, w), grads["gain_ih"], grads["bias_ih"], order, dz.z, dz.first, dz.stride,
        work["normed_ih"], sizes, R,
    )  # fmt: skip
    parallel_for(
        threads, inputs_backward, R, dz.z, work["normed_ih"], work["scale_ih"], work["gain_ih"], dz.first, dz.stride,
        sizes, R,
    )  # fmt: skip
