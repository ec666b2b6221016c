"""Decoding of layers with options: layer normalisation, peepholes and projections, token by token.

A token of a text needs all units of a layer before the next one (see `options`), so threads share texts, never units. A
layer's step is one of the time loop that training has; what is read of the weights stands in one array.

Names: as in `decoding` and `options`; R numbers in h, H units.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from nblstm.kernels.cpu.barrier import barrier, crowded
from nblstm.kernels.cpu.jit import inlined, made_once, named, shared
from nblstm.kernels.cpu.layouts import units_of
from nblstm.kernels.cpu.norms import normalize_inputs
from nblstm.kernels.cpu.options import Options, flags, forward_of, name_of, option_work, put_in_panels
from nblstm.kernels.cpu.products import IN_ORDER, ROWS, pack, panels
from nblstm.kernels.cpu.recurrent import gate_panels
from nblstm.kernels.cpu.tiles import PANEL, Factor
from nblstm.kernels.cpu.vectors import LANES, load, store
from nblstm.kernels.threads import Share, parallel_for

PARTS = "weight_ih", "weight_hh", "bias", "gain_ih", "gain_hh", "squash", "peepholes", "weight_hr"  # of a layer, packed


class OptionRoom(NamedTuple):
    """Scratch for N texts, flat; a text's rows are its thread's."""

    gates: np.ndarray  # (P, N, S)
    normed: np.ndarray  # (P, N, columns): norm(W x)
    hidden: np.ndarray  # (P, N, columns): norm(U h)
    scales: np.ndarray  # (2, N): 1 / sigma of both
    memory: np.ndarray  # (2 N, Hp): c before and after
    moments: np.ndarray  # (N, 2) of c
    out: np.ndarray  # (N, H): o tanh(c), where it is projected
    x: np.ndarray  # (N, E): vectors of tokens
    no_bias: np.ndarray  # (P, S): zeros
    tail: np.ndarray


class OptionNet(NamedTuple):
    """The packed weights of a network, only read, and a caller's scratch."""

    packed: np.ndarray  # PARTS of every layer, then the head's weight (PV, F, 64) and bias (PV, 64)
    offsets: np.ndarray  # (8 L + 2,) int64: where each of them begins
    embedding: np.ndarray  # (V, E) flat
    table: np.ndarray  # (P, kept, S): the first layer's inputs of the first tokens, normalised
    H: int
    room: OptionRoom
    z: np.ndarray  # room for a panel of the head's in each part


def _option_layout(key):
    """The layout of a cell with these options, where a token is read."""
    layout, chosen = key
    return dataclasses.replace(layout, name=f"{name_of(layout, *chosen)}_token", options=key)


option_layout = made_once(_option_layout)  # of (layout, `flags`)


# ---------------------------------------------------------------- packing


def _packed_layer(layout, cell, weights, dtype, threads):
    """The PARTS of a layer, an array each."""
    H, D, R, w = cell.hidden_size, cell.input_size, cell.output_size, layout.w
    P, (_, order_ih), (_, order_hh) = panels(H, w), layout.inputs, layout.hidden
    sizes = option_work(layout, cell, 1, 1, 1, dtype)[1] | {
        "weight_ih": P * D * len(order_ih) * w, "weight_hh": P * R * len(order_hh) * w, "bias": P * layout.S,
        "weight_hr": panels(R) * H * PANEL if cell.proj_size else 0,
    }  # fmt: skip
    parts = {name: np.zeros(sizes[name], dtype) for name in PARTS}
    parallel_for(threads, pack, P, parts["weight_ih"], weights["weight_ih"], order_ih, w, H, D)
    if layout.is_recurrent:
        parallel_for(threads, pack, P, parts["weight_hh"], weights["weight_hh"], order_hh, w, H, R)
    if cell.proj_size:
        parallel_for(threads, pack, panels(R), parts["weight_hr"], weights["weight_hr"], IN_ORDER, PANEL, R, H)
    gate_panels(parts["bias"], weights, layout, P, H)
    put_in_panels(parts, layout, weights, cell)
    return list(parts.values())


