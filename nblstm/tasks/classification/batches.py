"""Whole texts of like length side by side, and the label of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nblstm.config import DEFAULT_BUCKETS
from nblstm.scoring import batch_size
from nblstm.tasks.classification.config import ClassifierConfig
from nblstm.text.batches import Chunk
from nblstm.text.buckets import Buckets, best_boundaries, rows_of
from nblstm.text.vocabulary import Vocabulary


def as_read(text: str, level: str) -> str:
    """Return a text as it is read: words as if a blank stood before it, so that its first one is the word it is elsewhere."""
    return " " + text.strip() if level == "word" else text


def encoded(vocabulary: Vocabulary, texts: Sequence[str], max_length: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return (ids (tokens,) int32 of all texts, offsets (texts + 1,) of each, how many texts were longer than max_length).

    A text without a token is one <end>.
    """
    ends, found, longer = np.array([vocabulary.end_id]), [], 0
    for text in texts:
        ids = vocabulary.encode(as_read(text, vocabulary.level))
        longer += len(ids) > max_length
        found.append(ids[:max_length] if len(ids) else ends)
    offsets = np.cumsum([0, *map(len, found)])
    return np.concatenate([np.empty(0, np.int32), *found]).astype(np.int32), offsets, longer


class LabelledTexts(Buckets):
    """Texts in buckets, each read whole: a source of training, and with seed None of validation.

    ids, offsets: as `encoded` gives them, of at least one text. labels (texts,) int32.
    """

    def __init__(
        self, ids: np.ndarray, offsets: np.ndarray, labels: np.ndarray, batch_size: int, seed: int | None = None
    ) -> None:
        lengths = np.diff(offsets)
        boundaries = best_boundaries(lengths, DEFAULT_BUCKETS) if seed is not None else ()
        super().__init__(ids, offsets, boundaries, int(lengths.max()), batch_size, seed=seed)
        self.labels = labels

    def chunk(self, starts: np.ndarray, lengths: np.ndarray, fresh: bool) -> Chunk:
        """Return the chunk of the texts that begin at `starts`; a target a text."""
        rows, offsets = rows_of(starts, lengths)
        return Chunk(self.ids[rows], self.labels[np.searchsorted(self.starts, starts)], offsets, fresh)

    def in_batches(self, config: ClassifierConfig) -> Iterator[tuple[np.ndarray, Chunk]]:
        """Yield (the texts, their chunk), the longest first, as many at once as memory allows."""
        order = np.argsort(-self.lengths, kind="stable")
        while len(order):
            texts = order[: batch_size(config, int(self.lengths[order[0]]))]
            yield texts, self.chunk(self.starts[texts], self.lengths[texts], True)
            order = order[len(texts) :]
