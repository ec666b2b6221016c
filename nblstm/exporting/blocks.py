"""Blocks: the numbers of a matrix of which most are zero, without the blocks that are: 16 rows of a column each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK_ROWS = 16
SKIPPED_SHARES = {  # weights -> share of a matrix's blocks that are zero, from which on it pays to skip them
    "float32": 0.5, "bfloat16": 0.5, "int8": 0.75,  # wide vectors of small integers are quick to multiply with zeros
}  # fmt: skip


@dataclass(frozen=True)
class Blocks:
    """The blocks of a matrix that are not zero, group after group of BLOCK_ROWS rows, by rising columns.

    numbers (blocks, BLOCK_ROWS); places (blocks,) uint16, their columns; starts (groups + 1,) uint32, each group's first.
    """

    numbers: np.ndarray
    places: np.ndarray
    starts: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return self.numbers.nbytes + self.places.nbytes + self.starts.nbytes


def nonzero_blocks(numbers: np.ndarray, weights: str) -> Blocks | None:
    """Return the blocks of a matrix (R, C) that are not zero; None where too few are zero, or its rows are no whole blocks.

    weights: what its numbers are stored as, one of SKIPPED_SHARES.
    """
    rows, columns = numbers.shape
    if rows % BLOCK_ROWS or columns >= 1 << 16:
        return None
    groups = numbers.reshape(-1, BLOCK_ROWS, columns)
    kept = groups.any(axis=1)
    if not kept.size or kept.mean() > 1 - SKIPPED_SHARES[weights]:
        return None
    group, place = np.nonzero(kept)
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.uint32)
    return Blocks(np.ascontiguousarray(groups[group, :, place]), place.astype(np.uint16), starts)
