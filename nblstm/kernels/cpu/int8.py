"""Decoding with int8 weights: the kernel that reads a token, and the weights and scratch that it needs.

As in `decoding`, but for what is multiplied: a layer's inputs and its state are rounded to whole numbers first, every part of
the threads for itself, then panels of small integers are multiplied with them (`int8_tiles`). Equal to `reference.int8` in
every sum. The vectors of tokens are whole numbers already.

Names: as in `decoding`; K numbers of a row that is rounded, Kp of them with the zeros behind, `columns` of a panel.
"""

from __future__ import annotations

import dataclasses
import mmap
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from nblstm.kernels.cpu.barrier import barrier, crowded
from nblstm.kernels.cpu.int8_tiles import DEPTH_MULTIPLE, MULTIPLY_INT8, START_ROWS, Activations, Int8Panels
from nblstm.kernels.cpu.jit import jit, made_once, named, shared
from nblstm.kernels.cpu.layouts import units_of
from nblstm.kernels.cpu.machine import GROUP
from nblstm.kernels.cpu.products import IN_ORDER, panels
from nblstm.kernels.cpu.recurrent import gate_panels
from nblstm.kernels.cpu.tiles import PANEL, Block
from nblstm.kernels.cpu.vectors import (
    LANES,
    lane_max,
    lane_sum,
    larger,
    like,
    load,
    load_part,
    store,
    store_part,
)
from nblstm.kernels.cpu.whole import store_numbers, store_rounded
from nblstm.kernels.reference.int8 import LEAST, steps_of, values
from nblstm.kernels.threads import parallel_for

NOTHING = np.empty((0, 0), np.int8)  # the U of cells that have none
TOGETHER = (
    1 << 12
)  # numbers of panels that are computed before the cell's equations: weights are then read without a pause
LINE, HUGE, LARGE = 64, 1 << 21, 1 << 22  # bytes of a cache line, of a huge page, and of an array that deserves some


class Int8Net(NamedTuple):
    """The packed weights of a network, only read."""

    numbers: np.ndarray  # int8: W and U of every layer, the head: `Int8Panels`
    places: np.ndarray  # (2 L + 1,) int64: where each of them begins
    embedding: np.ndarray  # (V, E) float32 flat; empty where no residual layer adds it
    table: np.ndarray  # (P, kept, S) float32 flat: the first layer's projections of the first tokens
    floats: (
        np.ndarray
    )  # float32: of every layer b (P, S) and the scales of W and U (P, columns), then those of the head
    offsets: np.ndarray  # (3 L + 2,) int64: where each of them begins
    tokens: np.ndarray  # (V, E) int8 flat
    units: np.ndarray  # (V,) float32: what the numbers of a token are in
    steps: np.ndarray  # (3,) float32: `steps_of` E, H and F
    depths: np.ndarray  # (3,) int64: of panels that are multiplied with so many numbers
    widths: np.ndarray  # (2,) int64: room for a row of what a layer or the head reads, and for one of the state
    z: np.ndarray  # of each part room for some panels of N texts, and for TOGETHER numbers at least
    joined: np.ndarray  # float32, (threads, F): what the head reads of a text, where it reads h and memory
    whole: np.ndarray  # int16, of each part (N, widths[0]) for inputs, and (N, widths[1]) for the state
    of_rows: np.ndarray  # float32, of each part the units of both: (2 N,)


int8_layout = made_once(lambda layout: dataclasses.replace(layout, name=f"{layout.name}_int8", int8=True))


