"""Batches of series: segments of them side by side, in the chunks that text comes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nblstm.text.batches import Chunk
from nblstm.text.buckets import Batches
from nblstm.text.packing import rows_of

EPOCH_UPDATES = 50  # an epoch is as many passes over the series, each cut elsewhere, as take about so many updates
CONTEXT_STEPS = 256  # steps that are read before those that are validated
READ_STEPS, READ_SERIES = 256, 64  # of a chunk that is only read


@dataclass(frozen=True)
class Table:
    """Series one behind the other: what is read and what is to be predicted at every step.

    inputs (S, D), targets (S, K), both of the network's type; starts (series + 1,) int64: series k is the rows
    starts[k] : starts[k + 1].
    """

    inputs: np.ndarray
    targets: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Table:
        """Make the table of series (T, D) and their targets (T, K), at least one."""
        starts = np.cumsum([0, *map(len, inputs)], dtype=np.int64)
        return cls(np.concatenate(inputs), np.concatenate(targets), starts)


class SeriesSegments:
    """Segments of a table, from starts on, `bptt` steps at a time; see `nblstm.text.buckets.Segments`.

    weights (S,): how much every row counts; None counts all alike.
    """

    def __init__(self, table: Table, starts, lengths, bptt: int, weights: np.ndarray | None = None) -> None:
        self.table, self.bptt, self.weights = table, bptt, weights
        self.starts, self.lengths = np.asarray(starts, np.int64), np.asarray(lengths, np.int64)

    def chunk(self, starts: np.ndarray, lengths: np.ndarray, fresh: bool) -> Chunk:
        """Return the chunk of the steps from each of `starts` on."""
        rows, offsets = rows_of(starts, lengths)
        weights = None if self.weights is None else self.weights[rows]
        return Chunk(self.table.inputs[rows], self.table.targets[rows], offsets, fresh, weights)


class Training:
    """A source of training: the first `ends[k]` steps of every series, cut into segments of equal length.

    A segment begins with nothing read, so it is as long as batch_size of them can be, and never shorter than bptt but
    at a series' ends. Every pass cuts elsewhere, as a function of (seed, epoch), which makes one more of a series than
    its length asks for.
    """

    def __init__(self, table: Table, ends: np.ndarray, batch_size: int, bptt: int, seed: int) -> None:
        self.table, self.ends, self.batch_size, self.bptt, self.seed = table, ends, batch_size, bptt, seed
        self.length = max(bptt, -(-int(ends.sum()) // max(1, batch_size - len(ends))))

    def epoch(self, number: int) -> Sequence[Chunk]:
        """Yield the chunks of about EPOCH_UPDATES updates, or of one pass if that takes more."""
        random = np.random.default_rng((self.seed, number))
        starts: list[np.ndarray] = []
        lengths: list[np.ndarray] = []
        batches: list[np.ndarray] = []
        updates = 0
        while updates < EPOCH_UPDATES:
            new_starts, new_lengths = self._cut(random)
            order, before = random.permutation(len(new_starts)), sum(map(len, starts))
            starts, lengths = [*starts, new_starts], [*lengths, new_lengths]
            new = np.array_split(order, -(-len(order) // self.batch_size))
            updates += sum(-(-int(new_lengths[batch].max()) // self.bptt) for batch in new)
            batches += [before + batch for batch in new]
        return Batches(SeriesSegments(self.table, np.concatenate(starts), np.concatenate(lengths), self.bptt), batches)

    def _cut(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return (starts, lengths) of the segments of one pass."""
        edges = []
        for first, steps in zip(self.table.starts, self.ends):
            inner = np.arange(random.integers(1, self.length + 1), steps, self.length)
            edges.append(first + np.concatenate([[0], inner, [steps]]))
        starts = np.concatenate([cuts[:-1] for cuts in edges])
        return starts, np.concatenate([np.diff(cuts) for cuts in edges])


def validation(table: Table, ends: np.ndarray) -> Sequence[Chunk]:
    """Return the chunks in which the steps from ends[k] on count, of every series with any, after CONTEXT_STEPS."""
    lasts = np.diff(table.starts)
    (kept,) = np.nonzero(ends < lasts)
    if not len(kept):
        return ()
    weights = np.concatenate([np.arange(last) >= end for last, end in zip(lasts, ends)]).astype(np.float32)
    firsts = np.maximum(ends - CONTEXT_STEPS, 0)[kept]
    segments = SeriesSegments(table, table.starts[kept] + firsts, lasts[kept] - firsts, READ_STEPS, weights)
    return in_order(segments)


def in_order(segments: SeriesSegments) -> Batches:
    """Return the chunks of segments that are only read, in their order."""
    numbers = np.arange(len(segments.starts))
    return Batches(segments, np.array_split(numbers, -(-len(numbers) // READ_SERIES)))
