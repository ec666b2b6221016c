"""Heads on a card: a linear layer, a squared error, and a softmax with its losses and their gradient."""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from nblstm.kernels import LOGITS_BYTES
from nblstm.kernels.cuda.arrays import constant_on_card, copy_back, empty, ids_on_card, launch, on_card
from nblstm.kernels.cuda.device import ROW_THREADS, ROWS, device
from nblstm.kernels.cuda.products import add_column_sums, input_product, linear_product, weight_product

# ---------------------------------------------------------------- linear layer


def linear_work(M, D, V, dtype, threads):
    """Scratch for `linear_forward` and `linear_backward`: none."""
    return ()


def linear_forward(y, work, x, weight, bias, threads):
    """See reference.linear_forward."""
    out = on_card(y)
    linear_product(out, on_card(x), on_card(weight), on_card(bias), len(x), len(bias), x.shape[1])
    copy_back(y, out)


def linear_backward(dx, dweight, dbias, dy, work, x, weight, threads):
    """See reference.linear_backward."""
    (M, D), V = x.shape, dy.shape[1]
    out, dW, db, d = on_card(dx), on_card(dweight), on_card(dbias), on_card(dy)
    input_product(out, d, on_card(weight), out, M, D, V)  # y = x weight^T
    weight_product(dW, d, on_card(x), dW, V, D, M)  # y = x weight^T
    add_column_sums(db, d, M, V)  # y = ... + bias
    for gradient, flat in ((dx, out), (dweight, dW), (dbias, db)):
        copy_back(gradient, flat)


# ---------------------------------------------------------------- squared error


@cuda.jit
def _squared_error(count, losses, dy, y, targets, scales, V):
    """see reference.squared_error; a thread a row"""
    m = cuda.grid(1)
    if m < count:
        total, each = np.float32(0), np.float32(2) / np.float32(V)
        for o in range(m * V, (m + 1) * V):
            error = np.float32(y[o]) - targets[o]
            total += error * error
            dy[o] = error * scales[m] * each  # error^2 / V
        losses[m] = total / np.float32(V)


def squared_error(losses, dy, y, targets, scales, threads):
    """See reference.squared_error."""
    out, gradient = on_card(losses), on_card(dy)
    launch(_squared_error, len(losses), out, gradient, on_card(y), on_card(targets), on_card(scales), y.shape[1])
    copy_back(losses, out)
    copy_back(dy, gradient)


# ---------------------------------------------------------------- softmax head


@device
def _folded(parts, largest):
    """The sum of a row's parts, or the largest of them, the same for all its threads."""
    cuda.syncthreads()
    row, result = cuda.threadIdx.y, parts[cuda.threadIdx.y, 0]
    for k in range(1, ROW_THREADS):
        result = max(result, parts[row, k]) if largest else result + parts[row, k]
    cuda.syncthreads()
    return result


@cuda.jit
def _softmax(losses, logits, targets, scales, classes, smoothing, M, V, backward):
    """The losses of ROWS rows a block and, where asked, the logits' gradient in their place"""
    parts = cuda.shared.array((ROWS, ROW_THREADS), np.float32)
    row, lane, m = cuda.threadIdx.y, cuda.threadIdx.x, cuda.blockIdx.x * ROWS + cuda.threadIdx.y
    width = V if m < M else 0
    largest = np.float32(-math.inf)
    for v in range(lane, width, ROW_THREADS):
        largest = max(largest, logits[m * V + v])
    parts[row, lane] = largest
    largest = _folded(parts, True)
    total = np.float32(0)
    for v in range(lane, width, ROW_THREADS):
        total += np.float32(math.exp(logits[m * V + v] - largest))
    parts[row, lane] = total
    total = _folded(parts, False)
    log_total = np.float32(math.log(total)) + largest if m < M else np.float32(0)
    share, spread, others = smoothing / np.float32(V), np.float32(0), np.float32(0)
    if smoothing > 0:
        for v in range(lane, width, ROW_THREADS):
            others += classes[v] * share
            spread += classes[v] * share * (log_total - logits[m * V + v])
    parts[row, lane] = others
    others = _folded(parts, False)
    parts[row, lane] = spread
    spread = _folded(parts, False)
    if m < M:
        target = targets[m]
        own = (np.float32(1) - smoothing) * classes[target]
        loss = own * (log_total - logits[m * V + target]) + spread
    cuda.syncthreads()
    if m < M:
        if lane == 0:
            losses[m] = loss
        for v in range(lane, width if backward else 0, ROW_THREADS):
            p = np.float32(math.exp(logits[m * V + v] - log_total))
            wanted = classes[v] * share + (own if v == target else np.float32(0))
            logits[m * V + v] = scales[m] * (p * (own + others) - wanted)


def softmax_work(M, D, V, dtype, threads):
    """Logits of as many rows as LOGITS_BYTES hold, at least one."""
    return empty((max(1, min(M, LOGITS_BYTES // (4 * V))) * V,), np.float32)


softmax_gradient_work = softmax_work


def softmax_losses(losses, work, x, targets, weight, bias, threads):
    """See reference.softmax_losses."""
    (M, D), V, out = x.shape, len(bias), on_card(losses)
    x_, W, b, ids = on_card(x), on_card(weight), on_card(bias), ids_on_card(targets)
    ones = constant_on_card(np.ones(V, np.float32))
    for start, stop in _turns(M, work.size // V):
        n = stop - start
        linear_product(work, x_[start * D : stop * D], W, b, n, V, D)
        _softmax[-(-n // ROWS), (ROW_THREADS, ROWS)](
            out[start:stop], work, ids[start:stop], ones, ones, np.float32(0), n, V, False
        )
    copy_back(losses, out)


def softmax_losses_and_gradient(losses, dx, dweight, dbias, work, x, loss, weight, bias, threads):
    """See reference.softmax_losses_and_gradient."""
    (M, D), V, out, (targets, scales, classes, smoothing) = x.shape, len(bias), on_card(losses), loss
    x_, W, b, ids, counts = on_card(x), on_card(weight), on_card(bias), ids_on_card(targets), constant_on_card(scales)
    dx_, dW, db = on_card(dx), on_card(dweight), on_card(dbias)
    kinds_ = constant_on_card(np.ones(V, np.float32) if classes is None else classes)
    for start, stop in _turns(M, work.size // V):
        n = stop - start
        read, found = (x_, dx_) if n == M else (x_[start * D : stop * D], dx_[start * D : stop * D])
        rows = [array if n == M else array[start:stop] for array in (out, ids, counts)]
        linear_product(work, read, W, b, n, V, D)
        _softmax[-(-n // ROWS), (ROW_THREADS, ROWS)](
            rows[0], work, rows[1], rows[2], kinds_, np.float32(smoothing), n, V, True
        )
        input_product(found, work, W, W, n, D, V)
        weight_product(dW, work, read, W, V, D, n)
        add_column_sums(db, work, n, V)
    for result, flat in ((losses, out), (dx, dx_), (dweight, dW), (dbias, db)):
        copy_back(result, flat)


def _turns(M: int, most: int) -> list[tuple[int, int]]:
    """M rows in parts of at most so many: (start, stop) of each."""
    return [(start, min(M, start + most)) for start in range(0, M, most)]
