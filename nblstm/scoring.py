"""Scoring: how probable a network finds a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nblstm.model.network import Network
from nblstm.text.batches import Chunk, Streams
from nblstm.text.buckets import Buckets
from nblstm.text.vocabulary import Vocabulary

CHUNK = 1024  # tokens of one stream that are scored at once
VALIDATION_STREAMS = 16  # parallel streams of a validation text, each starting from the zero state ...
SHORTEST_STREAM = 2000  # ... and at least this long, so that the cold starts weigh little


@dataclass(frozen=True)
class Score:
    """The probability of a text, summed up. The first token is given: it is read, not scored."""

    nats: float  # -log probability of the scored tokens, natural logarithm
    tokens: int  # scored tokens
    characters: int  # characters they stand for (bytes at byte level)
    bytes: int  # UTF-8 bytes they stand for
    unknown: int  # scored tokens that the vocabulary does not have

    @property
    def loss(self) -> float:
        """nats per token; nan if nothing was scored"""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def perplexity(self) -> float:
        """exp of the loss; inf where that overflows"""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_character(self) -> float:
        """nats / ln 2 per character; comparable between tokenizations"""
        return self.nats / math.log(2) / self.characters if self.characters else math.nan

    @property
    def bits_per_byte(self) -> float:
        """nats / ln 2 per UTF-8 byte"""
        return self.nats / math.log(2) / self.bytes if self.bytes else math.nan


def score(network: Network, vocabulary: Vocabulary, chunks: Iterable[str] | Iterable[bytes]) -> Score:
    """Score a text of any length as one stream: the state is carried from its first token to its last.

    chunks: the text in pieces (bytes at byte level) that split no token, as `nblstm.text.corpus.read` gives them.
    """
    state, last = network.initial_state(), None
    nats, tokens, characters, size, unknown = 0.0, 0, 0, 0, 0
    for chunk in chunks:
        if vocabulary.level == "byte" and isinstance(chunk, str):
            chunk = chunk.encode("utf-8", "surrogatepass")
        ids = vocabulary.encode(chunk).astype(np.int32)
        characters, size = characters + len(chunk), size + _num_bytes(chunk)
        if last is None and len(ids):
            first = chunk[:1] if isinstance(chunk, bytes) else vocabulary.split(chunk)[0]
            characters, size = characters - len(first), size - _num_bytes(first)
            ids, last = ids[1:], ids[:1]
        tokens += len(ids)
        unknown += 0 if vocabulary.unk_id is None else int(np.count_nonzero(ids == vocabulary.unk_id))
        for start in range(0, len(ids), CHUNK):
            targets = ids[start : start + CHUNK]
            inputs = np.concatenate([last, targets[:-1]])
            losses, state = network.losses(Chunk.rectangle(inputs[:, None], targets[:, None], fresh=False), state)
            nats, last = nats + float(losses.sum(dtype=np.float64)), targets[-1:]
    return Score(nats, tokens, characters, size, unknown)


def _num_bytes(text: str | bytes) -> int:
    return len(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


def validation_streams(ids: np.ndarray) -> Sequence[Chunk]:
    """A text, ids (tokens,), cut into up to VALIDATION_STREAMS parallel streams; nothing below 2 tokens."""
    N = max(1, min(VALIDATION_STREAMS, len(ids) // SHORTEST_STREAM))
    return Streams(ids, N, max(1, CHUNK // N)) if len(ids) > 1 else ()


def validation_documents(ids: np.ndarray, offsets: np.ndarray) -> Sequence[Chunk]:
    """Documents, as in `nblstm.text.corpus.TokenFile`, each from its start to its <end>; nothing without one."""
    if len(offsets) < 2:
        return ()
    return Buckets(ids, offsets, (), CHUNK // VALIDATION_STREAMS, 1, tokens_per_batch=CHUNK, seed=None).epoch(0)


def validation_loss(
    network: Network, chunks: Iterable[Chunk], stop: Callable[[], bool] = lambda: False
) -> float | None:
    """The mean loss (nats per token) of the chunks, at least one, in their order; None if stopped."""
    nats, tokens, state = 0.0, 0, network.initial_state()
    for chunk in chunks:
        if stop():
            return None
        losses, state = network.losses(chunk, network.before(chunk, state))
        nats, tokens = nats + float(losses.sum(dtype=np.float64)), tokens + len(losses)
    return nats / tokens
