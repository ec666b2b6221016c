"""Drawing the next token on a card."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from nblstm.kernels import reference
from nblstm.kernels.cuda.arrays import host, ids_on_card, on_card
from nblstm.kernels.cuda.device import ROW_THREADS

LOST = -2  # in the place of a token: there is none to draw


@cuda.jit
def draw_kernel(tokens, logits, uniform, allowed, temperature, V):
    """Draw a token of each text, one block a text, its threads a segment of the vocabulary each; in float64

    best: the most likely token of each segment, -1 where none is allowed, LOST where a logit is NaN or inf.
    """
    sums = cuda.shared.array(ROW_THREADS, np.float64)
    best = cuda.shared.array(ROW_THREADS, np.int64)
    n, lane = cuda.blockIdx.x, cuda.threadIdx.x
    start, stop = lane * V // ROW_THREADS, (lane + 1) * V // ROW_THREADS
    place, row, lost = -1, n * V, False
    for v in range(start, stop):
        lost = lost or not logits[row + v] < math.inf
        if allowed[v] and (place < 0 or logits[row + v] > logits[row + place]):
            place = v
    best[lane] = LOST if lost else place
    cuda.syncthreads()
    place, lost = -1, False
    for k in range(ROW_THREADS):
        lost = lost or best[k] == LOST
        if best[k] >= 0 and (place < 0 or logits[row + best[k]] > logits[row + place]):
            place = best[k]
    if lost or logits[row + place] == -math.inf:
        if lane == 0:
            tokens[n] = -1
        return
    if temperature == 0:
        if lane == 0:
            tokens[n] = place
        return
    largest, total = np.float64(logits[row + place]), 0.0
    for v in range(start, stop):
        if allowed[v]:
            total += math.exp((np.float64(logits[row + v]) - largest) / temperature)
    sums[lane] = total
    cuda.syncthreads()
    if lane == 0:
        total = 0.0
        for k in range(ROW_THREADS):
            total += sums[k]
        goal, before, k = uniform[n] * total, 0.0, 0
        while k < ROW_THREADS - 1 and before + sums[k] <= goal:
            before += sums[k]
            k += 1
        token = place
        for v in range(k * V // ROW_THREADS, V):  # the first whose cumulative probability exceeds the goal
            weight = math.exp((np.float64(logits[row + v]) - largest) / temperature) if allowed[v] else 0.0
            before += weight
            if weight > 0:
                token = v
            if before > goal:
                break
        tokens[n] = token


def is_plain(filters: Any) -> bool:
    """Whether the card can draw: with no filter but the temperature."""
    return filters._replace(temperature=1.0, repetition_window=0) == type(filters)()


def allowed_ids(V: int, banned: np.ndarray) -> Any:
    allowed = np.ones(V, np.int64)
    allowed[banned] = 0
    return ids_on_card(allowed)


def draw(tokens, logits, uniform, history, banned, filters, threads):
    """See reference.draw, which does it where there is a filter beside the temperature."""
    if not is_plain(filters):
        return reference.draw(tokens, host(logits), uniform, history, banned, filters, threads)
    N, V = logits.shape
    drawn = cuda.device_array(N, np.int64)
    draw_kernel[N, ROW_THREADS](
        drawn, on_card(logits), on_card(uniform), allowed_ids(V, banned), float(filters.temperature), V
    )
    tokens[...] = drawn.copy_to_host()
