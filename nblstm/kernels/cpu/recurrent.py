"""Recurrent layers on the CPU, of every cell: packing, the time loop of the cell's layout, and weight gradients.

Names: P panels of w units, S columns of a panel, Q panels of 64 input or hidden columns, M rows, Hp = w * P.
Arrays are flat, or addressed by flat offsets; a kernel's last argument is its share of the texts.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cpu import mogrifier, options
from nblstm.kernels.cpu.factors import FACTORS
from nblstm.kernels.cpu.jit import jit
from nblstm.kernels.cpu.layouts import Inputs, Slopes, layout_of
from nblstm.kernels.cpu.products import (
    MOST_COLUMNS,
    ROWS,
    Columns,
    panels,
    panels_product,
    weight_gradient,
)
from nblstm.kernels.cpu.tiles import PANEL
from nblstm.kernels.cpu.vectors import LANES, load, store
from nblstm.kernels.packed import are_equal, last_rows, lengths
from nblstm.kernels.reference import recurrent as specification
from nblstm.kernels.threads import equal, parallel_for, run_cooperatively, run_ranges

NO_INDEX, NO_WEIGHT = np.empty(0, np.int32), np.empty(0)
SHARED_BYTES = 1 << 22  # of weights, from which on a stream is worth several threads
MANY_STEPS = 16  # in one call: more do not make smaller weights worth a barrier a layer ...
FEW_STEPS = 4  # ... and of one layer alone more than these do not


def by_texts(threads, weights, kernel, edges, *args, steps=1):
    """Call kernel(*args, share): each thread takes the texts between two edges and never waits.

    Where texts are fewer than threads and the weights are many, the threads share every text: each takes its part
    of the units and waits for the others (`barrier(share.counter, share.parts, ...)`) before it reads theirs. A call of several
    steps wakes the threads once, so that fewer weights are worth it.
    """
    N = edges[-1]
    if N < threads and weights.nbytes * min(steps, MANY_STEPS) >= SHARED_BYTES:
        run_cooperatively(threads, kernel, N, *args)
    else:
        run_ranges(kernel, edges, *args)


def fair_edges(offsets, threads):
    """Where to cut packed texts so that each thread gets as many tokens: as `threads.equal`, but for unequal texts."""
    N = int(offsets[1])
    if are_equal(offsets):
        return equal(N, threads)
    tokens = np.concatenate([[0], np.cumsum(lengths(offsets))])
    cuts = np.searchsorted(tokens, offsets[-1] * np.arange(1, threads) / threads)
    return sorted({0, *cuts.tolist(), N})


def recurrent_work(cells, M, N, rows, dtype, threads):
    """Buffers for `recurrent_forward` and `recurrent_backward`, by name, one dict a cell.

    A cell's own: gates (P, M, S) and memory (N + M, Hp), kept for the backward pass. All cells share the rest: a table
    (P, rows, S) for the projection of unique inputs, and scratch.
    """
    return work_of(FACTORS, cells, M, N, rows, dtype, threads)


def work_of(factors, cells, M, N, rows, dtype, threads):
    """`recurrent_work` whose products have these factors."""
    shared, multiplied, works = {}, {}, []
    for cell, unique in zip(cells, rows):
        layout = layout_of(cell)
        if layout is None:
            works.append({})
            continue
        if cell.loop == "rounds":
            own, sizes = mogrifier.round_work(layout, cell, M, N, threads)
            of_factors = {}
        else:
            own, sizes, of_factors = _work_sizes(factors, layout, cell, M, N, unique, threads)
        own = {name: np.zeros(size, dtype) for name, size in own.items()}
        if cell.loop == "options":
            kept, more = options.option_work(layout, cell, M, N, unique or M, dtype)
            own, sizes = {**own, **kept}, {**sizes, **more}
        for found, more in ((shared, sizes), (multiplied, of_factors)):
            for name, size in more.items():
                found[name] = max(size, found.get(name, 0))
        works.append(own)
    scratch = {name: np.zeros(size, dtype) for name, size in shared.items()}
    scratch |= {name: np.zeros(size, factors.dtype(dtype)) for name, size in multiplied.items()}
    return [{**scratch, **work, "factors": factors} if work else {} for work in works]


def _work_sizes(factors, layout, cell, M, N, unique, threads):
    """The sizes of a layer's buffers: (its own, those that layers share, those of factors), by name."""
    S, w, H, D = layout.S, layout.w, cell.hidden_size, cell.input_size
    P, QH, QD, R = panels(H, w), panels(H), panels(D), cell.output_size
    sizes = {
        "table": P * unique * S, "bias": P * S, "dmemory": N * P * w, "tail": threads * ROWS * LANES,
        "block": threads * MOST_COLUMNS * PANEL, "sums": P * S,
    }  # fmt: skip
    count, copied, read = factors.count, factors.copied, unique or M
    of_factors = {
        "weight_ih": P * count(QD * PANEL) * S, "weight_hh": P * count(panels(R) * PANEL) * S,
        "inputs": max(QH * count(M), QD * count(read)) * PANEL, "x": copied(read * count(D)),
        "h0": copied(N * count(R)), "h": copied(M * count(R)), "rounded": copied(cell.gates * H * count(max(D, R))),
        "dz": copied(P * M * count(S)), "dz pairs": copied(P * count(M) * S),
    }  # fmt: skip
    return {"gates": P * M * S, "memory": (N + M) * P * w}, sizes, of_factors


