"""Uniform numbers: those of NumPy's default generator. `numpy.random` takes longer to import than a short text to write."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

FEW_NUMBERS = 5_000  # numbers, which Python makes before `numpy.random` is imported


class Uniform(Protocol):
    """What draws uniform numbers."""

    def random(self, size: tuple[int, ...]) -> np.ndarray:
        """Draw numbers of [0, 1), float64 of this shape."""


def uniform(seed: int, most: int) -> Uniform:
    """Return what draws the numbers of np.random.default_rng(seed), about so many of them at most."""
    return _FewNumbers(seed) if most <= FEW_NUMBERS else np.random.default_rng(seed)


class _FewNumbers:
    """The numbers of `Random` as arrays."""

    def __init__(self, seed: int) -> None:
        self.source = Random(seed)

    def random(self, size: tuple[int, ...]) -> np.ndarray:
        """Draw numbers of [0, 1), float64 of this shape."""
        return np.array([self.source.random() for _ in range(math.prod(size))], np.float64).reshape(size)


class Random:
    """NumPy's default_rng(seed).random(): PCG64, seeded by SeedSequence. Exported files hold it as it is, for Python 3.8."""

    def __init__(self, seed):
        words = [seed >> 32 * k & 0xFFFFFFFF for k in range(max(1, (seed.bit_length() + 31) // 32))]
        self.hash, low = 0x43B0D7E5, 0xFFFFFFFF
        pool = [self.hashed(word, 0x931E8875) for word in (words + [0] * 4)[:4]]

        def mix(place, word):
            mixed = (0xCA01F9DD * pool[place] - 0x4973F715 * self.hashed(word, 0x931E8875)) & low
            pool[place] = mixed ^ mixed >> 16

        for k in range(4):
            for j in range(4):
                if j != k:
                    mix(j, pool[k])
        for word in words[4:]:
            for j in range(4):
                mix(j, word)
        self.hash = 0x8B51F9DD
        made = [self.hashed(pool[k % 4], 0x58F38DED) for k in range(8)]
        start, step = ((made[k + 1] << 96) + (made[k] << 64) + (made[k + 3] << 32) + made[k + 2] for k in (0, 4))
        self.step, self.state = step << 1 | 1, 0
        self.advance()
        self.state += start
        self.advance()

    def hashed(self, word, multiplier):
        """Mix a word of 32 bits."""
        word ^= self.hash
        self.hash = self.hash * multiplier & 0xFFFFFFFF
        word = word * self.hash & 0xFFFFFFFF
        return word ^ word >> 16

    def advance(self):
        """Take a step of the generator."""
        self.state = (self.state * 0x2360ED051FC65DA44385DF649FCCF645 + self.step) & (1 << 128) - 1

    def random(self):
        """Draw a number of [0, 1)."""
        self.advance()
        mixed, turn = (self.state >> 64 ^ self.state) & (1 << 64) - 1, self.state >> 122
        return (((mixed >> turn | mixed << 64 - turn) & (1 << 64) - 1) >> 11) * 2.0**-53
