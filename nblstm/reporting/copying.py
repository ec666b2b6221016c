"""How long a span of a text is copied from a corpus, found in one pass over the corpus.

A window's hash is sum x[i + j] B^j modulo 2^64, B odd (Karp & Rabin 1987). With the running sums S of x[j] B^j it is
(S[i + L] - S[i]) B^-i, so the hashes of all windows of any length come out of one array, and a block of the corpus is
searched for a span one longer than the longest so far: in most blocks there is none. A span that is found grows by
doubling and halving, which is sound because a common span of L tokens holds common spans of every length below.
Equal hashes are compared token by token, so nothing is found that is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BASE = 0x9E3779B97F4A7C15  # odd, with well-mixed bits: 2^64 divided by the golden ratio (Knuth 1998, section 6.4)
INVERSE = pow(BASE, -1, 1 << 64)
HASHED_AT_ONCE = 1 << 20  # tokens of the corpus that are hashed at once
FILTER_BITS = 20


@dataclass(frozen=True)
class Span:
    """tokens (length,): the longest span that a text and the corpus share; place: where the corpus has it."""

    tokens: np.ndarray
    place: int

    def __len__(self) -> int:
        return len(self.tokens)


def longest_copy(texts: Sequence[np.ndarray], corpus: np.ndarray) -> Span:
    """Find the longest span of tokens of any of the texts, (n,) integers each, that occurs in the corpus (M,) too."""
    sample = _joined(texts)
    powers = _powers(INVERSE, HASHED_AT_ONCE + 2 * len(sample))
    ours = _Hashes(sample, powers)
    best = Span(sample[:0], 0)
    for start in range(0, len(corpus), HASHED_AT_ONCE):
        part = _shifted(corpus[start : start + HASHED_AT_ONCE + len(sample)])
        length, at = _longer(ours, _Hashes(part, powers), len(best))
        if length > len(best):
            best = Span(corpus[start + at : start + at + length].astype(np.int64), start + at)
    return best


def _shifted(ids: np.ndarray) -> np.ndarray:
    """Return ids (n,) as uint64, from 1 on: a 0 in front would not change a hash."""
    return np.asarray(ids).astype(np.uint64) + np.uint64(1)


def _joined(texts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the texts in one array, a 0, which no corpus has, before each: no span reaches from one into the next."""
    return np.concatenate([part for text in texts for part in (np.zeros(1, np.uint64), _shifted(text))])


def _powers(base: int, count: int) -> np.ndarray:
    """Return base^0 .. base^(count - 1) modulo 2^64, (count,) uint64."""
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


class _Hashes:
    """Tokens (n,) uint64 and the hashes of their windows. inverses: powers of INVERSE, at least n."""

    def __init__(self, tokens: np.ndarray, inverses: np.ndarray) -> None:
        self.tokens, self.inverses = tokens, inverses
        self.sums = np.zeros(len(tokens) + 1, np.uint64)
        np.cumsum(tokens * _powers(BASE, len(tokens)), out=self.sums[1:])

    def windows(self, length: int) -> np.ndarray:
        """Return the hashes (n - length + 1,) of all windows of a length <= n."""
        hashes = self.sums[length:] - self.sums[: len(self.sums) - length]
        hashes *= self.inverses[: len(hashes)]
        return hashes


def _longer(ours: _Hashes, theirs: _Hashes, known: int) -> tuple[int, int]:
    """Find (length, place in theirs) of the longest common span above `known` tokens; (known, 0) if there is none."""
    most = min(len(ours.tokens), len(theirs.tokens))
    length, place, step = known, 0, 1
    while length + step <= most and (found := _common(ours, theirs, length + step)) is not None:
        length, place, step = length + step, found, 2 * step
    while step := step // 2:
        if length + step <= most and (found := _common(ours, theirs, length + step)) is not None:
            length, place = length + step, found
    return length, place


def _common(ours: _Hashes, theirs: _Hashes, length: int) -> int | None:
    """Find the place of a window of this length in theirs that ours has too; None if there is none."""
    mine, other = ours.windows(length), theirs.windows(length)
    shift = np.uint64(64 - FILTER_BITS)  # the high bits depend on every token of a window, the low ones do not
    possible = np.zeros(1 << FILTER_BITS, bool)
    possible[mine >> shift] = True
    candidates = np.flatnonzero(possible[other >> shift])
    candidates = candidates[np.isin(other[candidates], mine)]
    for place in candidates.tolist():
        window = theirs.tokens[place : place + length]
        for start in np.flatnonzero(mine == other[place]).tolist():
            if np.array_equal(ours.tokens[start : start + length], window):
                return place
    return None
