"""Distillation on the CPU: three passes over a row of both logits, while it is in the cache."""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cpu.functions import exp
from nblstm.kernels.cpu.jit import jit
from nblstm.kernels.cpu.vectors import LANES, lane_max, lane_sum, larger, load_part, store_part
from nblstm.kernels.threads import parallel_for

NEVER = -1e30  # a logit behind the last one: exp makes 0 of it, and 0 times it is 0


@jit
def _distil_rows(losses, dy, y, taught, targets, scales, numbers, V, share):
    """`reference.distillation` of rows start ... stop; numbers: 1 / T, T, a."""
    _, start, stop, _, _ = share
    cooling, T, a = numbers[0], numbers[1], numbers[2]
    for m in range(start, stop):
        row = m * V
        most = load_part(y, row, min(LANES, V), NEVER)
        theirs = load_part(taught, row, min(LANES, V), NEVER)
        for j in range(LANES, V, LANES):
            width = min(LANES, V - j)
            most = larger(most, load_part(y, row + j, width, NEVER))
            theirs = larger(theirs, load_part(taught, row + j, width, NEVER))
        peak, highest = lane_max(most), lane_max(theirs)
        mass, soft_mass, their_mass = most * 0, most * 0, most * 0
        apart = most * 0  # sum exp((taught - highest) / T) ((taught - highest) - (y - peak)) / T
        for j in range(0, V, LANES):
            width = min(LANES, V - j)
            own, other = load_part(y, row + j, width, NEVER) - peak, load_part(taught, row + j, width, NEVER) - highest
            wanted = exp(other * cooling)
            mass, soft_mass, their_mass = mass + exp(own), soft_mass + exp(own * cooling), their_mass + wanted
            apart = apart + wanted * ((other - own) * cooling)
        total, soft_total, their_total = lane_sum(mass), lane_sum(soft_mass), lane_sum(their_mass)
        divergence = lane_sum(apart) / their_total + (np.log(soft_total) - np.log(their_total))
        hard = np.log(total) - (y[row + targets[m]] - peak)
        losses[m] = (1 - a) * hard + a * T * T * divergence
        p, soft = scales[m] * (1 - a) / total, scales[m] * a * T
        for j in range(0, V, LANES):
            width = min(LANES, V - j)
            own, other = load_part(y, row + j, width, NEVER) - peak, load_part(taught, row + j, width, NEVER) - highest
            slope = exp(own * cooling) / soft_total - exp(other * cooling) / their_total
            store_part(dy, row + j, exp(own) * p + slope * soft, width)
        dy[row + targets[m]] -= scales[m] * (1 - a)


def distillation(losses, dy, y, lesson, threads):
    """See reference.distillation."""
    (targets, scales, taught, T, a), V = lesson, y.shape[1]
    numbers = np.array([1 / T, T, a], y.dtype)
    flat = (array.reshape(-1) for array in (dy, y, taught))
    parallel_for(threads, _distil_rows, len(y), losses, *flat, targets, scales, numbers, V)