def recurrent_forward(outputs, work, packed, weights, cell, threads):
    """See reference.recurrent_forward."""
    layout = layout_of(cell)
    if layout is None:
        return specification.recurrent_forward(outputs, work, packed, weights, cell, threads)
    (y, cs, hn, cn), (_, _, h0, c0, offsets), factors = outputs, packed, work["factors"]
    (M, R), N, D, H, w = y.shape, len(h0), cell.input_size, cell.hidden_size, layout.w
    P = panels(H, w)
    gate_panels(work["bias"], weights, layout, P, H)
    (_, order_ih), (_, order_hh) = layout.inputs, layout.hidden
    factors.pack(threads, work, "weight_ih", weights["weight_ih"], order_ih, w, H, D)
    if layout.is_recurrent:
        factors.pack(threads, work, "weight_hh", weights["weight_hh"], order_hh, w, H, R)
    memory = work["memory"][: (N + M) * P * w].reshape(N + M, P * w)
    memory[:N, :H] = c0 if cell.has_memory else h0
    edges = fair_edges(offsets, threads)
    if cell.loop == "rounds":
        mogrifier.run_forward(edges, y, work, packed, weights, cell, layout, threads)
    else:
        _run_forward(edges, y, work, packed, weights, cell, layout, threads)
    last = last_rows(offsets)
    hn[...] = y[last]
    if cell.has_memory:
        cn[...] = memory[N + last, :H]
    if cs is not None:
        cs[...] = memory[N:, :H]


def _run_forward(edges, y, work, packed, weights, cell, layout, threads):
    """Project the inputs and run the time loop of a layer, whose W, U and first memory are in their places."""
    (x, index, h0, _, offsets), factors, gather = packed, work["factors"], packed.index is not None
    (rows, D), N, H = x.shape, len(h0), cell.hidden_size
    P, projected = panels(H, layout.w), work["table" if gather else "gates"]
    parallel_for(
        threads, layout.project, rows, projected, factors.rows(threads, work, "x", x), work["weight_ih"],
        work["no_bias" if cell.layer_norm else "bias"], P, rows, factors.count(D),
    )  # fmt: skip
    given = (
        y.reshape(-1), work["gates"], work["memory"],
        tuple(Inputs(work["table"], *((index, rows) if gather else (NO_INDEX, 0)))),
        factors.rows(threads, work, "h0", h0), work["weight_hh"],
    )  # fmt: skip
    if cell.loop == "options":
        z = projected[: P * rows * layout.S]
        options.run_forward(edges, given, z, work, layout, offsets, weights, cell, threads, run_ranges)
    else:
        by_texts(
            threads, weights.get("weight_hh", NO_WEIGHT), layout.forward, edges, *given[:4],
            (given[4], factors.written(work, "h", y)), given[5], offsets, N, H,
            steps=min(len(offsets) - 1, FEW_STEPS),
        )  # fmt: skip


