"""The gradient of a softmax over many classes whose vectors are short, such as the last clusters of an adaptive one.

Its products are small beside its logits, which would be written once and read three times, from memory where there are
many. Here a panel of 64 classes is taken once: its logits are computed again, become their gradient, and are multiplied
with the weight and with x while they are in the L1 cache. The gradient of x is a sum over all panels: some of them are a
part, and the parts are added up in their order, so that the bits are those of any number of threads.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cpu.functions import exp
from nblstm.kernels.cpu.jit import inlined, jit
from nblstm.kernels.cpu.products import ROWS, panels
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor, multiply, multiply_transposed
from nblstm.kernels.cpu.vectors import LANES, like, load, load_part, store, store_part, transpose
from nblstm.kernels.threads import parallel_for

MANY = 8  # panels of classes
PARTS = 32  # of the panels, at most


def is_short(factors, D, V):
    """Whether `short_gradient` computes a softmax over V classes with vectors of D numbers."""
    return factors.numbers == 1 and D <= LANES and panels(V) >= MANY


def short_work(M, D, V, dtype, threads):
    """Scratch of `short_gradient` for up to M rows, by name."""
    empty = lambda *shape: np.zeros(int(np.prod(shape)), dtype)
    return {
        "parts": empty(min(PARTS, panels(V)), M, LANES),
        "slopes": empty(threads, ROWS, PANEL),
        "vectors": empty(threads, PANEL, PANEL),
        "sums of vectors": empty(threads, LANES, PANEL),
    }


@inlined
def _slopes(z, z0, rows, m, x, D, packed, bias, softmax, p):
    """z (rows, 64) = the gradient of sum(scales * losses) by the logits of panel p, for the rows from m on.

    softmax: largest (M,) of the logits, normalizer (M,) log sum exp(logit - largest), targets (M,), scales (M,).
    """
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
    """dweight[p * 64 + j, d] += block[d, j], for `size` classes; vectors: room for block.T, without gaps."""
    for j in range(0, size, LANES):  # what is written behind a row is overwritten by the next
        transpose(vectors, v0 + j * D, D, block, b0 + j, PANEL)
    for i in range(0, size * D, LANES):
        _add_part(dweight, p * PANEL * D + i, load(vectors, v0 + i), size * D - i)


@inlined
def _add_part(array, place, vector, count):
    """array[place : place + count] += the first lanes of vector."""
    if count > 0:
        store_part(array, place, load_part(array, place, count, 0) + vector, count)


@inlined
def _add_sums(dbias, p, size, z, z0, rows):
    """dbias[p * 64 + j] += the sum of column j of z (rows, 64), for `size` classes."""
    a = b = c = d = like(load(z, z0), 0)
    for row in range(z0, z0 + rows * PANEL, PANEL):
        a, b = a + load(z, row), b + load(z, row + LANES)
        c, d = c + load(z, row + 2 * LANES), d + load(z, row + 3 * LANES)
    _add_part(dbias, p * PANEL, a, size)
    _add_part(dbias, p * PANEL + LANES, b, size - LANES)
    _add_part(dbias, p * PANEL + 2 * LANES, c, size - 2 * LANES)
    _add_part(dbias, p * PANEL + 3 * LANES, d, size - 3 * LANES)


@jit
def _short_gradient(dhead, x, head, work, softmax, sizes, share):
    """dhead, of weight and bias, += those of the parts start ... stop of all panels, of `count`; parts[part] (M, 16) = their dx.

    head: weight, as it is and packed, and bias; sizes: (M, D, V, count).
    """
    own, start, stop, _, _ = share
    (dweight, dbias), (weight, packed, bias), (z, vectors, block, parts), (M, D, V, count) = dhead, head, work, sizes
    P, z0, v0, b0 = -(-V // PANEL), own * ROWS * PANEL, own * PANEL * PANEL, own * LANES * PANEL
    for part in range(start, stop):
        for i in range(part * M * LANES, (part + 1) * M * LANES):
            parts[i] = 0
        for p in range(P * part // count, P * (part + 1) // count):
            size = min(PANEL, V - p * PANEL)
            for j in range(size):
                store(vectors, v0 + j * PANEL, load_part(weight, (p * PANEL + j) * D, D, 0))
            for i in range(b0, b0 + D * PANEL):
                block[i] = 0
            for m in range(0, M, ROWS):
                rows = min(ROWS, M - m)
                _slopes(z, z0, rows, m, x, D, packed, bias, softmax, p)
                _add_sums(dbias, p, size, z, z0, rows)
                C, A = Block(parts, (part * M + m) * LANES, LANES), Factor(z, z0, PANEL, 0, 1, size)
                multiply(C, rows, LANES, A, vectors, v0)
                multiply_transposed(Block(block, b0, PANEL), D, PANEL, Factor(x, m * D, D, 0, 1, rows), z, z0)
            _add_vectors(dweight, p, size, D, block, b0, vectors, v0)


def short_gradient(dx, dweight, dbias, work, x, packed, weight, softmax, threads):
    """The gradient of sum(scales * losses) overwrites dx (M, D) and is added to dweight (V, D) and dbias (V,).

    work: `short_work`, and "bias" of a softmax's. packed: all panels of the weight. softmax: as `_slopes` says.
    """
    (M, D), V, parts = x.shape, len(dbias), work["parts"]
    count, rooms = min(PARTS, panels(V)), (work["slopes"], work["vectors"], work["sums of vectors"], parts)
    parallel_for(
        threads, _short_gradient, count, (dweight.reshape(-1), dbias), np.ascontiguousarray(x).reshape(-1),
        (weight.reshape(-1), packed, work["bias"]), rooms, softmax, (M, D, V, count),
    )  # fmt: skip
    np.add.reduce(parts[: count * M * LANES].reshape(count, M, LANES)[:, :, :D], axis=0, out=dx)
