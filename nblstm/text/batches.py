"""Batches: chunks that a network reads at once, and contiguous streams for truncated back-propagation through time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nblstm.errors import TextError
from nblstm.kernels.packed import indices

SHORTEST_STREAM = 32  # rather than shorter streams, a small text gives fewer of them


@dataclass(frozen=True)
class Chunk:
    """Up to T tokens of each of several texts, packed: the batch shrinks as texts end, and nothing is padded.

    tokens: (M,) int32, the ids read, time step by time step. (Of series of numbers, `nblstm.tasks.series`, tokens and
        targets are (M, numbers).)
    targets: (M,) int32, the ids that follow them.
    offsets: (T + 1,) int64; step t holds rows offsets[t] : offsets[t + 1], never more than step t - 1. Row n of a step
        is text n of the batch; texts are sorted by falling length.
    fresh: whether the texts start here, from the initial state; else the state of the chunk before goes on, of which
        the first `num_texts` texts are still there.
    weights: (M,) how much each target counts in training, 0 leaves it out; None counts all alike.
    total: what the weights of all targets sum up to where this is a part of a larger chunk, over which the loss is a
        mean; None: it is whole.
    taught: (M, F) a teacher's features of these tokens, see `nblstm.nn.distilled`; None: nobody teaches.
    """

    tokens: np.ndarray
    targets: np.ndarray
    offsets: np.ndarray
    fresh: bool
    weights: np.ndarray | None = None
    total: float | None = None
    taught: np.ndarray | None = None

    @property
    def num_texts(self) -> int:
        """How many texts there are at the first step."""
        return int(self.offsets[1])

    def part(self, first: int, step: int) -> Chunk | None:
        """Return the chunk of the texts first, first + step, first + 2 step, ...; None if there are none."""
        texts = np.diff(self.offsets)  # of each time step
        counts = np.maximum(texts - first + step - 1, 0) // step
        counts = counts[counts > 0]
        if not len(counts):
            return None
        number = np.arange(len(self.tokens)) - np.repeat(self.offsets[:-1], indices(texts))  # of each row's text
        rows = np.flatnonzero(number % step == first)
        weights = None if self.weights is None else self.weights[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64, copy=False)
        return Chunk(self.tokens[rows], self.targets[rows], offsets, self.fresh, weights)

    @classmethod
    def rectangle(cls, tokens: np.ndarray, targets: np.ndarray, fresh: bool) -> Chunk:
        """Make a chunk whose texts have equal lengths, from (T, N) integers, which are copied."""
        T, N = tokens.shape
        flat = (array.astype(np.int32, order="C").reshape(-1) for array in (tokens, targets))
        return cls(next(flat), next(flat), np.arange(T + 1, dtype=np.int64) * N, fresh)


class Epochs(Protocol):
    """A source of training: `Streams`, or documents in `nblstm.text.buckets.Buckets`."""

    def epoch(self, number: int) -> Sequence[Chunk]:
        """Yield the chunks of a pass over the text, each made when it is asked for. number: 0 for the first pass."""


class Streams(Sequence[Chunk]):
    """A text laid out as N parallel streams that are read chunk by chunk, T tokens at a time.

    Row n is the stream ids[n*S : (n+1)*S + 1], S = (len(ids) - 1) // N: neighbours share one token, so every
    transition from a token to the next is used once an epoch; fewer than N are dropped at the end. A state carried
    from chunk k to chunk k + 1 goes on in the same row. Every epoch is the same.
    """

    def __init__(self, ids: np.ndarray, batch_size: int, bptt: int) -> None:
        """ids: (tokens,) integers, never copied as a whole. Raises TextError if there are too few for the batch."""
        self.length = (len(ids) - 1) // batch_size
        if self.length < 1:
            raise TextError(
                f"{batch_size} streams need at least {batch_size + 1} tokens, got {len(ids)}; lower batch_size."
            )
        self.bptt = bptt
        used = batch_size * self.length
        self._inputs = ids[:used].reshape(batch_size, self.length)
        self._targets = ids[1 : used + 1].reshape(batch_size, self.length)

    def epoch(self, number: int) -> Sequence[Chunk]:
        """Yield the chunks of a pass over the text."""
        return self

    def __len__(self) -> int:
        """Count the chunks of an epoch; the last one may be shorter than bptt."""
        return -(-self.length // self.bptt)

    def __getitem__(self, k: int) -> Chunk:  # type: ignore[override]  # no slices
        """Return chunk k, 0 <= k < len(self): (T, N) tokens and those after them."""
        if not 0 <= k < len(self):
            raise IndexError(f"chunk {k} of {len(self)}")
        part = np.s_[:, k * self.bptt : (k + 1) * self.bptt]
        return Chunk.rectangle(self._inputs[part].T, self._targets[part].T, fresh=k == 0)


def fit(num_tokens: int, batch_size: int, bptt: int) -> tuple[int, int, str | None]:
    """Fit batch_size and bptt to a text of num_tokens; return both, and a sentence if they had to be lowered.

    First batch_size is lowered until a stream has min(bptt, SHORTEST_STREAM) transitions, then bptt to a stream's
    length. Raises TextError below 2 tokens, where there is nothing to predict.
    """
    if num_tokens < 2:
        raise TextError(f"a text needs at least 2 tokens, one to predict the other from, got {num_tokens}.")
    transitions = num_tokens - 1
    fewer = min(batch_size, max(1, transitions // min(bptt, SHORTEST_STREAM)))
    shorter = min(bptt, transitions // fewer)
    changes = (("batch_size", batch_size, fewer), ("bptt", bptt, shorter))
    lowered = [f"{name} from {asked} to {used}" for name, asked, used in changes if used < asked]
    message = f"the text has {num_tokens} tokens: lowered {' and '.join(lowered)}." if lowered else None
    return fewer, shorter, message
