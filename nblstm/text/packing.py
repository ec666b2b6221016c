"""Packing: texts of falling length laid out step by step, so that a batch shrinks as texts end.

Step t holds the rows offsets[t] : offsets[t + 1]; row n of a step is text n (`nblstm.text.batches.Chunk`). What is
asked of offsets that are given is in `nblstm.kernels.packed`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nblstm.kernels.packed import indices


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return the offsets (T + 1,) int64 of texts whose lengths (texts,), integers >= 1, are falling."""
    # texts[t] = how many lengths are above t
    texts = np.searchsorted(-lengths, -np.arange(lengths[0]))
    return np.concatenate([[0], np.cumsum(texts)]).astype(np.int64, copy=False)


def rows_of(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay out segments of places: (the place that each row of a chunk is taken from (M,), its offsets (T + 1,)).

    starts, lengths: (texts,) int64, lengths >= 1 and falling.
    """
    offsets = offsets_of(lengths)
    t = np.repeat(np.arange(len(offsets) - 1), indices(np.diff(offsets)))
    n = np.arange(len(t)) - offsets[t]
    return starts[n] + t, offsets


def chunks_of(
    starts: np.ndarray, lengths: np.ndarray, most_rows: int, steps: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give `rows_of` for one chunk of the segments after the other.

    A chunk has up to most_rows rows, but at least one step; or so many `steps`, if that is not None.
    """
    offsets = offsets_of(lengths)
    T, first = len(offsets) - 1, 0
    while first < T:
        filled = int(np.searchsorted(offsets, offsets[first] + most_rows, side="right")) - 1
        last = max(first + 1, filled) if steps is None else min(first + steps, T)
        going = slice(int(offsets[first + 1] - offsets[first]))  # the texts that are longer than `first`
        yield rows_of(starts[going] + first, np.minimum(lengths[going], last) - first)
        first = last