def padded(K, multiple=LANES):
    """K rounded up to whole vectors, or to another multiple."""
    return -(-K // multiple) * multiple


def aligned(shape, dtype):
    """An array that begins where a cache line does: vectors of 64 bytes that cross two take longer to load.

    A large one has pages of 2 MiB where the system has some: from memory of its own, as what was freed is in small ones.
    """
    size, start = int(np.prod(shape)) * np.dtype(dtype).itemsize, LINE
    if size < LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        room = np.empty(size + LINE, np.uint8)
    else:
        start = HUGE
        own = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # of a system without such pages
            own.madvise(mmap.MADV_HUGEPAGE)
        room = np.frombuffer(own, np.uint8)
    skip = -room.ctypes.data % start
    return room[skip : skip + size].view(dtype).reshape(shape)


def depth_of(K):
    """Rows of the packed panel, see `Int8Panels`, that is multiplied with K numbers."""
    return START_ROWS + padded(K, DEPTH_MULTIPLE) // GROUP


# ---------------------------------------------------------------- packing


@jit
def _pack_groups(packed, place, numbers, order, w, size, K, depth, share):
    """The panels start ... stop, (depth, columns, GROUP) each: row i has numbers[order[g] * size + p * w + j, GROUP i ...]
    in column g * w + j. Where rows stand before them it is the second one; the first is what the sums start from.
    """
    _, start, stop, _, _ = share
    source, columns = numbers.reshape(-1), len(order) * w
    for p in range(start, stop):
        for g in range(len(order)):
            for j in range(w):
                row, target = p * w + j, place + (p * depth * columns + g * w + j) * GROUP
                if row < size:
                    first, total = (order[g] * size + row) * K, 0
                    for k in range(K):
                        number = source[first + k]
                        packed[target + (START_ROWS + k // GROUP) * columns * GROUP + k % GROUP] = number
                        total += number
                    for k in range(GROUP * START_ROWS):  # the bytes of an int32
                        packed[target + k] = np.int8(-128 * total >> 8 * k & 255)


def _packed_matrices(net, layout, threads):
    """(numbers, places) of `Int8Net`."""
    H, V, w = net.cells[0].hidden_size, len(net.head_bias), layout.w
    orders = layout.inputs[1], layout.hidden[1]
    matrices = [
        (weights[name].numbers if len(order) else NOTHING, order, w, H)
        for weights in net.layers
        for name, order in zip(("weight_ih", "weight_hh"), orders)
    ]
    matrices.append((net.head_weight.numbers, IN_ORDER, PANEL, V))
    depths = [depth_of(matrix.shape[1]) for matrix, *_ in matrices]
    sizes = [GROUP * depth * panels(size, w) * len(order) * w for depth, (_, order, w, size) in zip(depths, matrices)]
    places = np.cumsum([0, *sizes])
    numbers = aligned(places[-1], np.int8)
    numbers.fill(0)
    for place, depth, (matrix, order, w, size) in zip(places, depths, matrices):
        parallel_for(
            threads, _pack_groups, panels(size, w) if len(order) else 0, numbers, place, matrix, order, w, size,
            matrix.shape[1], depth,
        )  # fmt: skip
    return numbers, places[:-1]


def _packed_floats(net, layout):
    """(floats, offsets) of `Int8Net`."""
    H, V, w = net.cells[0].hidden_size, len(net.head_bias), layout.w
    P, PV, parts = panels(H, w), panels(V), []
    for weights in net.layers:
        bias = np.zeros(P * layout.S, np.float32)
        gate_panels(bias, weights, layout, P, H)
        parts.append(bias)
        for (_, order), name in ((layout.inputs, "weight_ih"), (layout.hidden, "weight_hh")):
            scales = np.zeros((len(order), P * w), np.float32)
            if len(order):
                scales[:, :H] = weights[name].scales.reshape(-1, H)[order]
            parts.append(scales.reshape(len(order), P, w).transpose(1, 0, 2).reshape(-1))
    for column in (net.head_weight.scales, net.head_bias):
        parts.append(np.zeros(PV * PANEL, np.float32))
        parts[-1][:V] = column
    return np.concatenate(parts), np.cumsum([0, *map(len, parts[:-1])])


def int8_weights(net, layout, threads, kept_bytes):
    """See `decoding.decode_weights`, of `Int8` matrices. kept_bytes: room for projected tokens."""
    (V, E), (rows, F), L, H = net.embedding.shape, net.head_weight.shape, len(net.cells), net.cells[0].hidden_size
    layout, S, P = int8_layout(layout), layout.S, panels(H, layout.w)
    numbers, places = _packed_matrices(net, layout, threads)
    floats, offsets = _packed_floats(net, layout)
    kept, nothing = min(V, kept_bytes // (P * S * 4)), np.empty(0, np.float32)
    steps, depths = np.array([steps_of(K) for K in (E, H, F)], np.float32), np.array([depth_of(K) for K in (E, H, F)])
    embedding = values(net.embedding).reshape(-1) if net.residual else nothing
    widths = np.array([padded(max(E, H, F)), padded(H)])
    whole, of_rows = np.empty((threads, padded(E)), np.int16), np.empty((threads, 1), np.float32)
    packed = Int8Net(
        numbers, places, embedding, aligned(P * kept * S, np.float32), floats, offsets,
        np.ascontiguousarray(net.embedding.numbers).reshape(-1), net.embedding.scales, steps, depths, widths,
        nothing[None], nothing[None], whole, of_rows,
    )  # fmt: skip
    parallel_for(threads, _projection(layout), kept, packed, kept, E, H)
    return {"layout": layout, "sizes": (L, E, H, rows, F, net.residual), "net": packed}


def int8_scratch(packed, z, N, F):
    """The net with room for up to N texts. z: that of `decoding`; F: numbers that the head sees."""
    whole = np.empty((len(z), N * int(packed.widths.sum())), np.int16)
    joined = np.empty((len(z), F), np.float32)
    z = aligned((len(z), padded(max(z.shape[1], TOGETHER))), np.float32)
    return packed._replace(z=z, joined=joined, whole=whole, of_rows=np.empty((len(z), 2 * N), np.float32))


# ---------------------------------------------------------------- rounding


@shared
def magnitude(x, place, K):
    """The largest of |x[place : place + K]|, NaN where one is not finite."""
    most = like(load_part(x, place, min(LANES, K), 0), 0)
    lost = most
    for k in range(0, K, LANES):
        v = load_part(x, place + k, min(LANES, K - k), 0)
        most, lost = larger(most, larger(v, 0 - v)), lost + v * 0
    return lane_max(most) + lane_sum(lost)


@shared
def round_row(whole, at, x, place, K, most, steps):
    """whole[at:] = x[place : place + K] in steps of which `most` has `steps`, zeros behind up to a whole vector; the step."""
    seen = most > LEAST
    factor = steps / most if seen else steps * 0
    for k in range(0, K, LANES):
        store_rounded(whole, at + k, load_part(x, place + k, min(LANES, K - k), 0), factor)
    return most / steps if not most <= LEAST else most * 0


@shared
def widen_token(whole, at, net, token, E):
    """whole[at:] = the numbers of a token's vector, zeros behind; returns their unit."""
    for k in range(0, E, LANES):
        store_numbers(whole, at + k, net.tokens, token * E + k, min(LANES, E - k))
    return net.units[token]


@made_once
def _projection(layout):
    """The kernel that fills the table of `Int8Net`."""
    S, w, (column, order) = layout.S, layout.w, layout.inputs
    columns = len(order) * w
    multiply = MULTIPLY_INT8[columns]

    def project(net, kept, E, H, share):
        """table[p, token] = W x + b of the tokens start ... stop"""
        part, start, stop, _, _ = share
        P, depth, bias, scales = -(-H // w), net.depths[0], net.offsets[0], net.offsets[1]
        at, units = part * net.whole.shape[1], net.of_rows.reshape(-1)
        for token in range(start, stop):
            units[part] = widen_token(net.whole, at, net, token, E)
            x = Activations(net.whole, at, 0, net.of_rows, part)
            for p in range(P):
                for j in range(0, S, LANES):
                    store(net.table, (p * kept + token) * S + j, load(net.floats, bias + p * S + j))
            W = Int8Panels(net.numbers, 0, net.floats, scales, depth)
            multiply(Block(net.table, token * S + column, S), kept * S, 1, x, W, 0, P)

    return named(project, f"_project_{layout.name}")


# ---------------------------------------------------------------- reading


@shared
def _round_inputs(state, outputs, layer, reading, reader, kept, share):
    """The inputs of a layer and its state, of the part's texts, as whole numbers: see `Int8Net.whole`."""
    (_, E, H, _, _, _), net, n0 = reader.sizes, reader.net, share.start
    (tokens, t0, stride), rows, units = reading, share.stop - share.start, net.of_rows.reshape(-1)
    width, Hp = net.widths[0], net.widths[1]
    at, first, N = share.part * net.whole.shape[1], share.part * net.of_rows.shape[1], reader.N
    for r in range(rows):
        row = (layer * N + n0 + r) * H
        if layer > 0:
            x = outputs + row - N * H
            units[first + r] = round_row(
                net.whole, at + r * width, state.h, x, H, magnitude(state.h, x, H), net.steps[1]
            )
        else:
            token = max(tokens[t0 + (n0 + r) * stride], 0)
            if token >= kept:
                units[first + r] = widen_token(net.whole, at + r * width, net, token, E)
        h = state.before + row
        units[first + N + r] = round_row(
            net.whole, at + N * width + r * Hp, state.h, h, H, magnitude(state.h, h, H), net.steps[1]
        )


@shared
def _read_int8_head(logits, state, outputs, reader, v0, v1, share):
    """The panels v0 ... v1 of logits = W y + b, or W [y, c] + b; y (N, H) at state.h[outputs:], c the last layer's memory."""
    (L, _, H, V, F, _), net, n0, N = reader.sizes, reader.net, share.start, reader.N
    rows, scratch, units = share.stop - n0, share.part * net.z.shape[1], net.of_rows.reshape(-1)
    width, depth = net.widths[0], net.depths[2]
    at, first, c = share.part * net.whole.shape[1], share.part * net.of_rows.shape[1], (L - 1) * N * H
    for r in range(rows):
        row, place = state.h, outputs + (n0 + r) * H
        if F > H:
            row, place, joined = net.joined.reshape(-1), share.part * F, net.joined[share.part]
            for j in range(H):
                joined[j], joined[H + j] = state.h[outputs + (n0 + r) * H + j], state.memory[c + (n0 + r) * H + j]
        units[first + r] = round_row(net.whole, at + r * width, row, place, F, magnitude(row, place, F), net.steps[2])
    x = Activations(net.whole, at, width, net.of_rows, first)
    scales, bias, head = net.offsets[3 * L], net.offsets[3 * L + 1], net.places[2 * L]
    weight, many = Int8Panels(net.numbers, head, net.floats, scales, depth), net.z.shape[1] // (rows * PANEL)
    for first_panel in range(v0, v1, many):
        after = min(first_panel + many, v1)
        for p in range(first_panel, after):
            for r in range(rows):
                for j in range(0, PANEL, LANES):
                    store(
                        net.z,
                        scratch + ((p - first_panel) * rows + r) * PANEL + j,
                        load(net.floats, bias + p * PANEL + j),
                    )
        _multiply_head(Block(net.z, scratch, PANEL), rows * PANEL, rows, x, weight, first_panel, after)
        for p in range(first_panel, after):
            for r in range(rows):
                for j in range(0, min(PANEL, V - p * PANEL), LANES):
                    v, found = p * PANEL + j, load(net.z, scratch + ((p - first_panel) * rows + r) * PANEL + j)
                    store_part(logits, (n0 + r) * V + v, found, min(LANES, V - v))


_multiply_head = MULTIPLY_INT8[PANEL]


def int8_token_reader(layout, add_inputs):
    """`decoding.token_reader` of networks with int8 weights. add_inputs: what residual layers do."""
    cell, S, w = layout.cell, layout.S, layout.w
    (column_ih, order_ih), (column_hh, order_hh) = layout.inputs, layout.hidden
    columns_ih, columns_hh = len(order_ih) * w, len(order_hh) * w
    multiply_ih, multiply_hh = MULTIPLY_INT8[columns_ih], MULTIPLY_INT8[columns_hh]

    def read_token(logits, state, reading, reader, share, round_):
        """Read a token of each text: see `decoding.token_reader`."""
        (L, _, H, V, _, residual), N, part, n0 = reader.sizes, reader.N, share.part, share.start
        (states, _, after, memory), (tokens, t0, stride), net = state, reading, reader.net
        P, PV = -(-H // w), -(-V // PANEL)
        kept = net.table.size // (P * S)
        p0, p1 = units_of(P, share)
        v0, v1 = units_of(PV, share)
        rows, scratch, outputs = share.stop - n0, part * net.z.shape[1], 2 * L * N * H if residual else after
        width, Hp = net.widths[0], net.widths[1]
        at, first, many = part * net.whole.shape[1], part * net.of_rows.shape[1], net.z.shape[1] // (rows * S)
        h = Activations(net.whole, at + N * width, Hp, net.of_rows, first + N)
        for layer in range(L):
            _round_inputs(state, outputs, layer, reading, reader, kept, share)
            bias, scales_ih, scales_hh = net.offsets[3 * layer], net.offsets[3 * layer + 1], net.offsets[3 * layer + 2]
            weight_ih, weight_hh = net.places[2 * layer], net.places[2 * layer + 1]
            W = Int8Panels(net.numbers, weight_ih, net.floats, scales_ih, net.depths[0 if layer == 0 else 1])
            U = Int8Panels(net.numbers, weight_hh, net.floats, scales_hh, net.depths[1])
            for q0 in range(p0, p1, many):
                q1 = min(q0 + many, p1)
                for p in range(q0, q1):
                    for r in range(rows):
                        token = max(tokens[t0 + (n0 + r) * stride], 0) if layer == 0 else kept  # -1: of a lost text
                        for j in range(0, S, LANES):
                            if token < kept:
                                value = load(net.table, (p * kept + token) * S + j)
                            else:
                                value = load(net.floats, bias + p * S + j)
                            store(net.z, scratch + ((p - q0) * rows + r) * S + j, value)
                for r in range(rows if layer == 0 else 0):
                    if max(tokens[t0 + (n0 + r) * stride], 0) >= kept:
                        x = Activations(net.whole, at + r * width, width, net.of_rows, first + r)
                        multiply_ih(Block(net.z, scratch + r * S + column_ih, S), rows * S, 1, x, W, q0, q1)
                if layer > 0:
                    x = Activations(net.whole, at, width, net.of_rows, first)
                    multiply_ih(Block(net.z, scratch + column_ih, S), rows * S, rows, x, W, q0, q1)
                if columns_hh > 0:
                    multiply_hh(Block(net.z, scratch + column_hh, S), rows * S, rows, h, U, q0, q1)
                for p in range(q0, q1):
                    for unit in range(p * w, min((p + 1) * w, H), LANES):
                        count, skip = min(LANES, H - unit), unit - p * w + (p - q0) * rows * S
                        for r in range(rows):
                            place = (layer * N + n0 + r) * H + unit
                            new, hidden = cell(net.z, scratch + r * S + skip, load_part(memory, place, count, 0))
                            store_part(memory, place, new, count)
                            store_part(states, after + place, hidden, count)
            if residual:
                j0, j1 = p0 * w, min(p1 * w, H)
                add_inputs(state, outputs, layer, reading, net.embedding, reader, j0, j1, share)
            barrier(share.counter, share.parts, round_ + layer + 1)
        if logits.size > 0:
            _read_int8_head(logits, state, outputs + (L - 1) * N * H, reader, v0, v1, share)
        crowded(share.counter, part)
        barrier(share.counter, share.parts, round_ + L + 1)

    return named(read_token, f"read_token_{layout.name}")
