"""Surprisal of each token of a text, and the tokens that the network expected instead."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

ALTERNATIVES = 5
BLOCK_BYTES = 1 << 26  # as many tokens are looked at in float64 at once as stay below this


@dataclass(frozen=True)
class RankedSurprisals:
    """For each of T tokens, given those before it.

    bits (T,): -log2 of its probability. ranks (T,): its place among all tokens by probability, from 1.
    best (T, A): the most probable ids, in order; probabilities (T, A): theirs.
    """

    bits: np.ndarray
    ranks: np.ndarray
    best: np.ndarray
    probabilities: np.ndarray


def surprisals(logits: np.ndarray, targets: np.ndarray) -> RankedSurprisals:
    """Return the surprisals of targets (T,), given the logits (T, V) before each."""
    rows = max(1, BLOCK_BYTES // (8 * logits.shape[1]))
    blocks = [_block(logits[k : k + rows], targets[k : k + rows]) for k in range(0, max(1, len(targets)), rows)]
    return RankedSurprisals(*(np.concatenate(parts) for parts in zip(*blocks)))


def _block(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, ...]:
    logits = logits.astype(np.float64)
    largest = logits.max(axis=1, keepdims=True)
    log_p = logits - largest - np.log(np.exp(logits - largest).sum(axis=1, keepdims=True))  # log softmax
    own = log_p[np.arange(len(targets)), targets]
    ranks = 1 + (log_p > own[:, None]).sum(axis=1)
    best = np.argsort(-log_p, axis=1, kind="stable")[:, :ALTERNATIVES]
    return -own / math.log(2), ranks, best, np.exp(np.take_along_axis(log_p, best, axis=1))
