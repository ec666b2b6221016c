"""The neural cache on the CPU, in the notation of `reference.cache`. A kernel's last argument is its share."""

from __future__ import annotations

import math

from nblstm.kernels.cpu.jit import jit
from nblstm.kernels.threads import parallel_for


@jit
def _cache_losses(losses, similarity, targets, size, theta, amount, share):
    """`reference.cache_losses` of rows start ... stop; amount: the share of the cache"""
    _, start, stop, _, _ = share
    M, positions = len(losses), len(targets)
    for m in range(start, stop):
        here, row = positions - M + m, m * positions
        first = max(0, here - size)
        if first == here:
            continue
        peak = -math.inf
        for i in range(first, here):
            peak = max(peak, theta * similarity[row + i])
        total, found = 0.0, 0.0
        for i in range(first, here):
            e = math.exp(theta * similarity[row + i] - peak)
            total += e
            if targets[i] == targets[here]:
                found += e
        # log p = log((1 - share) p_model + share p_cache), by the larger of both
        model, seen = math.log1p(-amount) - losses[m], -math.inf
        if found > 0.0 and amount > 0.0:
            seen = math.log(amount) + math.log(found / total)
        high, low = max(model, seen), min(model, seen)
        losses[m] = (
            -(high + (math.log1p(math.exp(low - high)) if low > -math.inf else 0.0)) if total == total else math.nan
        )


def cache_losses(losses, similarity, targets, cache, threads):
    """See reference.cache_losses."""
    parallel_for(
        threads, _cache_losses, len(losses), losses, similarity.reshape(-1), targets, cache.size, float(cache.theta),
        float(cache.share),
    )  # fmt: skip
