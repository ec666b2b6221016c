"""The gradient of a softmax over many classes whose vectors are short, such as a cluster of an adaptive one.

Its products are small beside its logits, which would be written once and read three times, from memory where there are
many. Here a panel of 64 classes is taken once: its logits are computed again, become their gradient, and are multiplied
with the weight and with x while they are in the L1 cache. The gradient of x is a sum over all panels: some of them are a
part, and the parts are added up in their order, so that the bits are those of any number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nblstm.kernels.cpu.functions import exp
from nblstm.kernels.cpu.jit import inlined, jit
from nblstm.kernels.cpu.products import MOST_COLUMNS, ROWS, panels, product
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor, multiply, multiply_transposed
from nblstm.kernels.cpu.vectors import LANES, like, load, load_part, store, store_part, transpose
from nblstm.kernels.threads import parallel_for

MANY = 8  # panels of classes
PARTS = 32  # of the panels, at most


class Softmax(NamedTuple):
    """What a softmax of rows has left, and what is wanted of them."""

    largest: np.ndarray  # (M,) of the logits
    normalizer: np.ndarray  # (M,) log sum exp(logit - largest)
    targets: np.ndarray  # (M,)
    scales: np.ndarray  # (M,) how much the losses count


def is_short(factors, D, V):
    """Whether `short_gradient` computes a softmax over V classes with vectors of D numbers."""
    return factors.numbers == 1 and D <= PANEL and panels(V) >= MANY


def short_work(M, D, V, dtype, threads):
    """Scratch of `short_gradient` for up to M rows, by name."""
    empty = lambda *shape: np.zeros(int(np.prod(shape)), dtype)
    return {
        "parts": empty(min(PARTS, panels(V)), M, D),
        "slopes": empty(threads, ROWS, PANEL),
        "vectors": empty(threads, PANEL, PANEL),
    }


@inlined
def _slopes(z, z0, rows, m, x, D, packed, bias, softmax, p):
    """z (rows, 64) = the gradient of sum(scales * losses) by the logits of panel p, for the rows from m on."""
    largest, normalizer, targets, scales = softmax
    for r in range(rows):
        for j in range(0, PANEL, LANES):
            store(z, z0 + r * PANEL + j, load(bias, p * PANEL + j))
    multiply(Block(z, z0, PANEL), rows, PANEL, Factor(x, m * D, D, 0, 1, D), packed, p * D * PANEL)
    for r in range(rows):
        row, peak, mass, scale = z0 + r * PANEL, largest[m + r], normalizer[m + r], scales[m + r]
        for j in range(0, PANEL, LANES):
            store(z, row + j, exp(load(z, row + j) - peak - mass) * scale)  # d log sum exp = softmax
        target = targets[m + r] - p * PANEL
        if 0 <= target < PANEL:
            z[row + target] -= scale  # d logit of the target


@inlined
def _add_vectors(dweight, p, size, D, block, b0, vectors, v0):
    """dweight[p * 64 + j, d] += block[d, j], for `size` classes; vectors: room for block.T."""
    for d in range(0, D, LANES):
        for j in range(0, size, LANES):
            transpose(vectors, v0 + j * PANEL + d, PANEL, block, b0 + d * PANEL + j, PANEL)
    for j in range(size):
        target, row = (p * PANEL + j) * D, v0 + j * PANEL
        for d in range(0, D, LANES):
            if d + LANES <= D:
                store(dweight, target + d, load(dweight, target + d) + load(vectors, row + d))
            else:
                value = load_part(dweight, target + d, D - d, 0) + load(vectors, row + d)
                store_part(dweight, target + d, value, D - d)


@inlined
def _add_sums(dbias, p, size, z, z0, rows):
    """dbias[p * 64 + j] += the sum of column j of z (rows, 64), for `size` classes."""
    for j in range(0, size, LANES):
        total = like(load(z, z0), 0)
        for r in range(rows):
            total = total + load(z, z0 + r * PANEL + j)
        store_part(dbias, p * PANEL + j, load_part(dbias, p * PANEL + j, size - j, 0) + total, size - j)


@jit
def _short_gradient(dweight, dbias, parts, count, work, x, packed, weight, bias, softmax, sizes, share):
    """dweight and dbias += those of the parts start ... stop of all panels, of `count`; parts[part] (M, D) = their dx."""
    own, start, stop, _, _ = share
    (z, vectors, block, tail), (M, D, V) = work, sizes
    P, z0, v0, b0 = -(-V // PANEL), own * ROWS * PANEL, own * PANEL * PANEL, own * MOST_COLUMNS * PANEL
    for part in range(start, stop):
        for i in range(part * M * D, (part + 1) * M * D):
            parts[i] = 0
        for p in range(P * part // count, P * (part + 1) // count):
            size = min(PANEL, V - p * PANEL)
            for j in range(size):
                for d in range(0, D, LANES):
                    store(vectors, v0 + j * PANEL + d, load_part(weight, (p * PANEL + j) * D + d, min(LANES, D - d), 0))
            for i in range(b0, b0 + D * PANEL):
                block[i] = 0
            for m in range(0, M, ROWS):
                rows = min(ROWS, M - m)
                _slopes(z, z0, rows, m, x, D, packed, bias, softmax, p)
                _add_sums(dbias, p, size, z, z0, rows)
                A, B = Factor(z, z0, PANEL, 0, 1, size), Block(vectors, v0, 0)
                product(Block(parts, (part * M + m) * D, D), rows, 0, 1, A, B, tail, own * ROWS * LANES)
                multiply_transposed(Block(block, b0, PANEL), D, PANEL, Factor(x, m * D, D, 0, 1, rows), z, z0)
            _add_vectors(dweight, p, size, D, block, b0, vectors, v0)


def short_gradient(dx, dweight, dbias, work, x, packed, weight, softmax, threads):
    """The gradient of sum(scales * losses) overwrites dx (M, D) and is added to dweight (V, D) and dbias (V,).

    work: `short_work`, and "block", "tail" and "bias" of a softmax's. packed: all panels of the weight. softmax: `Softmax`.
    """
    (M, D), V = x.shape, len(dbias)
    count, parts = min(PARTS, panels(V)), work["parts"]
    rooms = work["slopes"], work["vectors"], work["block"], work["tail"]
    parallel_for(
        threads, _short_gradient, count, dweight.reshape(-1), dbias, parts, count, rooms,
        np.ascontiguousarray(x).reshape(-1), packed, weight.reshape(-1), work["bias"], tuple(softmax), (M, D, V),
    )  # fmt: skip
    np.add.reduce(parts[: count * M * D].reshape(count, M, D), axis=0, out=dx)
