"""Reading whole texts with int8 weights: all steps of a layer, then the next one, then the losses of the softmax.

The weights are those that `int8` has packed for decoding; `reference.reading` is the specification. W x of all rows is
computed first: rows as whole numbers, then panel by panel. The time loop reads U once a step. It waits for nobody where a
thread has texts of its own; a stream alone is shared by units. Nothing is kept for a backward pass.

Names: P panels of w units, S columns of a panel, `columns` of them that W x or U h fill, M rows, `width` numbers of a row
that is rounded, with the zeros behind it. Arrays are flat, or addressed by flat offsets; a kernel's last argument is its
share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nblstm.kernels.cpu.barrier import barrier, step_aside
from nblstm.kernels.cpu.head import HEAD_ROWS, Totals, logits_kernel, normalize_rows, totals_work
from nblstm.kernels.cpu.int8 import TOGETHER, aligned, magnitude, padded, round_row, widen_token
from nblstm.kernels.cpu.int8_tiles import MULTIPLY_INT8, Activations, Int8Panels
from nblstm.kernels.cpu.jit import inlined, jit, made_once, named
from nblstm.kernels.cpu.layouts import units_of
from nblstm.kernels.cpu.products import ROWS, panels
from nblstm.kernels.cpu.recurrent import by_texts, fair_edges
from nblstm.kernels.cpu.tiles import PANEL, Block
from nblstm.kernels.cpu.vectors import LANES, load, load_part, store, store_part
from nblstm.kernels.packed import last_rows
from nblstm.kernels.threads import Share, parallel_for

NO_MEMORY, NO_INDEX = np.empty(0, np.float32), np.empty(0, np.int32)


class RoundedRows(NamedTuple):
    """Rows of whole numbers, in units of their own."""

    numbers: np.ndarray  # (M, width) int16
    units: np.ndarray  # (M, 1) float32
    width: int


class PackedMatrix(NamedTuple):
    """Where a matrix stands: its panels in `Int8Net.numbers`, the scales of their columns in `Int8Net.floats`."""

    place: int
    scales: int
    depth: int


class LayerRoom(NamedTuple):
    """What a part of the threads has for a step: the state of its texts as whole numbers, and a panel of each."""

    numbers: np.ndarray  # (threads, N * width) int16
    units: np.ndarray  # (threads, N) float32
    width: int
    z: np.ndarray  # (threads, N * S) float32, and TOGETHER numbers at least


# ---------------------------------------------------------------- rows


@jit
def _round_rows(rows, x, K, steps, share):
    """The rows start ... stop of x (M, K) as `RoundedRows`."""
    _, start, stop, _, _ = share
    numbers, units, width = rows
    flat = units.reshape(-1)
    for m in range(start, stop):
        flat[m] = round_row(numbers, m * width, x, m * K, K, magnitude(x, m * K, K), steps)


@jit
def _widen_tokens(rows, net, ids, E, share):
    """The vectors of the tokens start ... stop of ids as `RoundedRows`: whole numbers already."""
    _, start, stop, _, _ = share
    numbers, units, width = rows
    flat = units.reshape(-1)
    for m in range(start, stop):
        flat[m] = widen_token(numbers, m * width, net, ids[m], E)


@made_once
def _projection(layout):
    """The kernel of the inputs of a layer."""
    S, (column, order) = layout.S, layout.inputs
    columns = len(order) * layout.w
    multiply = MULTIPLY_INT8[columns]

    def project(z, rows, net, weight, bias, P, share):
        """z (M, P, S) = W x + b of the rows start ... stop, in the columns of W x; b at net.floats[bias:]"""
        _, start, stop, _, _ = share
        (numbers, units, width), (place, scales, depth) = rows, weight
        for m in range(start, stop, ROWS):
            count = min(ROWS, stop - m)
            for r in range(m, m + count):
                for j in range(0, P * S, LANES):
                    store(z, r * P * S + j, load(net.floats, bias + j))
            x = Activations(numbers, m * width, width, units, m)
            W = Int8Panels(net.numbers, place, net.floats, scales, depth)
            multiply(Block(z, m * P * S + column, P * S), S, count, x, W, 0, P)

    return named(project, f"_read_inputs_{layout.name}")


# ---------------------------------------------------------------- the time loop


@made_once
def _forward(layout):
    """The time loop of a layer."""
    cell, S, w, (column, order) = layout.cell, layout.S, layout.w, layout.hidden
    columns = len(order) * w
    multiply = MULTIPLY_INT8[columns]

    def forward(outputs, inputs, state, net, weight, room, sizes, offsets, given):
        """Take the share's texts through all steps: y (M, H), cs (M, H) unless it is empty, memory (N, H) in place.

        inputs: z (R, P, S) and the row of it at a place, no index where they are in place. state: h0 (N, H), memory.
        """
        share, (y, cs), (z, index), (h0, memory), (H, steps) = Share(*given), outputs, inputs, state, sizes
        n0, n1, P, T, part = share.start, share.stop, -(-H // w), len(offsets) - 1, share.part
        p0, p1 = units_of(P, share)
        at, first_unit, scratch = part * room.numbers.shape[1], part * room.units.shape[1], part * room.z.shape[1]
        units, waited = room.units.reshape(-1), 0
        h = Activations(room.numbers, at, room.width, room.units, first_unit)
        U = Int8Panels(net.numbers, weight.place, net.floats, weight.scales, weight.depth)
        for t in range(T):
            first = offsets[t] + n0
            rows = min(n1, offsets[t + 1] - offsets[t]) - n0
            if rows <= 0:
                break  # shorter texts stand last
            before, start = (h0, n0 * H) if t == 0 else (y, (offsets[t - 1] + n0) * H)
            for r in range(rows if columns > 0 else 0):
                row = start + r * H
                units[first_unit + r] = round_row(
                    room.numbers, at + r * room.width, before, row, H, magnitude(before, row, H), steps
                )
            many = room.z.shape[1] // (rows * S)
            for q0 in range(p0, p1, many):
                q1 = min(q0 + many, p1)
                for p in range(q0, q1):
                    for r in range(rows):
                        place = ((index[first + r] if index.size > 0 else first + r) * P + p) * S
                        for j in range(0, S, LANES):
                            store(room.z, scratch + ((p - q0) * rows + r) * S + j, load(z, place + j))
                if columns > 0:
                    multiply(Block(room.z, scratch + column, S), rows * S, rows, h, U, q0, q1)
                for p in range(q0, q1):
                    for unit in range(p * w, min((p + 1) * w, H), LANES):
                        count, skip = min(LANES, H - unit), unit - p * w + (p - q0) * rows * S
                        for r in range(rows):
                            own, out = (n0 + r) * H + unit, (first + r) * H + unit
                            new, hidden = cell(room.z, scratch + r * S + skip, load_part(memory, own, count, 0))
                            store_part(memory, own, new, count)
                            store_part(y, out, hidden, count)
                            if cs.size > 0:
                                store_part(cs, out, new, count)
            barrier(share.counter, share.parts, t + 1)
            waited = step_aside(share.counter, share.part, waited)

    return named(forward, f"_read_{layout.name}")


# ---------------------------------------------------------------- the head


@inlined
def _multiply(C, rows, width, x, m, packed, p, D):
    """The product that `logits_kernel` makes of `RoundedRows` and a `PackedMatrix` in a net."""
    (numbers, units, step), (net, (place, scales, depth)) = x, packed
    weight = Int8Panels(net.numbers, place, net.floats, scales, depth)
    MULTIPLY_PANEL(C, 0, rows, Activations(numbers, m * step, step, units, m), weight, p, p + 1)


MULTIPLY_PANEL = MULTIPLY_INT8[PANEL]
_logits = logits_kernel("_int8_logits", _multiply)


# ---------------------------------------------------------------- what a network asks for


def reading_work(M, N, weights, threads):
    """See reference.reading_work."""
    layout, (L, _, H, V, F, _), net = weights["layout"], weights["sizes"], weights["net"]
    P, S, (width, Hp) = panels(H, layout.w), layout.S, map(int, net.widths)
    empty = lambda *shape: np.empty(shape, np.float32)
    bias = np.full(panels(V) * PANEL, -np.inf, np.float32)
    bias[:V] = net.floats[net.offsets[3 * L + 1] :][:V]
    z = aligned((threads, padded(max(N * S, TOGETHER))), np.float32)
    return {
        "z": aligned(M * P * S, np.float32), "y": [empty(M * H) for _ in range(2)], "cs": empty(M * H if F > H else 0),
        "rows": tuple(RoundedRows(np.empty((M, width), np.int16), empty(M, 1), width)),
        "room": LayerRoom(np.empty((threads, N * Hp), np.int16), empty(threads, N), Hp, z),
        **totals_work(M, V, np.float32, threads), "bias": bias,
    }  # fmt: skip


def read_texts(features, state, work, weights, ids, index, offsets, threads):
    """See reference.read_texts. weights: `decode_weights` of a net with int8 weights."""
    layout, (L, E, H, _, F, residual), net = weights["layout"], weights["sizes"], weights["net"]
    (h, c, _, _), M, P, edges = state, len(index), panels(H, layout.w), fair_edges(offsets, threads)
    last, x, rows = last_rows(offsets), None, len(ids)
    parallel_for(threads, _widen_tokens, rows, work["rows"], net, ids, E)
    for k in range(L):
        (bias, scales_ih, scales_hh), (W, U) = net.offsets[3 * k : 3 * k + 3], net.places[2 * k : 2 * k + 2]
        if k > 0:
            rows = M
            parallel_for(threads, _round_rows, rows, work["rows"], x.reshape(-1), H, net.steps[1])
        weight = PackedMatrix(W, scales_ih, net.depths[min(k, 1)])
        parallel_for(threads, _projection(layout), rows, work["z"], work["rows"], net, weight, bias, P)
        y = features if k == L - 1 and F == H else work["y"][k % 2][: M * H].reshape(M, H)
        cs = work["cs"] if k == L - 1 else NO_MEMORY
        memory = c[k] if c.size else h[k].copy()
        by_texts(
            threads, net.numbers[U : net.places[2 * k + 2]], _forward(layout), edges, (y.reshape(-1), cs),
            (work["z"], NO_INDEX if k else index), (h[k].reshape(-1), memory.reshape(-1)), net,
            PackedMatrix(U, scales_hh, net.depths[1]), work["room"], (H, net.steps[1]), offsets,
            steps=len(offsets) - 1,
        )  # fmt: skip
        h[k] = y[last]
        if residual and (k > 0 or E == H):
            y += net.embedding.reshape(-1, E)[ids[index]] if k == 0 else x
        x = y
    if F > H:
        features[:, :H], features[:, H:] = x, work["cs"][: M * H].reshape(M, H)


def read_losses(losses, work, weights, features, targets, threads):
    """See reference.read_losses."""
    (L, _, _, V, F, _), net, M = weights["sizes"], weights["net"], len(features)
    parallel_for(threads, _round_rows, M, work["rows"], features.reshape(-1), F, net.steps[2])
    P, blocks, totals = panels(V), panels(M, HEAD_ROWS), tuple(Totals(work["largest"], work["total"], work["chosen"]))
    head = PackedMatrix(net.places[2 * L], net.offsets[3 * L], net.depths[2])
    parallel_for(
        threads, _logits, P * blocks, work["logits"], False, totals, work["rows"], targets, work["bias"], (net, head), 0,
        (M, F, V),
    )  # fmt: skip
    parallel_for(threads, normalize_rows, M, losses, work["normalizer"], totals, P, M)
