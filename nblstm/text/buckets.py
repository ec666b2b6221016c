"""Buckets: documents of like length side by side, in batches whose order is another in every epoch.

A document's length counts the steps it takes: its tokens and the <end> behind them. A bucket holds the documents that
are longer than the boundary of the one before and at most as long as its own; what is longer than the last boundary
goes into one more. A batch comes from one bucket, so its texts end at nearly the same step. As chunks are packed,
nothing is padded even so; the padding that `padding` counts is what rectangles as long as each bucket's longest
document would hold beside the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from nblstm.kernels.packed import indices
from nblstm.text.batches import Chunk
from nblstm.text.packing import rows_of

MOST_LENGTHS = 2048  # distinct lengths that may become a boundary


def best_boundaries(lengths: np.ndarray, num_buckets: int) -> list[int]:
    """Find the rising boundaries, up to num_buckets of them, with which `padding` is least.

    lengths: (documents,) integers >= 1, at least one. Dynamic programming over the distinct lengths l[0..m) with
    counts: O(num_buckets m^2). Exact for up to MOST_LENGTHS of them; of more, only so many may become a boundary, at
    even steps through the tokens of the documents in order of length.
    """
    longest, counts = np.unique(lengths, return_counts=True)
    if len(longest) > MOST_LENGTHS:
        longest, counts = _thinned(longest, counts)
    below = np.concatenate([[0], np.cumsum(counts)])  # documents among the first j distinct lengths, j = 0..m
    m, K = len(longest), min(num_buckets, len(longest))
    # cells[k, j]: least rectangles that hold the first j lengths in k + 1 buckets; start[k, j]: where the last begins
    cells, start = np.empty((K, m + 1)), np.zeros((K, m + 1), np.int64)
    cells[:, 0], cells[0, 1:] = 0, longest * below[1:]
    for k in range(1, K):
        for j in range(1, m + 1):
            # cells[k, j] = min over i < j of cells[k - 1, i] + l[j - 1] * (documents in i..j)
            candidates = cells[k - 1, :j] + longest[j - 1] * (below[j] - below[:j])
            start[k, j] = candidates.argmin()
            cells[k, j] = candidates[start[k, j]]
    ends, j = [], m
    for k in range(K - 1, -1, -1):
        ends.append(int(longest[j - 1]))
        j = start[k, j]
        if j == 0:
            break
    return ends[::-1]


def _thinned(longest: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep MOST_LENGTHS of the distinct lengths, the largest among them, with the documents up to each."""
    tokens = np.cumsum(counts * longest)
    kept = np.unique(np.searchsorted(tokens, np.linspace(0, tokens[-1], MOST_LENGTHS + 1)[1:]))
    return longest[kept], np.diff(np.cumsum(counts)[kept], prepend=0)


def bucket_of(lengths: np.ndarray, boundaries: Sequence[int]) -> np.ndarray:
    """Find the bucket of each document, (documents,) int64: 0 up to len(boundaries), where the too long ones are."""
    return np.searchsorted(boundaries, lengths)


def padding(lengths: np.ndarray, boundaries: Sequence[int]) -> float:
    """Compute the share of padding in rectangles, one a bucket, as long as its longest document; in [0, 1).

    lengths: (documents,) integers >= 1, at least one. Without boundaries there is one bucket.
    """
    buckets = bucket_of(lengths, boundaries)
    longest = np.zeros(len(boundaries) + 1, np.int64)
    np.maximum.at(longest, buckets, lengths)
    return 1 - lengths.sum() / longest[buckets].sum()