def gate_panels(bias, weights, layout, P, H):
    """The columns of both biases in panels (P, S), zeros behind the last unit."""
    G, w = layout.S // layout.w, layout.w
    padded = np.zeros((G, P * w), bias.dtype)
    for (column, order), name in ((layout.inputs, "bias_ih"), (layout.hidden, "bias_hh")):
        if len(order):
            padded[column // w : column // w + len(order), :H] += weights[name].reshape(-1, H)[order]
    bias[: P * layout.S].reshape(P, G, w)[...] = padded.reshape(G, P, w).transpose(1, 0, 2)


@jit
def _scatter(table, gates, index, S, M, R, share):
    """table[p, index[m]] += gates[p, m] for panels start ... stop: the gradient of the gather."""
    _, start, stop, _, _ = share
    for p in range(start, stop):
        for i in range(p * R * S, (p + 1) * R * S):
            table[i] = 0
        for m in range(M):
            row, z = (p * R + index[m]) * S, (p * M + m) * S
            for j in range(0, S, LANES):
                store(table, row + j, load(table, row + j) + load(gates, z + j))


def recurrent_backward(dx, grads, slopes, y, work, packed, weights, cell, threads):
    """See reference.recurrent_backward."""
    layout = layout_of(cell)
    if layout is None:
        return specification.recurrent_backward(dx, grads, slopes, y, work, packed, weights, cell, threads)
    (dy, dcs, dh, dc), N, H, R = slopes, len(packed.h0), cell.hidden_size, cell.output_size
    w, order = layout.w, layout.hidden[1]
    P = panels(H, w)
    dmemory = work["dmemory"][: N * P * w].reshape(N, P * w)
    dmemory[:, :H] = dc if cell.has_memory else 0
    dy[last_rows(packed.offsets)] += dh  # hn = y at a text's last step
    dh.fill(0)
    if layout.is_recurrent:
        work["factors"].pack_transposed(threads, work, "weight_hh", weights["weight_hh"], order, w, H, R)
    given = tuple(Slopes(*(d.reshape(-1) for d in (dy, dy[:0] if dcs is None else dcs, dh)), work["dmemory"]))
    edges = fair_edges(packed.offsets, threads)
    if cell.loop == "rounds":
        mogrifier.run_backward(edges, given, work, packed, weights, cell, layout, threads)
        mogrifier.gradients(dx, grads, work, packed, cell, layout, threads)
    else:
        dz_hh = _run_backward(edges, given, grads, work, packed.offsets, weights, cell, layout, threads)
        _gradients(dx, grads, dz_hh, y, work, packed, weights, cell, threads)
    if cell.has_memory:
        dc[...] = dmemory[:, :H]
    else:
        dh += dmemory[:, :H]


def _run_backward(edges, given, grads, work, offsets, weights, cell, layout, threads):
    """Run the time loop back; U is packed. given: `Slopes`. Returns the gradient of U h, `Columns`."""
    gates, (column, order), N, H = work["gates"], layout.hidden, int(offsets[1]), cell.hidden_size
    dz = Columns(gates, int(offsets[-1]), layout.S, column, len(order) * layout.w)
    if cell.loop == "options":
        options.run_backward(edges, given, grads, work, layout, offsets, weights, cell, threads, run_ranges)
        return Columns(work["dhidden"], dz.M, dz.count, 0, dz.count) if cell.layer_norm else dz
    by_texts(
        threads, weights.get("weight_hh", NO_WEIGHT), layout.backward, edges, given, gates,
        work["factors"].written(work, "dz", gates), work["memory"], work["weight_hh"], offsets, N, H, work["tail"],
        steps=min(len(offsets) - 1, FEW_STEPS),
    )  # fmt: skip
    return dz


def _gradients(dx, grads, dz_hh, y, work, packed, weights, cell, threads):
    """Write dx (rows, D) and add the gradients of W, U and the biases. dz_hh: of U h, `Columns`."""
    (x, index, h0, _, offsets), factors, layout, gates = packed, work["factors"], layout_of(cell), work["gates"]
    (rows, D), (M, R), H, S, w = x.shape, y.shape, cell.hidden_size, layout.S, layout.w
    (column_ih, order_ih), (column_hh, order_hh), P = layout.inputs, layout.hidden, panels(H, w)
    # both biases have one gradient where their columns are the same
    same = layout.is_recurrent and column_ih == column_hh and not cell.layer_norm
    if layout.is_recurrent:  # dweight_hh = dz.T @ h_{t-1}
        factors.pack_previous(threads, work, "inputs", h0, y, offsets)
        dbias = grads["bias_hh"][: 0 if same or cell.layer_norm else None]
        left, summed = factors.by_rows(threads, work, dz_hh, P)
        parallel_for(
            threads, weight_gradient, P * panels(R), grads["weight_hh"].reshape(-1), (dbias, summed), order_hh, w, H, R,
            left, work["inputs"], work["block"],
        )  # fmt: skip
    dz = Columns(gates if index is None else work["table"], rows, S, column_ih, len(order_ih) * w)
    if index is not None:
        parallel_for(threads, _scatter, P, dz.z, gates, index, S, M, rows)
    if cell.layer_norm:
        options.input_gradients(grads, work, layout, cell, dz, threads)
    # dweight_ih = dz.T @ x, dx = dz @ weight_ih
    dbias = np.zeros(0 if cell.layer_norm else len(grads["bias_ih"]), grads["bias_ih"].dtype)
    factors.pack_inputs(threads, work, "inputs", x)
    left, summed = factors.by_rows(threads, work, dz, P, layout.is_recurrent and index is None)
    parallel_for(
        threads, weight_gradient, P * panels(D), grads["weight_ih"].reshape(-1), (dbias, summed), order_ih, w, H, D,
        left, work["inputs"], work["block"],
    )  # fmt: skip
    for side in ("bias_ih", "bias_hh") if same else ("bias_ih",) if dbias.size else ():
        grads[side] += dbias
    factors.pack_transposed(threads, work, "weight_ih", weights["weight_ih"], order_ih, w, H, D)
    depth = factors.count(P * dz.count)
    parallel_for(
        threads, panels_product, rows, dx.reshape(-1), factors.by_columns(threads, work, dz, P, index is None),
        work["weight_ih"], depth * PANEL, 0, P, depth, D, work["tail"],
    )  # fmt: skip
