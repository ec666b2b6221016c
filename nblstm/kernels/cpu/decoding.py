"""Decoding on the CPU: the whole network for one token of each text, what is drawn next, and many tokens in one call.

The weights are packed once, for every caller, and read once a token; the scratch belongs to one caller. One text is
split over threads by units, with a spinning barrier behind each layer, several texts by texts. The reader of a token is
made for a cell when it is first asked for, from the equations and the layout in `layouts.py`; that of cells with options
is in `option_decoding`, that of cells whose input and output gate each other in `mogrifier_decoding`. The specification
decodes cells without kernels.

Names: P panels of a weight's rows, S columns of a layer's panel, w units in it, `columns` of them that W x or U h fill,
N texts, V vocabulary, F numbers that the head sees.
Arrays are flat, or addressed by flat offsets; a kernel's last arguments are its share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nblstm.kernels import DecoderWeights, Filters, Int8, reference
from nblstm.kernels.cpu.barrier import barrier, crowded, step_aside
from nblstm.kernels.cpu.drawing import PIECE, SHARED_TOKENS, choose, draw_row, draw_scratch, is_whole, weigh
from nblstm.kernels.cpu.int8 import int8_scratch, int8_token_reader, int8_weights
from nblstm.kernels.cpu.jit import inlined, jit, made_once, named, shared
from nblstm.kernels.cpu.layouts import MULTIPLY, layout_of, units_of
from nblstm.kernels.cpu.mogrifier_decoding import round_scratch, round_token_reader, round_weights
from nblstm.kernels.cpu.option_decoding import option_scratch, option_token_reader, option_weights
from nblstm.kernels.cpu.products import IN_ORDER, pack, panels
from nblstm.kernels.cpu.recurrent import by_texts, gate_panels
from nblstm.kernels.cpu.sparse import is_sparse, multiply_lists, sparse_layout, sparse_weights
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor, multiply_64
from nblstm.kernels.cpu.vectors import LANES, load, load_part, store, store_part
from nblstm.kernels.reference.int8 import in_floats
from nblstm.kernels.threads import Share, equal, parallel_for

KEPT_BYTES = 1 << 23  # of projected tokens that stand beside the packed weights


class Reader(NamedTuple):
    """What `decode_work` has made ready, for N texts."""

    net: tuple
    sizes: tuple  # (L, E, H, V, F, residual), V those of the head
    N: int


class Reading(NamedTuple):
    """The tokens that are read: tokens[t0 + n * stride] of text n."""

    tokens: np.ndarray
    t0: int
    stride: int


class Units(NamedTuple):
    """The state of the units, (L, N, H) flat: h at h[before:], which goes to h[after:], and their memory."""

    h: np.ndarray
    before: int
    after: int
    memory: np.ndarray


class Drawing(NamedTuple):
    """How the next token is drawn."""

    banned: np.ndarray
    filters: Filters
    room: np.ndarray  # see `draw_scratch`


def decode_weights(net, threads):
    """Pack the weights for `decode` and `generate`, only read from then on; as they are where the specification decodes.

    table (P, kept, S): the input projections of the first tokens of the vocabulary, as many as KEPT_BYTES hold, so that
    the first layer reads only its recurrent weights for them.
    """
    layout = layout_of(net.cells[0])  # of all layers
    if layout is None:
        return reference.decode_weights(net, threads)
    if net.cells[0].loop == "options":
        return option_weights(in_floats(net), layout, threads, KEPT_BYTES)
    if net.cells[0].loop == "rounds":
        return round_weights(in_floats(net), layout, threads)
    if isinstance(net.head_weight, Int8):
        return int8_weights(net, layout, threads, KEPT_BYTES)
    (_, E), (_, F), L, H = net.embedding.shape, net.head_weight.shape, len(net.cells), net.cells[0].hidden_size
    sizes = L, E, H, len(net.head_weight), F, net.residual  # an adaptive head's first layer has fewer rows than V
    if is_sparse(net):
        packed, offsets, inputs, starts = sparse_weights(net, layout, threads)
        weight, own = np.empty(panels(H, layout.w) * E * len(layout.inputs[1]) * layout.w, packed.dtype), layout
        parallel_for(threads, pack, panels(H, layout.w), weight, net.layers[0]["weight_ih"], own.inputs[1], own.w, H, E)
        table = _table(net, layout, weight, packed[offsets[2] :], threads)
        return {
            "layout": sparse_layout(layout),
            "sizes": sizes,
            "net": (packed, offsets, net.embedding.reshape(-1), table, inputs, starts),
        }
    packed, offsets = _packed(net, layout, threads)
    table = _table(net, layout, packed[offsets[0] :], packed[offsets[2] :], threads)
    return {"layout": layout, "sizes": sizes, "net": (packed, offsets, net.embedding.reshape(-1), table)}


def _table(net, layout, weight, bias, threads):
    """The table of `decode_weights`. weight: W of the first layer in panels (P, E, columns); bias (P, S)."""
    (V, E), H, S = net.embedding.shape, net.cells[0].hidden_size, layout.S
    P, embedding = panels(H, layout.w), net.embedding.reshape(-1)
    kept = min(V, KEPT_BYTES // (P * S * bias.itemsize))
    table = np.empty(P * kept * S, bias.dtype)
    parallel_for(threads, layout.project, kept, table, embedding, weight, bias, P, kept, E)
    return table


def decode_work(N, weights, threads):
    """Make the scratch of one caller, for up to N texts at a time, beside the weights that all share.

    states (2, L, N, H): a step reads one half of h and writes the other; behind them stand the outputs (L, N, H) of
    residual layers, h with the layer's input added. z: room for a panel of each text, in each part.
    """
    if isinstance(weights, DecoderWeights):
        return reference.decode_work(N, weights, threads)
    (L, _, H, V, F, residual), dtype = weights["sizes"], weights["net"][3].dtype
    layout = weights["layout"]
    z = np.empty((threads, N * max(layout.S, PANEL)), dtype)
    if layout.options:
        net = option_scratch(weights, z, N, threads)
    elif layout.rounds:
        net = round_scratch(weights, z, N)
    else:
        net = int8_scratch(weights["net"], z, N, F) if layout.int8 else (*weights["net"], z)
    return {
        **weights,
        "residual": residual,
        "net": net,
        "states": np.empty((3 if residual else 2) * L * N * H, dtype),
        "rows": draw_scratch(V, threads),
    }


def _packed(net, layout, threads):
    """(weights in panels, where each begins): W (P, D, columns), U (P, H, columns), b (P, S) of every layer, then the
    head's weight (PV, F, 64) and bias (PV, 64).
    """
    (V, F), H, w = net.head_weight.shape, net.cells[0].hidden_size, layout.w
    (_, order_ih), (_, order_hh) = layout.inputs, layout.hidden
    P, PV, columns_ih, columns_hh = panels(H, w), panels(V), len(order_ih) * w, len(order_hh) * w
    sizes = [(P * cell.input_size * columns_ih, P * H * columns_hh, P * layout.S) for cell in net.cells]
    offsets = np.cumsum([0] + [size for row in [*sizes, (PV * F * PANEL, PV * PANEL)] for size in row])
    packed = np.empty(offsets[-1], net.embedding.dtype)  # for which NumPy asks for huge pages, unlike np.zeros
    packed.fill(0)
    *parts, head, head_bias = np.split(packed, offsets[1:-1])
    for k, (cell, weights) in enumerate(zip(net.cells, net.layers)):
        ih, hh, bias = parts[3 * k : 3 * k + 3]
        parallel_for(threads, pack, P, ih, weights["weight_ih"], order_ih, w, H, cell.input_size)
        if layout.is_recurrent:
            parallel_for(threads, pack, P, hh, weights["weight_hh"], order_hh, w, H, H)
        gate_panels(bias, weights, layout, P, H)
    parallel_for(threads, pack, PV, head, net.head_weight, IN_ORDER, PANEL, V, F)
    head_bias[:V] = net.head_bias
    return packed, offsets[:-1]


@jit
def _add_inputs(state, outputs, layer, reading, embedding, reader, j0, j1, share):
    """states[outputs:] of a layer = h + x, units j0 ... j1; h where x is of another size. h stands at state.h[state.after:]"""
    (_, E, H, _, _, _), N, states, after = reader.sizes, reader.N, state.h, state.after
    tokens, t0, stride = reading
    for n in range(share.start, share.stop):
        row, token = (layer * N + n) * H, max(tokens[t0 + n * stride], 0)
        for j in range(j0, j1):
            y = states[after + row + j]
            if layer > 0:
                y += states[outputs + row - N * H + j]
            elif E == H:
                y += embedding[token * E + j]
            states[outputs + row + j] = y


@jit
def _read_head(logits, y, c, reader, v0, v1, share):
    """The panels v0 ... v1 of logits = W y + b, or W [y, c] + b; y and c: `Factor`s of all N texts."""
    (_, _, H, V, F, _), n0, n1, part = reader.sizes, share.start, share.stop, share.part
    packed, offsets, z = reader.net[0], reader.net[1], reader.net[-1]
    head, bias, rows, scratch = offsets[offsets.size - 2], offsets[offsets.size - 1], n1 - n0, part * z.shape[1]
    y = Factor(y.numbers, y.place + n0 * y.step, y.step, 0, 1, y.depth)
    c = Factor(c.numbers, c.place + n0 * c.step, c.step, 0, 1, c.depth)
    for p in range(v0, v1):
        for r in range(rows):
            for j in range(0, PANEL, LANES):
                store(z, scratch + r * PANEL + j, load(packed, bias + p * PANEL + j))
        panel, weight = Block(z, scratch, PANEL), head + p * F * PANEL
        multiply_64(panel, rows, y, packed, weight)
        if F > H:
            multiply_64(panel, rows, c, packed, weight + H * PANEL)
        for r in range(rows):
            for j in range(0, min(PANEL, V - p * PANEL), LANES):
                v = p * PANEL + j
                store_part(logits, (n0 + r) * V + v, load(z, scratch + r * PANEL + j), min(LANES, V - v))


@made_once
def dense_product(columns):
    """The product with a panel of so many columns that `token_reader` makes."""
    multiply = MULTIPLY[columns]

    def multiply_panel(C, rows, x, net, place, p):
        """C[rows, columns] += x[rows, K] @ panel p of the matrix at offsets[place]."""
        multiply(C, rows, x, net[0], net[1][place] + p * x.depth * columns)

    return named(multiply_panel, f"multiply_panel_{columns}", inlined)


@made_once
def token_reader(layout):
    """The kernel that reads a token, for networks of one cell."""
    if layout.int8:
        return int8_token_reader(layout, _add_inputs)
    if layout.options:
        return option_token_reader(layout, _add_inputs, _read_head)
    if layout.rounds:
        return round_token_reader(layout, _add_inputs, _read_head)
    cell, S, w = layout.cell, layout.S, layout.w
    (column_ih, order_ih), (column_hh, order_hh) = layout.inputs, layout.hidden
    product = multiply_lists if layout.sparse else dense_product
    multiply_ih, multiply_hh = product(len(order_ih) * w), product(len(order_hh) * w)
    is_recurrent = layout.is_recurrent

    def read_token(logits, state, reading, reader, share, round_):
        """Read a token of each text, see `Reading`: h at h[before:] -> h[after:], memory in place, see `Units`.

        The part's texts or, with several parts, all texts and its share of every layer's panels. The barriers passed before
        are `round_`; a step passes L + 1 of them, behind each layer and behind the head.
        """
        (L, E, H, V, _, residual), N, part, n0 = reader.sizes, reader.N, share.part, share.start
        (states, before, after, memory), (tokens, t0, stride) = state, reading
        net = reader.net
        packed, offsets, embedding, table, z = net[0], net[1], net[2], net[3], net[-1]
        P, PV = -(-H // w), -(-V // PANEL)
        kept = table.size // (P * S)
        p0, p1 = units_of(P, share)
        v0, v1 = units_of(PV, share)
        rows, scratch, outputs = share.stop - n0, part * z.shape[1], 2 * L * N * H if residual else after
        for layer in range(L):
            bias = offsets[3 * layer + 2]
            first = (layer * N + n0) * H
            for p in range(p0, p1):
                for r in range(rows):
                    token = max(tokens[t0 + (n0 + r) * stride], 0) if layer == 0 else kept  # -1: of a text that is lost
                    for j in range(0, S, LANES):
                        if token < kept:
                            value = load(table, (p * kept + token) * S + j)
                        else:
                            value = load(packed, bias + p * S + j)
                        store(z, scratch + r * S + j, value)
                    if layer == 0 and token >= kept:
                        x = Factor(embedding, token * E, E, 0, 1, E)
                        multiply_ih(Block(z, scratch + r * S + column_ih, S), 1, x, net, 0, p)
                if layer > 0:
                    x = Factor(states, outputs + first - N * H, H, 0, 1, H)
                    multiply_ih(Block(z, scratch + column_ih, S), rows, x, net, 3 * layer, p)
                if is_recurrent:
                    h = Factor(states, before + first, H, 0, 1, H)
                    multiply_hh(Block(z, scratch + column_hh, S), rows, h, net, 3 * layer + 1, p)
                for unit in range(p * w, min((p + 1) * w, H), LANES):
                    width, skip = min(LANES, H - unit), unit - p * w
                    for r in range(rows):
                        place = first + r * H + unit
                        new, hidden = cell(z, scratch + r * S + skip, load_part(memory, place, width, 0))
                        store_part(memory, place, new, width)
                        store_part(states, after + place, hidden, width)
            if residual:
                j0, j1 = p0 * w, min(p1 * w, H)
                _add_inputs(state, outputs, layer, reading, embedding, reader, j0, j1, share)
            barrier(share.counter, share.parts, round_ + layer + 1)
        if logits.size > 0:
            last = (L - 1) * N * H
            y, c = Factor(states, outputs + last, H, 0, 1, H), Factor(memory, last, H, 0, 1, H)
            _read_head(logits, y, c, reader, v0, v1, share)
        crowded(share.counter, part)
        barrier(share.counter, share.parts, round_ + L + 1)

    return named(read_token, f"read_token_{layout.name}", shared)


@made_once
def _decoder(layout):
    """The kernel of `decode`."""
    read_token = token_reader(layout)

    def decode(logits, states, memory, tokens, net, sizes, N, share):
        """The state before stands in the first half of states, the one after goes into the second."""
        state, reader = Units(states, 0, sizes[0] * N * sizes[2], memory), Reader(net, sizes, N)
        read_token(logits, state, Reading(tokens, 0, 1), reader, Share(*share), 0)

    return named(decode, f"_decode_{layout.name}")


def decode(state, tokens, work, threads):
    """See reference.decode."""
    if isinstance(work, DecoderWeights):
        return reference.decode(state, tokens, work, threads)
    N, memory = state.h.shape[1], put_state(state, work, 0)
    by_texts(
        threads, work["net"][0], _decoder(work["layout"]), equal(N, threads), state.logits.reshape(-1), work["states"],
        memory, tokens, work["net"], work["sizes"], N,
    )  # fmt: skip
    take_state(state, work, state.h.size)


def put_state(state, work, at):
    """h goes to states[at:]; returns the units' memory, flat: c itself, or a copy of h where there is none."""
    h, c, features, _ = state
    work["states"][at : at + h.size] = h.reshape(-1)
    if work["residual"]:
        _outputs(h, work)[...] = features[:, : h.shape[2]]
    return (c if c.size else h.copy()).reshape(-1)


