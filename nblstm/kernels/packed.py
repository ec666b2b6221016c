"""Packed texts: which row is whose. Step t holds rows offsets[t] : offsets[t + 1], row n of a step is text n."""

from __future__ import annotations

import numpy as np


def indices(numbers: np.ndarray | int) -> np.ndarray:
    """Whole numbers as np.intp, the type that NumPy wants rows and counts in; itself where it has that type.

    The ids and offsets of a text have types of their own (int32, int64), which np.take, np.repeat and np.bincount
    refuse where they are wider than a pointer: on 32-bit platforms.
    """
    return np.asarray(numbers).astype(np.intp, copy=False)


def are_equal(offsets: np.ndarray) -> bool:
    """Whether all texts have as many steps."""
    return bool(offsets[1] * (len(offsets) - 1) == offsets[-1])


def lengths(offsets: np.ndarray) -> np.ndarray:
    """How many steps each text has, (N,), falling."""
    counts = np.diff(offsets)
    return len(counts) - np.searchsorted(counts[::-1], np.arange(1, counts[0] + 1))


def last_rows(offsets: np.ndarray) -> np.ndarray:
    """The row of each text's last step, (N,)."""
    if are_equal(offsets):
        return np.arange(offsets[-2], offsets[-1])
    return offsets[lengths(offsets) - 1] + np.arange(offsets[1])


def reading_backwards(offsets: np.ndarray) -> np.ndarray:
    """(M,) int32: the row that comes at a place when each text is read from its end. Its own inverse."""
    counts = np.diff(offsets)
    steps = np.repeat(np.arange(len(counts)), indices(counts))
    texts = np.arange(offsets[-1]) - offsets[steps]
    return (offsets[lengths(offsets)[texts] - 1 - steps] + texts).astype(np.int32)


def rows_by_text(offsets: np.ndarray, order: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The rows of packed texts, text after text (M,), and where each begins (N + 1,).

    order (N,): which text stands where; None leaves them as they are packed.
    """
    texts = np.arange(int(offsets[1])) if order is None else order
    steps = lengths(offsets)[texts]
    starts = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    step = np.arange(starts[-1]) - np.repeat(starts[:-1], indices(steps))
    return offsets[step] + np.repeat(texts, indices(steps)), starts


def texts_of_rows(offsets: np.ndarray) -> np.ndarray:
    """The text of each row, (M,)."""
    counts = np.diff(offsets)
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], indices(counts))
