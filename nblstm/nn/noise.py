"""Noise: the randomness of an update, a function of (seed, step, site), so that a run resumes to the last bit."""

from __future__ import annotations

from types import ModuleType

import numpy as np

INPUT, LAYER, TEXT, EMBEDDING, RECURRENT, MASKED, UNKNOWN, RANK = (
    number << 32 for number in range(8)
)  # sites; a layer or cell is added


class Noise:
    """The dropout masks of one update. They are never stored: the way back asks for the same mask again."""

    def __init__(self, kernels: ModuleType, seed: int, step: int, threads: int) -> None:
        self.kernels, self.seed, self.step, self.threads = kernels, seed, step, threads

    def drop(self, y: np.ndarray, x: np.ndarray, rate: float, site: int) -> None:
        """Set y = x where it is kept, scaled by 1 / (1 - rate), 0 elsewhere; y may be x."""
        self.kernels.dropout(y, x, rate, dropout_key(self.seed, self.step, site), self.threads)

    def apart(self, number: int) -> Noise:
        """Return the noise of another pass within the same update, which has sites of its own."""
        return Noise(self.kernels, dropout_key(self.seed, self.step, number), self.step, self.threads)

    def factors(self, shape: tuple[int, ...], dtype: np.dtype, rate: float, site: int) -> np.ndarray:
        """Return a dropout mask: 1 / (1 - rate) where a number is kept, 0 elsewhere."""
        mask = np.ones(shape, dtype)
        self.drop(mask, mask, rate, site)
        return mask


def dropout_key(seed: int, step: int, site: int) -> int:
    """Return 64 bits for (seed, step, site): SplitMix64 (Steele, Lea & Flood 2014) over the three numbers."""
    bits = 0
    for number in (seed, step, site):
        bits = (bits + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        bits ^= bits >> 31
    return bits
