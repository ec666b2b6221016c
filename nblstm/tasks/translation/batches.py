"""Pairs of like lengths side by side, each source read whole before its target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nblstm.nn.encoder_decoder import Pairs
from nblstm.tasks.classification.batches import as_read
from nblstm.text.batches import Chunk
from nblstm.text.buckets import pack
from nblstm.text.packing import rows_of
from nblstm.text.vocabulary import Vocabulary

POOL = 50  # batches whose pairs are sorted by length together


@dataclass(frozen=True)
class Encoded:
    """Texts as ids. ids (tokens,) int32 of all texts; starts, lengths (texts,) int64."""

    ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, parts: Sequence[np.ndarray]) -> Encoded:
        """Join the ids of texts."""
        lengths = np.array([len(part) for part in parts], np.int64)
        ids = np.concatenate([np.empty(0, np.int32), *parts]).astype(np.int32)
        return cls(ids, np.cumsum(lengths) - lengths, lengths)

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.lengths)

    def packed(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (ids (M,), offsets (T + 1,), order (N,)) of some texts, the longest first; order: the place of each."""
        by_length = np.argsort(-self.lengths[texts], kind="stable")
        rows, offsets = rows_of(self.starts[texts][by_length], self.lengths[texts][by_length])
        return self.ids[rows], offsets, np.argsort(by_length)


@dataclass(frozen=True)
class Vectors:
    """Sources that are vectors (texts, D)."""

    vectors: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """One each."""
        return np.ones(len(self.vectors), np.int64)

    def __len__(self) -> int:
        """Count the vectors."""
        return len(self.vectors)

    def packed(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (vectors (N, D), offsets, order) of some sources: one step, in their order."""
        return self.vectors[texts], np.array([0, len(texts)]), np.arange(len(texts))


Sources = Encoded | Vectors


def source_ids(vocabulary: Vocabulary, text: str, max_length: int) -> np.ndarray:
    """Encode a source: up to max_length tokens, the last of which is <end>."""
    ids = vocabulary.encode(as_read(text, vocabulary.level))[: max_length - 1]
    return np.concatenate([ids, np.array([vocabulary.end_id])])


def encoded_sources(vocabulary: Vocabulary, texts: Iterable[str], max_length: int) -> Encoded:
    """Encode sources."""
    return Encoded.of([source_ids(vocabulary, text, max_length) for text in texts])


def encoded_targets(vocabulary: Vocabulary, texts: Iterable[str]) -> Encoded:
    """Encode targets, <end> before and behind each: what is read, and what follows it. Lengths count the steps."""
    end = np.array([vocabulary.end_id])
    found = Encoded.of(
        [np.concatenate([end, vocabulary.encode(as_read(text, vocabulary.level)), end]) for text in texts]
    )
    return Encoded(found.ids, found.starts, found.lengths - 1)


class PairedTexts:
    """A source of training, and with seed None of validation.

    An epoch takes the pairs in a new order, and sorts each POOL batches of them by the lengths of source and target; then
    the batches are shuffled. A batch has batch_size pairs or, if tokens_per_batch is not None, as many as have so many
    tokens, but at least one.
    """

    def __init__(
        self,
        sources: Sources,
        targets: Encoded,
        batch_size: int,
        tokens_per_batch: int | None = None,
        seed: int | None = 0,
    ) -> None:
        self.sources, self.targets, self.seed = sources, targets, seed
        self.tokens = sources.lengths + targets.lengths  # of each pair
        self._limit = tokens_per_batch
        mean = float(self.tokens.mean()) if len(targets) else 1.0
        self._size = batch_size if tokens_per_batch is None else max(1, int(tokens_per_batch / mean))

    def epoch(self, number: int) -> Sequence[Chunk]:
        """Give the chunks of a pass over all pairs, in an order that is a function of (seed, number)."""
        if self.seed is None:
            return PairBatches(self, self._cut(self._sorted(np.arange(len(self.targets)))))
        random = np.random.default_rng((self.seed, number))
        order, pool = random.permutation(len(self.targets)), POOL * self._size
        batches: list[np.ndarray] = []
        for start in range(0, len(order), pool):
            batches += self._cut(self._sorted(order[start : start + pool]))
        return PairBatches(self, [batches[k] for k in random.permutation(len(batches))])

    def _sorted(self, pairs: np.ndarray) -> np.ndarray:
        """Sort pairs by the length of the source, then of the target: the longest first."""
        return pairs[np.lexsort((-self.targets.lengths[pairs], -self.sources.lengths[pairs]))]

    def _cut(self, pairs: np.ndarray) -> list[np.ndarray]:
        """Cut pairs into batches."""
        if self._limit is None:
            return np.array_split(pairs, -(-len(pairs) // self._size))
        ends, filled = [], 0
        for place, tokens in enumerate(self.tokens[pairs].tolist()):
            if filled and filled + tokens > self._limit:
                ends.append(place)
                filled = 0
            filled += tokens
        return np.split(pairs, ends)

    def chunk(self, pairs: np.ndarray) -> Chunk:
        """Return the chunk of some pairs."""
        pairs = pairs[np.argsort(-self.targets.lengths[pairs], kind="stable")]
        packed = pack(self.targets.ids, self.targets.starts[pairs], self.targets.lengths[pairs], True)
        return Chunk(Pairs(packed.tokens, *self.sources.packed(pairs)), packed.targets, packed.offsets, True)  # type: ignore[arg-type]


class PairBatches(Sequence[Chunk]):
    """The chunks of one epoch, each made when it is asked for."""

    def __init__(self, source: PairedTexts, batches: list[np.ndarray]) -> None:
        self.batches, self._source = batches, source

    def __len__(self) -> int:
        """Count the batches."""
        return len(self.batches)

    def __getitem__(self, k: int) -> Chunk:  # type: ignore[override]  # no slices
        """Return chunk k, 0 <= k < len(self)."""
        if not 0 <= k < len(self):
            raise IndexError(f"chunk {k} of {len(self)}")
        return self._source.chunk(self.batches[k])
