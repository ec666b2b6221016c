"""Amounts: how much a network reads at once, and what computes it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np

from nblstm.config import TokenStackConfig
from nblstm.nn.cost import compiled_pays_from
from nblstm.scoring.results import Text

GATES_BYTES = 3 << 23  # of all layers' gates, the largest part of what reading a chunk writes
MOST_ROWS = 4096  # tokens of a chunk: more are not faster
FEWEST_STREAMS, MOST_STREAMS = 32, 512  # texts read side by side


def rows_at_once(config: TokenStackConfig) -> int:
    """Return how many tokens a network reads at once where nothing but memory limits it."""
    row = len(config.cells) * 4 * config.hidden_size * np.dtype(config.dtype).itemsize
    return max(FEWEST_STREAMS, min(MOST_ROWS, GATES_BYTES // row))


def batch_size(config: TokenStackConfig, longest: int) -> int:
    """Return how many texts of at most so many tokens make a batch."""
    return max(FEWEST_STREAMS, min(MOST_STREAMS, rows_at_once(config) // longest))


def backend_for(config: TokenStackConfig, texts: Iterable[Text], side_by_side: bool) -> tuple[str, Iterable[Text]]:
    """Return ("numpy" or "cpu": whichever is expected to be done first; the texts, of which few are taken).

    numba takes longer to import than NumPy takes for a few thousand tokens, then is several times faster.
    """
    enough = compiled_pays_from(config, FEWEST_STREAMS if side_by_side else 1)
    if enough in (0, math.inf):
        return "numpy" if enough else "cpu", texts
    texts = iter(texts)
    taken, are_enough = take_texts(texts, int(enough))
    return "cpu" if are_enough else "numpy", itertools.chain(taken, texts)


def take_texts(items: Iterator[Text], length: int) -> tuple[list[Text], bool]:
    """Take the next items until they have so many characters in all; whether there were as many."""
    taken: list[Text] = []
    for item in items:
        taken.append(item)
        length -= len(item)
        if length <= 0:
            return taken, True
    return taken, False
