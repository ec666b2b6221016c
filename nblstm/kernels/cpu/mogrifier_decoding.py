"""Decoding of layers whose input and output gate each other: token by token, with weights packed once.

Every round needs all units of the one before it, so threads share texts, never units, as in `option_decoding`. A layer's
step is one of the time loop that training has. W x waits for h: there is no table of projected tokens.

Names: as in `decoding` and `mogrifier`.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from nblstm.kernels.cpu.jit import inlined, made_once, named
from nblstm.kernels.cpu.mogrifier import Kept, Matrices, pack_rounds, round_work, step_of
from nblstm.kernels.cpu.option_decoding import reader_by_texts
from nblstm.kernels.cpu.products import IN_ORDER, pack, panels
from nblstm.kernels.cpu.recurrent import gate_panels
from nblstm.kernels.cpu.rounds import put_row
from nblstm.kernels.cpu.tiles import PANEL
from nblstm.kernels.threads import parallel_for

PARTS = 4  # of a layer, packed: W, U, the biases and the matrices of the rounds


class RoundNet(NamedTuple):
    """The packed weights of a network, only read, and a caller's scratch for N texts; a text's rows are its thread's."""

    packed: np.ndarray  # the parts of every layer, then the head's weight (PV, F, 64) and bias (PV, 64)
    offsets: np.ndarray  # (4 L + 2,) int64: where each of them begins
    embedding: np.ndarray  # (V, E) flat
    table: np.ndarray  # empty; here for its type
    places: np.ndarray  # (L, count) int64, flat: where a round's matrix begins among those of its layer
    kept: Kept  # of a step: its x and h
    gates: np.ndarray  # (P, N, S)
    memory: np.ndarray  # (2 N, Hp): c before and after
    z: np.ndarray  # room for a panel of the head's in each part


rounds_layout = made_once(lambda layout: dataclasses.replace(layout, name=f"{layout.name}_rounds_token", rounds=layout))


def _packed_layer(layout, cell, weights, dtype, threads):
    """(the parts of a layer, an array each; where its rounds' matrices begin)."""
    H, D, w, order = cell.hidden_size, cell.input_size, layout.w, layout.inputs[1]
    P, count, scratch = panels(H, w), len(order) * w, round_work(layout, cell, 1, 1, 1)[1]
    W, U = np.zeros(P * D * count, dtype), np.zeros(P * H * count, dtype)
    bias, rounds = np.zeros(scratch["bias"], dtype), np.zeros(scratch["rounds"], dtype)
    parallel_for(threads, pack, P, W, weights["weight_ih"], order, w, H, D)
    parallel_for(threads, pack, P, U, weights["weight_hh"], order, w, H, H)
    gate_panels(bias, weights, layout, P, H)
    return [W, U, bias, rounds], pack_rounds(rounds, weights, cell, threads)


def round_weights(net, layout, threads):
    """See `decoding.decode_weights`, of cells whose input and output gate each other."""
    (_, E), (rows, F), dtype = net.embedding.shape, net.head_weight.shape, net.embedding.dtype
    layers = [_packed_layer(layout, *pair, dtype, threads) for pair in zip(net.cells, net.layers)]
    head, head_bias = (np.zeros(panels(rows) * size * PANEL, dtype) for size in (F, 1))
    parallel_for(threads, pack, panels(rows), head, net.head_weight, IN_ORDER, PANEL, rows, F)
    head_bias[:rows] = net.head_bias
    arrays = [*(array for parts, _ in layers for array in parts), head, head_bias]
    offsets, places = np.cumsum([0, *map(len, arrays[:-1])]), np.concatenate([places for _, places in layers])
    packed, none = np.concatenate(arrays), np.empty(0, dtype)
    round_net = RoundNet(packed, offsets, net.embedding.reshape(-1), none, places, Kept(*[none] * 4), *[none] * 3)
    sizes = len(net.cells), E, net.cells[0].hidden_size, rows, F, net.residual
    return {"layout": rounds_layout(layout), "sizes": sizes, "net": round_net, "cells": net.cells}


def round_scratch(weights, z, N):
    """The net with room for up to N texts. z: as in `decoding`."""
    layout = weights["layout"].rounds
    works = [round_work(layout, cell, N, N, 1)[0] for cell in weights["cells"]]
    room = {name: np.zeros(max(work[name] for work in works), z.dtype) for name in works[0]}
    kept = Kept(*(room[name] for name in ("kept_x", "kept_h", "gates_x", "gates_h")))
    return weights["net"]._replace(z=z, kept=kept, gates=room["gates"], memory=room["memory"])


def _layer_reader(layout):
    """The function that takes the texts of a part through a layer, from what the layer below or a token says."""
    step, w = step_of(layout.rounds), layout.w

    def read_layer(state, outputs, reading, reader, layer, own):
        """h at h[after:] and memory of a layer, for the part's texts; outputs: where the layer below has left its own."""
        (L, E, H, _, _, _), N, net, (tokens, t0, stride) = reader.sizes, reader.N, reader.net, reading
        (states, before, after, memory), Hp, at = state, -(-H // w) * w, PARTS * layer
        D, first, count, n0, n1 = E if layer == 0 else H, layer * N * H, net.places.size // L, own[1], own[2]
        for n in range(n0, n1):
            if layer == 0:
                token = max(tokens[t0 + n * stride], 0)  # -1: of a text that is lost
                put_row(net.kept.x, n, N, net.embedding, token * E, E)
            else:
                put_row(net.kept.x, n, N, states, outputs + first + (n - N) * H, H)
            put_row(net.kept.h, n, N, states, before + first + n * H, H)
            for i in range(H):
                net.memory[n * Hp + i] = memory[first + n * H + i]
        W, U, bias, rounds = net.offsets[at], net.offsets[at + 1], net.offsets[at + 2], net.offsets[at + 3]
        matrices = Matrices(
            net.packed[rounds : net.offsets[at + 4]], net.places[layer * count : (layer + 1) * count], net.packed[W:U],
            net.packed[U:bias], net.packed[bias:rounds],
        )  # fmt: skip
        y, sizes = states[after + first : after + first + N * H], (N, D, H, count)
        step(y, net.gates, net.memory, net.kept, matrices, (n0, n0, N + n0), n1 - n0, sizes)
        for n in range(n0, n1):
            for i in range(H):
                memory[first + n * H + i] = net.memory[(N + n) * Hp + i]

    return named(read_layer, f"read_layer_{layout.name}", inlined)


def round_token_reader(layout, add_inputs, read_head):
    """`decoding.token_reader` of cells whose input and output gate each other."""
    return reader_by_texts(layout.name, _layer_reader(layout), add_inputs, read_head)
