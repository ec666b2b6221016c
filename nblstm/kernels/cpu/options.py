"""Layers with options: layer normalisation, peepholes and projections, whose time loops are made when they are used.

    z = gain_ih norm(W x) + gain_hh norm(U h) + b,  o tanh(gain_c norm(c) + b_c)     Ba, Kiros & Hinton 2016, eq. 20-22
    z_i, z_f += p c_{t-1},  z_o += p c_t                                              Gers & Schmidhuber 2002
    h = W_hr (o tanh(c))                                                              Sak, Senior & Beaufays 2014

A row is normalised over all gates, and projected from all units, so it needs all panels: every thread has all units of
its texts, and none shares one. What stands in lanes behind the last unit is zero where a sum may see it.

Names: P panels of w units, S columns of a panel, `columns` of them that W x or U h fill, M rows, Hp = w * P, R numbers
in h. Arrays are flat, or addressed by flat offsets; a kernel's last argument is its share of the texts.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from nblstm.kernels.cpu.functions import sigmoid, tanh
from nblstm.kernels.cpu.jit import inlined, named
from nblstm.kernels.cpu.norms import (
    gain_gradients,
    inputs_backward,
    moments,
    normalize,
    normalize_backward,
    normalize_inputs,
    peephole_gradients,
    squash_gradients,
)
from nblstm.kernels.cpu.products import IN_ORDER, ROWS, Columns, pack, pack_inputs, panels, product, weight_gradient
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor
from nblstm.kernels.cpu.vectors import LANES, lane_sum, like, load, load_part, store, store_part
from nblstm.kernels.threads import Share, parallel_for


class Options(NamedTuple):
    """What the options of a layer need, empty where it does not have them."""

    hidden: np.ndarray  # (P, M, columns): norm(U h)
    scale: np.ndarray  # (M,): 1 / sigma of U h
    gain: np.ndarray  # (P, columns): gain_hh
    memory: np.ndarray  # (M, 2): mean and 1 / sigma of c
    squash: np.ndarray  # (2, Hp): gain_c and bias_c
    peepholes: np.ndarray  # (3, Hp): p of i, f and o
    out: np.ndarray  # (M, H): o tanh(c); y where it is not projected
    projection: np.ndarray  # W_hr in panels: forward (., H, 64), of out @ W_hr.T; backward (., R, 64), of dh @ W_hr
    tail: np.ndarray


class OptionSlopes(NamedTuple):
    """Gradients inside a layer with options."""

    dhidden: np.ndarray  # (P, M, columns): of U h
    dnormed: np.ndarray  # (M, Hp): of gain_c norm(c) + bias_c
    dout: np.ndarray  # (M, H): of out, then of z_o; dy where it is not projected


# ---------------------------------------------------------------- the time loops


def name_of(layout, normed, peepholes, projected):
    """What the kernels of a layout with these options are called."""
    chosen = [("normed", normed), ("peephole", peepholes), ("projected", projected)]
    return "_".join([word for word, on in chosen if on] + [layout.name])


def _gate_reader(layout, normed, peepholes, projected):
    """The function that makes the gates of a row of z, and its c and o tanh(c) of them."""
    cell, S, w, output, (column, order) = layout.cell, layout.S, layout.w, layout.output, layout.hidden
    columns = len(order) * w

    def read_gates(gates, memory, options, m, before, after, H, M):
        """out[m] and memory[after] of the row m of gates: norm(U h), if there is one, is added here."""
        Hp = -(-H // w) * w
        for p in range(-(-H // w)):
            z = (p * M + m) * S
            for j in range(0, columns if normed else 0, LANES):
                value = load(options.hidden, (p * M + m) * columns + j) * load(options.gain, p * columns + j)
                store(gates, z + column + j, load(gates, z + column + j) + value)
            for unit in range(p * w, min((p + 1) * w, H), LANES):
                at, c = z + unit - p * w, load(memory, before * Hp + unit)
                z_o = c
                if peepholes:
                    store(gates, at, load(gates, at) + load(options.peepholes, unit) * c)
                    store(gates, at + w, load(gates, at + w) + load(options.peepholes, Hp + unit) * c)
                    z_o = load(gates, at + output * w)
                new, hidden = cell(gates, at, c)
                if peepholes:
                    o = sigmoid(z_o + load(options.peepholes, 2 * Hp + unit) * new)
                    store(gates, at + output * w, o)
                    hidden = o * tanh(new)
                store(memory, after * Hp + unit, new)
                store_part(options.out, m * H + unit, hidden, min(LANES, H - unit))

    return named(read_gates, f"read_gates_{name_of(layout, normed, peepholes, projected)}", inlined)


@cache
def forward_of(layout, normed, peepholes, projected):
    """The forward kernel of a layout with these options."""
    multiply, S, w, output, (column, order) = layout.multiply_hh, layout.S, layout.w, layout.output, layout.hidden
    read_gates, columns = _gate_reader(layout, normed, peepholes, projected), len(order) * w
    squashes = normed and output >= 0

    def forward(y, gates, memory, inputs, h0, weight_hh, options, offsets, sizes, given):
        """Take the share's texts of `recurrent_forward` through all steps."""
        share, (N, H, R), (table, index, unique) = Share(*given), sizes, inputs
        n0, n1, P, T = share.start, share.stop, -(-H // w), len(offsets) - 1
        M, Hp = offsets[T], P * w
        for t in range(T):
            first = offsets[t] + n0
            rows = min(n1, offsets[t + 1] - offsets[t]) - n0
            if rows <= 0:
                break  # shorter texts stand last
            if t == 0:
                h, start, before = h0, n0 * R, n0
            else:
                h, start, before = y, (offsets[t - 1] + n0) * R, N + offsets[t - 1] + n0
            for p in range(P):
                z, u = (p * M + first) * S, (p * M + first) * columns
                for r in range(rows if unique > 0 else 0):
                    for j in range(0, S, LANES):
                        store(gates, z + r * S + j, load(table, (p * unique + index[first + r]) * S + j))
                if columns > 0:
                    A, C = Factor(h, start, R, 0, 1, R), Block(gates, z + column, S)
                    if normed:
                        for i in range(u, u + rows * columns):
                            options.hidden[i] = 0
                        C = Block(options.hidden, u, columns)
                    multiply(C, rows, A, weight_hh, p * R * columns)
            for m in range(first, first + rows):
                if normed and columns > 0:
                    C = Block(options.hidden, m * columns, M * columns)
                    options.scale[m] = normalize(C, C, (H, w, columns))
                read_gates(gates, memory, options, m, before + m - first, N + m, H, M)
                if squashes:  # out = o tanh(gain_c norm(c) + bias_c)
                    c = (N + m) * Hp
                    mean, scale = moments(Block(memory, c, w), (H, w, w))
                    options.memory[2 * m], options.memory[2 * m + 1] = mean, scale
                    for unit in range(0, H, LANES):
                        o = load(gates, (unit // w * M + m) * S + output * w + unit % w)
                        value = (load(memory, c + unit) - mean) * scale * load(options.squash, unit)
                        hidden = o * tanh(value + load(options.squash, Hp + unit))
                        store_part(options.out, m * H + unit, hidden, min(LANES, H - unit))
            if projected:
                for i in range(first * R, (first + rows) * R):
                    y[i] = 0
                for m in range(first, first + rows, ROWS):
                    A, B = Factor(options.out, m * H, H, 0, 1, H), Block(options.projection, 0, H * PANEL)
                    C, count = Block(y, m * R, R), min(ROWS, first + rows - m)
                    product(C, count, 0, -(-R // PANEL), A, B, options.tail, share.part * ROWS * LANES)

    return named(forward, f"_forward_{name_of(layout, normed, peepholes, projected)}")


def _squash_reader(layout, normed, peepholes, projected):
    """The function that differentiates o tanh(gain_c norm(c) + bias_c)."""
    S, w, output = layout.S, layout.w, layout.output

    def read_squash(slopes, gates, memory, options, m, c, H, M):
        """dout[m] becomes the gradient of z_o; dnormed[m]; returns two means of the gradient of norm(c)."""
        (_, dnormed, dout), Hp = slopes, -(-H // w) * w
        mean, scale = options.memory[2 * m], options.memory[2 * m + 1]
        first = like(load_part(dout, 0, 0, 0), 0)
        second = first
        for unit in range(0, H, LANES):
            inside = min(LANES, H - unit)
            o = load(gates, (unit // w * M + m) * S + output * w + unit % w)
            d, gain = load_part(dout, m * H + unit, inside, 0), load(options.squash, unit)
            norm = (load(memory, c + unit) - mean) * scale
            tanh_c = tanh(norm * gain + load(options.squash, Hp + unit))
            dn = d * o * (1.0 - tanh_c * tanh_c)  # out = o tanh(n)
            store(dnormed, m * Hp + unit, dn)
            store_part(dout, m * H + unit, d * tanh_c * o * (1.0 - o), inside)  # out = o tanh(n), o = sigmoid(z)
            first, second = first + dn * gain, second + dn * gain * norm
        return lane_sum(first) / H, lane_sum(second) / H

    return named(read_squash, f"read_squash_{name_of(layout, normed, peepholes, projected)}", inlined)


def _cell_reader(layout, normed, peepholes, projected):
    """The function that differentiates the gates of a row."""
    cell, S, w, output = layout.cell_backward, layout.S, layout.w, layout.output
    read_squash, squashes = _squash_reader(layout, normed, peepholes, projected), normed and output >= 0
    apart = squashes or peepholes  # whether o tanh(c) is differentiated here, and the cell's own function sees dc alone

    def read_cell(slopes, inner, gates, memory, options, m, rows, H, M):
        """The row m of gates becomes their gradients; rows: where c before, c and the gradient of c stand."""
        (_, dcs, _, dmemory), Hp, (before, after, carried), (mean, slope) = slopes, -(-H // w) * w, rows, (0.0, 0.0)
        if squashes:
            mean, slope = read_squash(inner, gates, memory, options, m, after * Hp, H, M)
        for unit in range(0, H, LANES):
            inside, at, z = min(LANES, H - unit), m * H + unit, (unit // w * M + m) * S + unit % w
            d, c = load_part(inner.dout, at, inside, 0), load(memory, after * Hp + unit)
            dc, dz_o = load(dmemory, carried * Hp + unit), d
            if dcs.size > 0:
                dc = dc + load_part(dcs, at, inside, 0)
            if squashes:
                scale = options.memory[2 * m + 1]
                norm = (c - options.memory[2 * m]) * scale
                dn = load(inner.dnormed, m * Hp + unit) * load(options.squash, unit)
                dc = dc + (dn - mean - norm * slope) * scale
            elif peepholes:
                o, tanh_c = load(gates, z + output * w), tanh(c)
                dz_o = d * tanh_c * o * (1.0 - o)  # out = o tanh(c), o = sigmoid(z)
                dc = dc + d * o * (1.0 - tanh_c * tanh_c)  # out = o tanh(c)
            if peepholes:
                dc = dc + dz_o * load(options.peepholes, 2 * Hp + unit)  # z_o = ... + p c
            own = like(d, 0) if apart else d
            dbefore = cell(gates, z, load(memory, before * Hp + unit), c, own, dc)
            if apart:
                store(gates, z + output * w, dz_o)
            if peepholes:  # z = ... + p c_prev
                dbefore = dbefore + load(gates, z) * load(options.peepholes, unit)
                dbefore = dbefore + load(gates, z + w) * load(options.peepholes, Hp + unit)
            store(dmemory, carried * Hp + unit, dbefore)

    return named(read_cell, f"read_cell_{name_of(layout, normed, peepholes, projected)}", inlined)


@cache
def backward_of(layout, normed, peepholes, projected):
    """The backward kernel of a layout with these options."""
    S, w, (column, order) = layout.S, layout.w, layout.hidden
    read_cell, columns = _cell_reader(layout, normed, peepholes, projected), len(order) * w

    def backward(slopes, inner, gates, memory, weight_hh, options, offsets, sizes, given):
        """Take the share's texts back through all steps; the gradient of h_{t-1} is added into dy of step t - 1."""
        share, (N, H, R), (dy, _, dh, _) = Share(*given), sizes, slopes
        n0, n1, P, T, tail = share.start, share.stop, -(-H // w), len(offsets) - 1, share.part * ROWS * LANES
        M = offsets[T]
        for t in range(T - 1, -1, -1):
            first = offsets[t] + n0
            rows = min(n1, offsets[t + 1] - offsets[t]) - n0
            if rows <= 0:
                continue
            if projected:  # h = W_hr out
                for i in range(first * H, (first + rows) * H):
                    inner.dout[i] = 0
                for m in range(first, first + rows, ROWS):
                    A, B = Factor(dy, m * R, R, 0, 1, R), Block(options.projection, 0, R * PANEL)
                    C, count = Block(inner.dout, m * H, H), min(ROWS, first + rows - m)
                    product(C, count, 0, -(-H // PANEL), A, B, options.tail, tail)
            before = N + offsets[t - 1] + n0 if t > 0 else n0
            for r in range(rows):
                m = first + r
                read_cell(slopes, inner, gates, memory, options, m, (before + r, N + m, n0 + r), H, M)
                if normed and columns > 0:
                    d, own = Block(gates, m * S + column, M * S), Block(options.hidden, m * columns, M * columns)
                    du = Block(inner.dhidden, m * columns, M * columns)
                    normalize_backward(du, d, own, options.gain, options.scale[m], (H, w, columns))
            if t > 0:
                target, start = dy, (offsets[t - 1] + n0) * R
            else:
                target, start = dh, n0 * R
            for m in range(0, rows if columns > 0 else 0, ROWS):
                if normed:
                    A = Factor(inner.dhidden, (first + m) * columns, columns, M * columns, P, columns)
                else:
                    A = Factor(gates, (first + m) * S + column, S, M * S, P, columns)
                B, C = Block(weight_hh, 0, P * columns * PANEL), Block(target, start + m * R, R)
                product(C, min(ROWS, rows - m), 0, -(-R // PANEL), A, B, options.tail, tail)

    return named(backward, f"_backward_{name_of(layout, normed, peepholes, projected)}")


# ---------------------------------------------------------------- what a layer keeps


def flags(cell):
    """Which of the options a cell has, as the kernels are made for them."""
    return cell.layer_norm, cell.peepholes, cell.proj_size > 0


def option_work(layout, cell, M, N, rows, dtype):
    """Buffers of a layer with options: (its own, the sizes of those that layers share), by name."""
    w, H, R = layout.w, cell.hidden_size, cell.output_size
    P, (normed, _, projected) = panels(H, w), flags(cell)
    columns_ih, columns_hh = (len(order) * w if normed else 0 for _, order in (layout.inputs, layout.hidden))
    own = {
        "normed_ih": P * rows * columns_ih, "scale_ih": rows if normed else 0, "normed_hh": P * M * columns_hh,
        "scale_hh": M if normed else 0, "normed_c": 2 * M if normed else 0, "out": M * H if projected else 0,
    }  # fmt: skip
    scratch = {
        "gain_ih": P * columns_ih, "gain_hh": P * columns_hh, "squash": 2 * P * w, "no_bias": P * layout.S,
        "dhidden": P * M * columns_hh, "dnormed": M * P * w if normed else 0, "dout": M * H if projected else 0,
        "peepholes": 3 * P * w, "weight_hr": panels(R) * PANEL * panels(H) * PANEL if projected else 0,
        "dy": panels(R) * PANEL * M if projected else 0,
    }  # fmt: skip
    return {name: np.zeros(size, dtype) for name, size in own.items()}, scratch


def options_of(y, work, layout, weights, cell):
    """Put the options' vectors into panels; returns `Options`, W_hr not yet packed."""
    put_in_panels(work, layout, weights, cell)
    return Options(
        work["normed_hh"], work["scale_hh"], work["gain_hh"], work["normed_c"], work["squash"], work["peepholes"],
        work["out"] if cell.proj_size else y.reshape(-1), work["weight_hr"], work["tail"],
    )  # fmt: skip


def put_in_panels(work, layout, weights, cell):
    """Put the options' vectors into the panels of a work."""
    H, w = cell.hidden_size, layout.w
    P, (normed, peepholes, _) = panels(H, w), flags(cell)
    for side, (_, order) in (("ih", layout.inputs), ("hh", layout.hidden)):
        if normed and len(order):
            padded = np.zeros((len(order), P * w), work[f"gain_{side}"].dtype)
            padded[:, :H] = weights[f"gain_{side}"].reshape(-1, H)[order]
            rows = padded.reshape(len(order), P, w).transpose(1, 0, 2)
            work[f"gain_{side}"][: padded.size].reshape(rows.shape)[...] = rows
    if normed and cell.has_memory:
        squash = work["squash"][: 2 * P * w].reshape(2, P * w)
        squash[:, :H], squash[:, H:] = (weights["gain_c"], weights["bias_c"]), 0
    if peepholes:
        rows = work["peepholes"][: 3 * P * w].reshape(3, P * w)
        rows[:, :H], rows[:, H:] = weights["peepholes"], 0


# ---------------------------------------------------------------- both ways


def run_forward(edges, given, z, work, layout, offsets, weights, cell, threads, run):
    """Run the time loop of a layer with options. given: its first arguments; z (P, rows, S): the inputs' products."""
    y, h0, H, w, R, order = given[0], given[4], cell.hidden_size, layout.w, cell.output_size, layout.inputs[1]
    options = options_of(y, work, layout, weights, cell)
    if cell.layer_norm:
        rows = z.size // (panels(H, w) * layout.S)
        parallel_for(
            threads, normalize_inputs, rows, z, work["normed_ih"], work["scale_ih"], work["gain_ih"], work["bias"],
            layout.inputs[0], layout.S, (H, w, len(order) * w), rows,
        )  # fmt: skip
    if cell.proj_size:
        parallel_for(threads, pack, panels(R), work["weight_hr"], weights["weight_hr"], IN_ORDER, PANEL, R, H)
    N = len(h0) // R
    run(forward_of(layout, *flags(cell)), edges, *given, options, offsets, (N, H, R))


def run_backward(edges, slopes, grads, work, layout, offsets, weights, cell, threads, run):
    """Run the time loop back, and add the gradients of all but W, U and the inputs' gains. slopes: `Slopes`."""
    H, w, R, order, M = cell.hidden_size, layout.w, cell.output_size, layout.hidden[1], int(offsets[-1])
    dy, N, (column, _) = slopes[0], int(offsets[1]), layout.hidden
    options = options_of(dy, work, layout, weights, cell)
    if cell.proj_size:
        parallel_for(threads, pack_inputs, R, work["weight_hr"], weights["weight_hr"].reshape(-1), R, H)
    inner = OptionSlopes(work["dhidden"], work["dnormed"], work["dout"] if cell.proj_size else dy)
    gates, memory, kernel = work["gates"], work["memory"], backward_of(layout, *flags(cell))
    run(kernel, edges, slopes, inner, gates, memory, work["weight_hh"], options, offsets, (N, H, R))
    if cell.layer_norm and len(order):
        parallel_for(
            threads, gain_gradients, panels(H, w), grads["gain_hh"], grads["bias_hh"], order, gates, column, layout.S,
            work["normed_hh"], (H, w, len(order) * w), M,
        )  # fmt: skip
    if cell.layer_norm and cell.has_memory:
        parallel_for(
            threads, squash_gradients, panels(H, LANES), grads["gain_c"], grads["bias_c"], work["dnormed"], memory,
            work["normed_c"], N, H, panels(H, w) * w, M,
        )  # fmt: skip
    if cell.peepholes:
        parallel_for(
            threads, peephole_gradients, panels(H, LANES), grads["peepholes"].reshape(-1), gates, memory, offsets, N,
            (layout.S, w, layout.output), H,
        )  # fmt: skip
    if cell.proj_size:  # dweight_hr = dh.T @ out
        parallel_for(threads, pack_inputs, M, work["dy"], dy, M, R)
        parallel_for(threads, pack_inputs, M, work["inputs"], work["out"], M, H)
        dz = tuple(Columns(work["dy"], M, PANEL, 0, PANEL))
        parallel_for(
            threads, weight_gradient, panels(R) * panels(H), grads["weight_hr"].reshape(-1), (dy[:0], dz), IN_ORDER, PANEL, R,
            H, dz, work["inputs"], work["block"],
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