def take_state(state, work, at):
    """h becomes what stands at states[at:], features what the head sees."""
    h, c, features, _ = state
    H = h.shape[2]
    h[...] = work["states"][at : at + h.size].reshape(h.shape)
    features[:, :H] = _outputs(h, work) if work["residual"] else h[-1]
    features[:, H:] = c[-1, :, : features.shape[1] - H]


def _outputs(h, work):
    """Those of the last layer (N, H), its input added."""
    return work["states"][2 * h.size : 3 * h.size].reshape(h.shape)[-1]


# ---------------------------------------------------------------- generating: draw, read, draw, read


@made_once
def _generator(layout):
    """The kernel of `generate`."""
    read_token = token_reader(layout)

    def generate(made, history, length, logits, states, memory, uniform, drawing, reader, given):
        """The part's texts. Parts that share texts draw the same tokens, each for itself, but may weigh them together.

        made[0] = how many tokens: fewer than asked for where the parts had to wait for cores.
        """
        share = Share(*given)
        (L, _, H, V, _, _), size, flat = reader.sizes, history.shape[1], history.reshape(-1)
        before, after, k, round_, waited = 0, L * reader.N * H, 0, 0, 0
        banned, filters, room = drawing.banned, drawing.filters, drawing.room
        p0, p1 = units_of(-(-V // PIECE), share)
        together = share.parts > 1 and V >= SHARED_TOKENS and is_whole(filters, V)
        while k < len(uniform) and share.counter[2] == 0:
            if together:  # texts are fewer than parts, so that each has a room
                for n in range(share.start, share.stop):
                    weigh(room[n], logits, n * V, V, banned, filters.temperature, p0, p1)
                round_ += 1
                barrier(share.counter, share.parts, round_)
            for n in range(share.start, share.stop):
                place = n * size + length + k
                if together:
                    flat[place] = choose(room[n], V, uniform[k, n], filters.temperature)
                else:
                    flat[place] = draw_row(
                        logits, n * V, V, uniform[k, n], flat, n * size, length + k, banned, filters, room[share.part]
                    )
            state, reading = Units(states, before, after, memory), Reading(flat, length + k, size)
            read_token(logits, state, reading, reader, share, round_)
            waited = step_aside(share.counter, share.part, waited)
            before, after, k, round_ = after, before, k + 1, round_ + L + 1
        made[0] = k

    return named(generate, f"_generate_{layout.name}")


def generate(history, length, state, uniform, banned, filters, work, threads):
    """See reference.generate: all tokens in one call, or in two where shared threads turn out not to have cores."""
    if isinstance(work, DecoderWeights):
        return reference.generate(history, length, state, uniform, banned, filters, work, threads)
    N, kernel, made, K = state.h.shape[1], _generator(work["layout"]), np.zeros(1, np.int64), len(uniform)
    while len(uniform):
        memory = put_state(state, work, 0)
        by_texts(
            threads, work["net"][0], kernel, equal(N, threads), made, history, length + K - len(uniform),
            state.logits.reshape(-1), work["states"], memory, uniform, Drawing(banned, filters, work["rows"]),
            Reader(work["net"], work["sizes"], N), steps=len(uniform),
        )  # fmt: skip
        take_state(state, work, made[0] % 2 * state.h.size)
        uniform = uniform[made[0] :]
