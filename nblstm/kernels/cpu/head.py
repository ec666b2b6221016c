"""Heads on the CPU: a linear layer, a squared error, and a softmax with its losses and their gradient behind it.

Names: P panels of V rows of the weight, Q panels of 64 of its columns, M rows, D inputs.
Arrays are flat, or addressed by flat offsets; a kernel's last argument is its share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nblstm.kernels import LOGITS_BYTES
from nblstm.kernels.cpu.factors import FACTORS
from nblstm.kernels.cpu.functions import exp
from nblstm.kernels.cpu.jit import inlined, jit, named
from nblstm.kernels.cpu.products import (
    IN_ORDER,
    MOST_COLUMNS,
    ROWS,
    Columns,
    pack_inputs,
    panels,
    panels_product,
    product,
    weight_gradient,
)
from nblstm.kernels.cpu.short import is_short, short_gradient, short_work
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor, multiply
from nblstm.kernels.cpu.vectors import LANES, lane_max, lane_sum, larger, load, store
from nblstm.kernels.threads import parallel_for

HEAD_ROWS = 480  # rows of a block of logits, which one thread computes
HEAD_PANELS = 64  # panels of the head's weight that are packed at a time


# ---------------------------------------------------------------- linear layer


@jit
def _linear_rows(y, x, packed, bias, V, D, tail, share):
    """y[start : stop] = x @ packed + bias"""
    part, start, stop, _, _ = share
    for m in range(start, stop, ROWS):
        rows = min(ROWS, stop - m)
        for r in range(m, m + rows):
            for v in range(V):
                y[r * V + v] = bias[v]
        A, B = Factor(x, m * D, D, 0, 1, D), Block(packed, 0, D * PANEL)
        product(Block(y, m * V, V), rows, 0, -(-V // PANEL), A, B, tail, part * ROWS * LANES)


@jit
def _linear_rows_backward(dx, dy, packed, V, D, tail, share):
    """dx[start : stop] = dy @ weight, dy (M, V) row by row"""
    part, start, stop, _, _ = share
    for m in range(start, stop, ROWS):
        rows = min(ROWS, stop - m)
        for i in range(m * D, (m + rows) * D):
            dx[i] = 0
        A, B = Factor(dy, m * V, V, 0, 1, V), Block(packed, 0, V * PANEL)
        product(Block(dx, m * D, D), rows, 0, -(-D // PANEL), A, B, tail, part * ROWS * LANES)


def linear_work(M, D, V, dtype, threads):
    """Scratch for `linear_forward` and `linear_backward` on up to M rows, by name."""
    return linear_work_of(FACTORS, M, D, V, dtype, threads)


def linear_work_of(factors, M, D, V, dtype, threads):
    """`linear_work` whose products have these factors."""
    P, Q, count, copied = panels(V), panels(D), factors.count, factors.copied
    empty = lambda *shape: np.zeros(int(np.prod(shape)), dtype)
    room = lambda size: np.zeros(size, factors.dtype(dtype))
    return {
        "factors": factors,
        "weight": room(max(P * count(D), Q * count(V)) * PANEL),
        "inputs": room(Q * count(M) * PANEL),
        "x": room(copied(M * max(count(D), count(V)))),
        "rounded": room(copied(V * count(D))),
        "dz pairs": room(copied(P * count(M) * PANEL)),
        "dy": empty(P, M, PANEL),
        "sums": empty(P, PANEL),
        "tail": empty(threads, ROWS, LANES),
        "block": empty(threads, MOST_COLUMNS, PANEL),
    }


def linear_forward(y, work, x, weight, bias, threads):
    """See reference.linear_forward."""
    (M, D), V, factors = x.shape, len(bias), work["factors"]
    factors.pack(threads, work, "weight", weight, IN_ORDER, PANEL, V, D)
    parallel_for(
        threads, _linear_rows, M, y.reshape(-1), factors.rows(threads, work, "x", x), work["weight"], bias, V,
        factors.count(D), work["tail"],
    )  # fmt: skip


def linear_backward(dx, dweight, dbias, dy, work, x, weight, threads):
    """See reference.linear_backward."""
    (M, D), V, factors = x.shape, len(dbias), work["factors"]
    P, Q = panels(V), panels(D)
    factors.pack_inputs(threads, work, "weight", weight)
    parallel_for(
        threads, _linear_rows_backward, M, dx.reshape(-1), factors.rows(threads, work, "x", dy), work["weight"],
        factors.count(V), D, work["tail"],
    )  # fmt: skip
    factors.pack_inputs(threads, work, "inputs", x)
    parallel_for(threads, pack_inputs, M, work["dy"], dy.reshape(-1), M, V)
    left, summed = factors.by_rows(threads, work, Columns(work["dy"], M, PANEL, 0, PANEL), P)
    parallel_for(
        threads, weight_gradient, P * Q, dweight.reshape(-1), (dbias, summed), IN_ORDER, PANEL, V, D,
        left, work["inputs"], work["block"],
    )  # fmt: skip


# ---------------------------------------------------------------- squared error


@jit
def _squared_error(losses, dy, y, targets, scales, each, V, share):
    """`reference.squared_error` of rows start ... stop; each: 1 / V"""
    _, start, stop, _, _ = share
    for m in range(start, stop):
        losses[m] = 0
        slope = scales[m] * (each + each)
        for i in range(m * V, (m + 1) * V):
            error = y[i] - targets[i]
            losses[m] += error * error
            dy[i] = slope * error
        losses[m] *= each


def squared_error(losses, dy, y, targets, scales, threads):
    """See reference.squared_error."""
    M, V = y.shape
    flat = (array.reshape(-1) for array in (dy, y, targets))
    parallel_for(threads, _squared_error, M, losses, *flat, scales, y.dtype.type(1 / V), V)


# ---------------------------------------------------------------- softmax head
#
# Logits stand in panels (P, M, 64), the columns behind the last one at -inf. They are computed panel by panel; a panel's
# largest logit and sum of exponentials are taken while it is in the cache, and a row's are put together from all panels
# in their order, so that threads may share both rows and panels.


def softmax_work(M, D, V, dtype, threads):
    """Scratch of `softmax_losses` for up to M rows, by name."""
    return softmax_work_of(FACTORS, M, D, V, dtype, threads)


def softmax_work_of(factors, M, D, V, dtype, threads):
    """`softmax_work` whose products have these factors."""
    count, copied, held = factors.count, factors.copied, _held(factors, D, V) * PANEL
    room = lambda size: np.zeros(size, factors.dtype(dtype))
    return {
        "factors": factors,
        **totals_work(M, V, dtype, threads),
        "chunk": room(held * count(panels(D) * PANEL)),
        "x": room(copied(M * count(D))),
        "rounded": room(copied(held * count(D))),
    }


def totals_work(M, V, dtype, threads):
    """What `logits_kernel` and `normalize_rows` write to, for up to M rows, and the panels of the bias, by name."""
    empty = lambda *shape: np.zeros(int(np.prod(shape)), dtype)
    return {
        "logits": empty(threads, HEAD_ROWS, PANEL),
        "bias": empty(panels(V), PANEL),
        "largest": empty(panels(V), M),
        "total": empty(panels(V), M),
        "chosen": empty(M),
        "normalizer": empty(M),
    }


def softmax_gradient_work(M, D, V, dtype, threads):
    """Scratch of `softmax_losses_and_gradient` for up to M rows, by name: up to LOGITS_BYTES of logits."""
    return softmax_gradient_work_of(FACTORS, M, D, V, dtype, threads)


def softmax_gradient_work_of(factors, M, D, V, dtype, threads):
    """`softmax_gradient_work` whose products have these factors."""
    P, Q, size = panels(V), panels(D), np.dtype(dtype).itemsize
    R = min(max(1, M), max(ROWS, LOGITS_BYTES // (P * PANEL * size)))
    empty = lambda *shape: np.zeros(int(np.prod(shape)), dtype)
    room = lambda size: np.zeros(size, factors.dtype(dtype))
    return {
        **softmax_work_of(factors, R, D, V, dtype, threads),
        "some logits": empty(threads, HEAD_ROWS, PANEL),
        "logits": empty(P, R, PANEL),
        **(short_work(R, D, V, dtype, threads) if is_short(factors, D, V) else {}),
        "rows": R,
        "inputs": room(Q * factors.count(R) * PANEL),
        "dz": room(factors.copied(P * R * factors.count(PANEL))),
        "dz pairs": room(factors.copied(P * factors.count(R) * PANEL)),
        **{name: empty(P, PANEL) for name in ("classes", "sums")},
        "tail": empty(threads, ROWS, LANES),
        "block": empty(threads, MOST_COLUMNS, PANEL),
    }


def _held(factors, D, V):
    """How many panels of the weight are packed at a time."""
    return panels(V) if is_short(factors, D, V) else min(panels(V), HEAD_PANELS)


class Totals(NamedTuple):
    """What a softmax needs of the logits."""

    largest: np.ndarray  # (P, M) of a row in each panel; `normalize_rows` puts that of the whole row first
    total: np.ndarray  # (P, M) the sum of exp(logit - largest)
    chosen: np.ndarray  # (M,) the logit of the target


class Weighting(NamedTuple):
    """How much each class counts as a target, and what smoothing adds."""

    classes: np.ndarray  # (P, PANEL) weights, flat
    smoothing: np.floating
    all_classes: np.floating  # the sum of the weights
    is_plain: bool  # all count 1, and nothing is smoothed


@inlined
def _multiply_floats(C, rows, width, x, m, packed, p, D):
    """C[rows, width] += the rows of x (M, D) from m on, times panel p of those that are packed."""
    multiply(C, rows, width, Factor(x, m * D, D, 0, 1, D), packed, p * D * PANEL)


def logits_kernel(name, multiply_rows):
    """The kernel that computes logits with a product such as `_multiply_floats`."""

    def logits(z, kept, totals, x, targets, bias, packed, p0, sizes, share):
        """Blocks start ... stop of HEAD_ROWS rows, counted along a panel first: logits, and what a softmax needs of them.

        The panels of the weight are packed from p0 on. z: all panels (P, M, 64) where `kept`, else room for one block
        of each thread.
        """
        part, start, stop, _, _ = share
        (largest, total, chosen), (M, D, V) = totals, sizes
        blocks = -(-M // HEAD_ROWS)
        for task in range(start, stop):
            p, m0 = p0 + task // blocks, task % blocks * HEAD_ROWS
            rows, z0 = min(HEAD_ROWS, M - m0), part * HEAD_ROWS * PANEL
            if kept:
                z0 = (p * M + m0) * PANEL
            width = min(PANEL, V - p * PANEL)
            width = -(-width // LANES) * LANES
            for m in range(0, rows, ROWS):
                count = min(ROWS, rows - m)
                for r in range(m, m + count):
                    for j in range(0, PANEL, LANES):
                        store(z, z0 + r * PANEL + j, load(bias, p * PANEL + j))
                multiply_rows(Block(z, z0 + m * PANEL, PANEL), count, width, x, m0 + m, packed, p - p0, D)
                for r in range(m, m + count):
                    a, b = load(z, z0 + r * PANEL), load(z, z0 + r * PANEL + LANES)
                    c, d = load(z, z0 + r * PANEL + 2 * LANES), load(z, z0 + r * PANEL + 3 * LANES)
                    peak = lane_max(larger(larger(a, b), larger(c, d)))
                    place = p * M + m0 + r
                    largest[place] = peak
                    total[place] = lane_sum(exp(a - peak) + exp(b - peak) + (exp(c - peak) + exp(d - peak)))
                    target = targets[m0 + r] - p * PANEL
                    if 0 <= target < PANEL:
                        chosen[m0 + r] = z[z0 + r * PANEL + target]

    return named(logits, name)


_logits = logits_kernel("_logits", _multiply_floats)


@jit
def normalize_rows(losses, normalizer, totals, P, M, share):
    """A row's log sum exp is largest[m] + normalizer[m] from here on, losses[m] that less the target's logit.

    The two are kept apart: where logits are huge, their sum would not know the small one any more.
    """
    _, start, stop, _, _ = share
    largest, total, chosen = totals
    for m in range(start, stop):
        peak = largest[m]
        for p in range(1, P):
            value = largest[p * M + m]
            peak = peak if peak > value else value
        mass = total[m] * 0.0  # NaN, where a total is, stays
        for p in range(P):
            mass += total[p * M + m] * np.exp(largest[p * M + m] - peak)
        log_mass = np.log(mass)
        losses[m] = log_mass - (chosen[m] - peak)
        largest[m], normalizer[m] = peak, log_mass


@jit
def _softmax_gradient(z, largest, normalizer, targets, scales, weighting, V, M, share):
    """Logits become the gradient of sum(scales * losses), for blocks of `_logits`; see reference for the equation."""
    _, start, stop, _, _ = share
    classes, smoothing, all_classes, _ = weighting
    blocks, spread = -(-M // HEAD_ROWS), smoothing / V
    for task in range(start, stop):
        p, m0 = task // blocks, task % blocks * HEAD_ROWS
        for m in range(m0, min(m0 + HEAD_ROWS, M)):
            z0, scale, peak = (p * M + m) * PANEL, scales[m], largest[m]
            own = (1 - smoothing) * classes[targets[m]]
            mass = scale * (own + spread * all_classes)
            for j in range(0, PANEL, LANES):
                value = exp(load(z, z0 + j) - peak - normalizer[m]) * mass  # d log sum exp = softmax
                if smoothing > 0:
                    value = value - load(classes, p * PANEL + j) * (scale * spread)
                store(z, z0 + j, value)
            target = targets[m] - p * PANEL
            if 0 <= target < PANEL:
                z[z0 + target] -= scale * own  # d logit of the target


@jit
def _smoothed_losses(losses, z, largest, normalizer, targets, weighting, V, M, share):
    """losses[m] with class weights and label smoothing, from the plain loss and the logits, for rows start ... stop"""
    _, start, stop, _, _ = share
    classes, smoothing, all_classes, _ = weighting
    spread = smoothing / V
    for m in range(start, stop):
        value = (1 - smoothing) * classes[targets[m]] * losses[m]
        if smoothing > 0:
            weighted = all_classes * 0
            for v in range(V):
                weighted += classes[v] * (normalizer[m] - (z[(v // PANEL * M + m) * PANEL + v % PANEL] - largest[m]))
            value += spread * weighted
        losses[m] = value


def softmax_losses(losses, work, x, targets, weight, bias, threads):
    """See reference.softmax_losses."""
    _softmax_forward(losses, work, work["logits"], False, x, targets, weight, bias, threads)


def _softmax_forward(losses, work, logits, kept, x, targets, weight, bias, threads):
    """Losses of M rows, and in `work` their normalizer; in `logits` their logits, if `kept`."""
    (M, D), V, factors = x.shape, len(bias), work["factors"]
    P, blocks, held = panels(V), panels(M, HEAD_ROWS), _held(factors, D, V)
    seen, totals = factors.rows(threads, work, "x", x), (work["largest"], work["total"], work["chosen"])
    work["bias"][:V], work["bias"][V:] = bias, -np.inf
    for p0 in range(0, P, held):
        count, rows = min(held, P - p0), weight[p0 * PANEL : (p0 + held) * PANEL]
        factors.pack(threads, work, "chunk", rows, IN_ORDER, PANEL, len(rows), D)
        parallel_for(
            threads, _logits, count * blocks, logits, kept, totals, seen, targets, work["bias"], work["chunk"], p0,
            (M, factors.count(D), V),
        )  # fmt: skip
    parallel_for(threads, normalize_rows, M, losses, work["normalizer"], totals, P, M)


def softmax_losses_and_gradient(losses, dx, dweight, dbias, work, x, loss, weight, bias, threads):
    """See reference.softmax_losses_and_gradient."""
    targets, scales, classes, smoothing = loss
    kind, V, plain = x.dtype.type, len(bias), classes is None and smoothing == 0
    work["classes"][:V] = 1 if classes is None else classes
    weighting = Weighting(work["classes"], kind(smoothing), kind(work["classes"].sum()), plain)
    for start in range(0, len(x), work["rows"]):
        part = slice(start, start + work["rows"])
        _softmax_block(
            losses[part], dx[part], (dweight, dbias), work, x[part], targets[part], scales[part], weighting,
            (weight, bias), threads,
        )  # fmt: skip


def _softmax_block(losses, dx, dhead, work, x, targets, scales, weighting, head, threads):
    """`softmax_losses_and_gradient` of as many rows as `work` has room for. head, dhead: weight and bias."""
    (weight, bias), (dweight, dbias), factors = head, dhead, work["factors"]
    (M, D), V = x.shape, len(bias)
    P, Q, blocks, z = panels(V), panels(D), panels(M, HEAD_ROWS), work["logits"]
    short = is_short(factors, D, V) and weighting.is_plain
    _softmax_forward(losses, work, work["some logits"] if short else z, not short, x, targets, weight, bias, threads)
    if short:
        softmax = work["largest"], work["normalizer"], targets, scales
        return short_gradient(dx, dweight, dbias, work, x, work["chunk"], weight, softmax, threads)
    softmax = z, work["largest"], work["normalizer"], targets
    if not weighting.is_plain:
        parallel_for(threads, _smoothed_losses, M, losses, *softmax, tuple(weighting), V, M)
    parallel_for(threads, _softmax_gradient, P * blocks, *softmax, scales, tuple(weighting), V, M)
    dz = Columns(z, M, PANEL, 0, PANEL)
    # dweight = dz.T @ x
    factors.pack_inputs(threads, work, "inputs", x)
    left, summed = factors.by_rows(threads, work, dz, P)
    parallel_for(
        threads, weight_gradient, P * Q, dweight.reshape(-1), (dbias, summed), IN_ORDER, PANEL, V, D,
        left, work["inputs"], work["block"],
    )  # fmt: skip
    # dx = dz @ weight, for as many panels as `chunk` holds at a time
    held, along = _held(factors, D, V), factors.by_columns(threads, work, dz, P)
    step = held * PANEL * PANEL
    for p0 in range(0, P, held):
        p1 = min(P, p0 + held)
        factors.pack_rows(threads, work, "chunk", weight, p0 * PANEL, (p1 - p0) * PANEL, step)
        parallel_for(
            threads, panels_product, M, dx.reshape(-1), along, work["chunk"], factors.count(step), p0, p1,
            factors.count(V), D, work["tail"],
        )  # fmt: skip
