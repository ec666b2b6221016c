"""Decoding with weights of which most are zero: packed without the blocks that are, and the product that walks the others.

A block is one vector of a panel: 16 units of a gate by one input (`nblstm.nn.sparsity` makes them zero). A panel of S columns
has a list of blocks for each of its vectors: the inputs whose block is not all zeros, in rising order, and their numbers.

Names: as in `decoding`; B blocks that are kept, `vectors` of a panel, K inputs.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from nblstm.kernels.cpu.jit import inlined, made_once, named, shared
from nblstm.kernels.cpu.products import IN_ORDER, pack, panels
from nblstm.kernels.cpu.recurrent import gate_panels
from nblstm.kernels.cpu.tiles import PANEL
from nblstm.kernels.cpu.vectors import LANES, load, store
from nblstm.kernels.threads import parallel_for

SPARSE_SHARE = 0.5  # of the recurrent weights that are zero, from which on it pays to skip them

sparse_layout = made_once(lambda layout: dataclasses.replace(layout, name=f"{layout.name}_sparse", sparse=True))


def is_sparse(net):
    """Whether so many of the numbers that recurrent layers multiply with are zero that blocks of them are skipped."""
    matrices = [w for weights in net.layers for name, w in weights.items() if name in ("weight_ih", "weight_hh")]
    size = sum(w.size for w in matrices)
    return size > 0 and sum(map(np.count_nonzero, matrices)) <= (1 - SPARSE_SHARE) * size


# ---------------------------------------------------------------- packing


def _lists(weight, order, w, H):
    """(numbers (B, LANES), inputs (B,), ends of each list (P * vectors,)) of a matrix (G H, K)."""
    G, K, units = len(weight) // H, weight.shape[1], -(-H // LANES)
    padded = weight.reshape(G, H, K)
    if H % LANES:
        padded = np.zeros((G, units * LANES, K), weight.dtype)
        padded[:, :H] = weight.reshape(G, H, K)
    blocks = padded.reshape(G, units, LANES, K)
    kept = blocks.any(axis=2)  # (G, units, K)
    panel, gate, part = np.ogrid[: panels(H, w), : len(order), : w // LANES]
    unit = (panel * (w // LANES) + part + 0 * gate).reshape(-1)
    gate = (order[gate] + 0 * panel + 0 * part).reshape(-1)
    wanted = kept[gate, np.minimum(unit, units - 1)] & (unit < units)[:, None]  # (lists, K)
    number, inputs = np.nonzero(wanted)
    return blocks[gate[number], unit[number], :, inputs], inputs, np.cumsum(wanted.sum(axis=1))


def sparse_weights(net, layout, threads):
    """(packed, offsets, inputs, starts) of a network: see `decoding._packed`, offsets of W and U are numbers of lists.

    packed: the blocks of all lists (B, 16), then of every layer its biases, the head's weight and its bias. inputs (B,)
    int32; starts (lists + 1,) int64: the first block of each.
    """
    (V, F), H, w, dtype = net.head_weight.shape, net.cells[0].hidden_size, layout.w, net.embedding.dtype
    P, PV = panels(H, w), panels(V)
    numbers, inputs, starts, offsets, biases = [np.empty((0, LANES), dtype)], [np.empty(0, int)], [0], [], []
    for weights in net.layers:
        lists = []
        for (_, order), name in ((layout.inputs, "weight_ih"), (layout.hidden, "weight_hh")):
            lists.append(len(starts) - 1)
            if len(order):
                found, places, ends = _lists(weights[name], order, w, H)
                numbers.append(found), inputs.append(places), starts.extend((starts[-1] + ends).tolist())
        biases.append(np.zeros(P * layout.S, dtype))
        gate_panels(biases[-1], weights, layout, P, H)
        offsets += [*lists, 0]
    head, head_bias = np.zeros(PV * F * PANEL, dtype), np.zeros(PV * PANEL, dtype)
    parallel_for(threads, pack, PV, head, net.head_weight, IN_ORDER, PANEL, V, F)
    head_bias[:V] = net.head_bias
    parts = [np.concatenate(numbers).reshape(-1), *biases, head, head_bias]
    places = np.cumsum([0, *map(len, parts[:-1])])
    offsets[2::3] = places[1 : len(biases) + 1]
    return (
        np.concatenate(parts),
        np.array([*offsets, *places[-2:]]),
        np.concatenate(inputs).astype(np.int32),
        np.array(starts),
    )


# ---------------------------------------------------------------- multiplying


@inlined
def _four(sums, packed, i, x, row, inputs):
    """The sums of one row after the blocks i ... i + 4 of a list: four that take turns, so that none waits for the one before."""
    a, b, c, d = sums
    numbers = x.numbers
    return (
        a + load(packed, i * LANES) * numbers[row + inputs[i]],
        b + load(packed, (i + 1) * LANES) * numbers[row + inputs[i + 1]],
        c + load(packed, (i + 2) * LANES) * numbers[row + inputs[i + 2]],
        d + load(packed, (i + 3) * LANES) * numbers[row + inputs[i + 3]],
    )


@inlined
def _put(C, target, sums, packed, span, x, row, inputs):
    """Add the blocks of a list that four do not divide, and store a row's sum; span: of them."""
    a, b, c, d = sums
    for i in range(span[0], span[1]):
        a = a + load(packed, i * LANES) * x.numbers[row + inputs[i]]
    store(C.numbers, target, (a + b) + (c + d))


@made_once
def multiply_lists(columns):
    """The product with a panel of so many columns, as `decoding.dense_product` makes it of weights that are all there."""
    vectors = columns // LANES

    def multiply(C, rows, x, net, place, p):
        """C[rows, columns] += x[rows, K] @ the blocks of panel p, whose lists begin with number offsets[place].

        A block is read once for four rows; each row's sum has one order, however many there are.
        """
        packed, offsets, inputs, starts = net[0], net[1], net[4], net[5]
        for v in range(vectors):
            number = offsets[place] + p * vectors + v
            first, last = starts[number], starts[number + 1]
            whole = first + (last - first) // 4 * 4
            r = 0
            while r < rows:
                c0, x0 = C.place + r * C.step + v * LANES, x.place + r * x.step
                start = load(C.numbers, c0)
                zero = start * 0
                s0 = start, zero, zero, zero
                if r + 4 <= rows:
                    c1, c2, c3 = c0 + C.step, c0 + 2 * C.step, c0 + 3 * C.step
                    x1, x2, x3 = x0 + x.step, x0 + 2 * x.step, x0 + 3 * x.step
                    s1 = load(C.numbers, c1), zero, zero, zero
                    s2 = load(C.numbers, c2), zero, zero, zero
                    s3 = load(C.numbers, c3), zero, zero, zero
                    for i in range(first, whole, 4):
                        s0 = _four(s0, packed, i, x, x0, inputs)
                        s1 = _four(s1, packed, i, x, x1, inputs)
                        s2 = _four(s2, packed, i, x, x2, inputs)
                        s3 = _four(s3, packed, i, x, x3, inputs)
                    _put(C, c1, s1, packed, (whole, last), x, x1, inputs)
                    _put(C, c2, s2, packed, (whole, last), x, x2, inputs)
                    _put(C, c3, s3, packed, (whole, last), x, x3, inputs)
                    r += 3
                else:
                    for i in range(first, whole, 4):
                        s0 = _four(s0, packed, i, x, x0, inputs)
                _put(C, c0, s0, packed, (whole, last), x, x0, inputs)
                r += 1

    return named(multiply, f"multiply_lists_{columns}", shared)