class Buckets:
    """Documents in buckets: a source of training, and with one bucket and seed None of validation.

    ids (tokens,), offsets (documents + 1,): as in `nblstm.text.token_file.TokenFile`; ids are never copied as a whole.
    boundaries: rising lengths; none make one bucket. bptt: steps of a chunk; longer documents take several, with the
    state carried. batch_size: texts of a batch, or if tokens_per_batch is not None, as many as fill so many tokens of
    a chunk at their bucket's longest length, but at least one. seed: of the order; None keeps texts in that of their
    lengths. even: the chunks of a batch have equally many steps; else all but the last have bptt, so that of documents
    which are a step longer every second chunk is a single step.
    """

    def __init__(
        self,
        ids: np.ndarray,
        offsets: np.ndarray,
        boundaries: Sequence[int],
        bptt: int,
        batch_size: int,
        tokens_per_batch: int | None = None,
        seed: int | None = 0,
        even: bool = False,
    ) -> None:
        self.ids, self.boundaries, self.bptt, self.seed, self.even = ids, list(boundaries), bptt, seed, even
        self.starts, self.lengths = offsets[:-1], np.diff(offsets)
        buckets = bucket_of(self.lengths, self.boundaries)
        order = np.lexsort((-self.lengths, buckets))  # the longest of a bucket first
        ends = np.cumsum(np.bincount(indices(buckets)))
        self._buckets = [part for part in np.split(order, ends[:-1]) if len(part)]
        self._sizes = [self._batch_size(part, batch_size, tokens_per_batch) for part in self._buckets]

    def _batch_size(self, bucket: np.ndarray, batch_size: int, tokens_per_batch: int | None) -> int:
        """Count the texts of a batch from a bucket that begins with its longest document."""
        steps = min(int(self.lengths[bucket[0]]), self.bptt)
        return batch_size if tokens_per_batch is None else max(1, tokens_per_batch // steps)

    @property
    def longest(self) -> list[int]:
        """The longest length in each bucket that has documents."""
        return [int(self.lengths[bucket[0]]) for bucket in self._buckets]

    @property
    def padding(self) -> float:
        """The share of padding that packing leaves out; see `padding`."""
        return padding(self.lengths, self.boundaries)

    def epoch(self, number: int) -> Sequence[Chunk]:
        """Yield the chunks of a pass over all documents, in an order that is a function of (seed, number).

        Within each bucket the documents are shuffled and dealt into batches of as equal sizes as can be; then the
        batches of all buckets are shuffled.
        """
        random = None if self.seed is None else np.random.default_rng((self.seed, number))
        batches: list[np.ndarray] = []
        for bucket, size in zip(self._buckets, self._sizes):
            order = bucket if random is None else random.permutation(bucket)
            batches += np.array_split(order, -(-len(order) // size))
        if random is not None:
            batches = [batches[k] for k in random.permutation(len(batches))]
        return Batches(self, batches, self.even)

    def chunk(self, starts: np.ndarray, lengths: np.ndarray, fresh: bool) -> Chunk:
        """Return the chunk of some segments of the text, see `pack`."""
        return pack(self.ids, starts, lengths, fresh)


class Segments(Protocol):
    """Segments of something, which `Batches` puts side by side and reads `bptt` steps at a time."""

    starts: np.ndarray  # (segments,) int64
    lengths: np.ndarray  # (segments,) int64, >= 1
    bptt: int

    def chunk(self, starts: np.ndarray, lengths: np.ndarray, fresh: bool) -> Chunk:
        """Return the chunk of the steps from each of `starts` on, `lengths` falling; fresh: whether they begin there."""


class Batches(Sequence[Chunk]):
    """The chunks of one epoch: batch after batch, each from its texts' starts to the end of its longest."""

    def __init__(self, source: Segments, batches: list[np.ndarray], even: bool = False) -> None:
        """batches: the documents of each, (texts,) integers, at least one. even: see `Buckets`."""
        self._source, self._batches = source, batches
        longest = np.array([source.lengths[batch].max() for batch in batches], np.int64)
        chunks = -(-longest // source.bptt)
        self._steps = -(-longest // chunks) if even else np.full(len(batches), source.bptt)  # of a chunk of each
        self._ends = np.cumsum(chunks)  # chunks of the batches up to each

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, k: int) -> Chunk:  # type: ignore[override]  # no slices
        """Return chunk k, 0 <= k < len(self)."""
        if not 0 <= k < len(self):
            raise IndexError(f"chunk {k} of {len(self)}")
        number = int(np.searchsorted(self._ends, k, side="right"))
        batch, first = self._batches[number], int(self._ends[number - 1]) if number else 0
        most = int(self._steps[number])
        done = (k - first) * most  # steps of this batch before the chunk
        lengths = self._source.lengths[batch]
        order = np.argsort(-lengths, kind="stable")
        order = order[lengths[order] > done]
        steps = np.minimum(lengths[order] - done, most)
        return self._source.chunk(self._source.starts[batch[order]] + done, steps, fresh=done == 0)


def pack(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray, fresh: bool) -> Chunk:
    """Return the chunk of the transitions ids[s] -> ids[s + 1], s = starts[n] .. starts[n] + lengths[n] - 1, for all n.

    ids: (tokens,) integers. starts, lengths: (texts,) int64, lengths >= 1 and falling.
    """
    places, offsets = rows_of(starts, lengths)
    return Chunk(ids[places].astype(np.int32), ids[places + 1].astype(np.int32), offsets, fresh)