def _table(net, layout, parts, kept, threads):
    """`OptionNet.table`. parts: those of the first layer."""
    (W, _, bias, gain, *_), E, cell, S = parts, net.embedding.shape[1], net.cells[0], layout.S
    H, w, (column, order) = cell.hidden_size, layout.w, layout.inputs
    P, columns, embedding = panels(H, w), len(order) * w, net.embedding.reshape(-1)
    table = np.empty(P * kept * S, bias.dtype)
    first = np.zeros_like(bias) if cell.layer_norm else bias
    parallel_for(threads, layout.project, kept, table, embedding, W, first, P, kept, E)
    if cell.layer_norm:
        normed, scale = np.empty(P * kept * columns, bias.dtype), np.empty(kept, bias.dtype)
        parallel_for(
            threads, normalize_inputs, kept, table, normed, scale, gain, bias, column, S, (H, w, columns), kept
        )
    return table


def option_weights(net, layout, threads, kept_bytes):
    """See `decoding.decode_weights`, of cells with options. kept_bytes: room for projected tokens."""
    (V, E), (rows, F), cell, dtype = net.embedding.shape, net.head_weight.shape, net.cells[0], net.embedding.dtype
    parts = [_packed_layer(layout, *pair, dtype, threads) for pair in zip(net.cells, net.layers)]
    head, head_bias = (np.zeros(panels(rows) * size * PANEL, dtype) for size in (F, 1))
    parallel_for(threads, pack, panels(rows), head, net.head_weight, IN_ORDER, PANEL, rows, F)
    head_bias[:rows] = net.head_bias
    arrays = [*(array for layer in parts for array in layer), head, head_bias]
    kept = min(V, kept_bytes // (panels(cell.hidden_size, layout.w) * layout.S * dtype.itemsize))
    table = _table(net, layout, parts[0], kept, threads) if kept else np.empty(0, dtype)
    offsets = np.cumsum([0, *map(len, arrays[:-1])])
    packed = np.concatenate(arrays), offsets, net.embedding.reshape(-1), table, cell.hidden_size, None, None
    sizes = len(net.cells), E, cell.output_size, rows, F, net.residual
    return {"layout": option_layout((layout, flags(cell))), "sizes": sizes, "net": OptionNet(*packed)}


def option_scratch(weights, z, N, threads):
    """The net with room for up to N texts. z: as in `decoding`."""
    layout, E, net, dtype = weights["layout"], weights["sizes"][1], weights["net"], z.dtype
    (normed, _, projected), H, w, S = layout.options[1], net.H, layout.w, layout.S
    P, empty = panels(H, w), lambda size: np.zeros(size, dtype)
    columns_ih, columns_hh = (len(order) * w if normed else 0 for _, order in (layout.inputs, layout.hidden))
    return net._replace(z=z, room=OptionRoom(
        empty(P * N * S), empty(P * N * columns_ih), empty(P * N * columns_hh), empty(2 * N), empty(2 * N * P * w),
        empty(2 * N), empty(N * H if projected else 0), empty(N * E), empty(P * S), empty(threads * ROWS * LANES),
    ))  # fmt: skip


# ---------------------------------------------------------------- reading


@inlined
def _texts_of(share):
    """The part's texts, where several parts share them: alone with them, whatever it waits for."""
    first, last = units_of(share.stop - share.start, share)
    return share.start + first, share.start + last


def _inputs_reader(layout):
    """The function that makes the inputs of a layer's gates."""
    base, (normed, _, _) = layout.options
    S, w, (column, order), project = base.S, base.w, base.inputs, base.project
    columns = len(order) * w

    def read_inputs(x, D, net, layer, N, given):
        """room.gates (P, N, S) = W x + b, normalised or not, of the given share's rows of x (N, D)"""
        room, packed, P = net.room, net.packed, -(-net.H // w)
        weight, bias, gain = net.offsets[8 * layer], net.offsets[8 * layer + 2], net.offsets[8 * layer + 3]
        first = room.no_bias if normed else packed[bias : bias + P * S]
        project(room.gates, x, packed[weight : weight + P * D * columns], first, P, N, D, given)
        if normed:
            normalize_inputs(
                room.gates, room.normed, room.scales[:N], packed[gain : gain + P * columns],
                packed[bias : bias + P * S], column, S, (net.H, w, columns), N, given,
            )  # fmt: skip

    return named(read_inputs, f"read_inputs_{layout.name}", inlined)


def _step_maker(layout):
    """The function that takes the texts of a part through a layer."""
    base, chosen = layout.options
    w, (_, order), forward = base.w, base.hidden, forward_of(base, *chosen)
    columns, (_, _, projected) = len(order) * w, chosen

    def step(y, h, memory, net, layer, sizes, given):
        """y (N, R) = h of this step, from h (N, R) of the last one; memory (N, H) of the units in place."""
        (N, R), H, room, packed, at = sizes, net.H, net.room, net.packed, 8 * layer
        P = -(-H // w)
        Hp = P * w
        U, gain, squash, peepholes = net.offsets[at + 1], net.offsets[at + 4], net.offsets[at + 5], net.offsets[at + 6]
        projection, end = net.offsets[at + 7], net.offsets[at + 8]
        out = room.out if projected else y
        options = Options(
            room.hidden, room.scales[N:], packed[gain:squash], room.moments, packed[squash:peepholes],
            packed[peepholes:projection], out, packed[projection:end], room.tail,
        )  # fmt: skip
        for n in range(given[1], given[2]):
            for i in range(H):
                room.memory[n * Hp + i] = memory[n * H + i]
        inputs = (room.gates, EMPTY_INDEX, 0)
        weight = packed[U : U + P * R * columns]
        forward(y, room.gates, room.memory, inputs, h, weight, options, (0, N), (N, H, R), given)
        for n in range(given[1], given[2]):
            for i in range(H):
                memory[n * H + i] = room.memory[(N + n) * Hp + i]

    return named(step, f"step_{layout.name}", inlined)


EMPTY_INDEX = np.empty(0, np.int32)


def _layer_reader(layout):
    """The function that takes the texts of a part through a layer, from what the layer below or a token says."""
    S, w, read_inputs, step = layout.S, layout.w, _inputs_reader(layout), _step_maker(layout)

    def read_layer(state, outputs, reading, reader, layer, own):
        """h at h[after:] and memory of a layer, for the part's texts; outputs: where the layer below has left its own."""
        (_, E, R, _, _, _), N, net, (tokens, t0, stride) = reader.sizes, reader.N, reader.net, reading
        (states, before, after, memory), room, H, P = state, net.room, net.H, -(-net.H // w)
        first, kept = layer * N * R, net.table.size // (P * S)
        for n in range(own[1], own[2] if layer == 0 else own[1]):
            token = max(tokens[t0 + n * stride], 0)  # -1: of a text that is lost
            if token < kept:
                for p in range(P):
                    for j in range(0, S, LANES):
                        store(room.gates, (p * N + n) * S + j, load(net.table, (p * kept + token) * S + j))
            else:
                for i in range(E):
                    room.x[n * E + i] = net.embedding[token * E + i]
                read_inputs(room.x, E, net, 0, N, (own[0], n, n + 1, 1, own[4]))
        if layer > 0:
            x = outputs + first - N * R
            read_inputs(states[x : x + N * R], R, net, layer, N, own)
        y, h, c = after + first, before + first, layer * N * H
        step(states[y : y + N * R], states[h : h + N * R], memory[c : c + N * H], net, layer, (N, R), own)

    return named(read_layer, f"read_layer_{layout.name}", inlined)


def option_token_reader(layout, add_inputs, read_head):
    """`decoding.token_reader` of cells with options."""
    return reader_by_texts(layout.name, _layer_reader(layout), add_inputs, read_head)


def reader_by_texts(name, read_layer, add_inputs, read_head):
    """`decoding.token_reader` of layers that need all units of a text at once: several parts share texts, never units.

    They share the head's panels, too. read_layer: as `_layer_reader` makes it; add_inputs, read_head: what residual layers
    do, and the head.
    """

    def read_token(logits, state, reading, reader, share, round_):
        """Read a token of each text: see `decoding.token_reader`."""
        (L, _, R, V, _, residual), N, (states, _, after, memory) = reader.sizes, reader.N, state
        n0, n1 = _texts_of(share)
        H = memory.size // (L * N)  # of a layer that projects, other than R
        own, outputs = (share.part, n0, n1, 1, share.counter), 2 * L * N * R if residual else after
        for layer in range(L):
            read_layer(state, outputs, reading, reader, layer, own)
            if residual:
                add_inputs(state, outputs, layer, reading, reader.net.embedding, reader, 0, R, Share(*own))
            barrier(share.counter, share.parts, round_ + layer + 1)
        if logits.size > 0:
            v0, v1 = units_of(-(-V // PANEL), share)
            last, c = Factor(states, outputs + (L - 1) * N * R, R, 0, 1, R), Factor(memory, (L - 1) * N * H, H, 0, 1, H)
            read_head(logits, last, c, reader, v0, v1, share)
        crowded(share.counter, share.part)
        barrier(share.counter, share.parts, round_ + L + 1)

    return named(read_token, f"read_token_{name}", shared)
