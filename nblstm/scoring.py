"""Scoring: how probable a network finds a text.

A text is judged in one of two ways. As a stream: one text of any length, its state carried from piece to piece. Or as
one of many: short texts that know nothing of each other, read side by side, which keeps the machine busy. Each text's
result depends on that text alone, not on its neighbours or on how it is cut.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Union

import numpy as np

from nblstm.config import ModelConfig
from nblstm.kernels import fastest
from nblstm.model.network import Network
from nblstm.model.state import State
from nblstm.text.batches import Streams
from nblstm.text.vocabulary import Vocabulary

Text = Union[str, bytes]
Told = Callable[[int, float], None]  # called now and then with what was done since the last call: tokens, bytes of text

START = "\n"  # a text that nothing stands before begins as after a line end, unless the model has an end token
GATES_BYTES = 1 << 24  # of gates, the largest part of what a chunk of the network writes
MOST_ROWS = 4096  # tokens of a chunk: more are not faster
FEWEST_STREAMS, MOST_STREAMS = 32, 512  # texts read side by side
SHORTEST_RUN = 32  # steps between two looks at which texts have ended
WINDOW = 1 << 18  # characters of texts that are sorted by length together
CHUNK = 1024  # tokens of a validation text that are scored at once
VALIDATION_STREAMS = 16  # parallel streams of a validation text, each starting from the zero state ...
SHORTEST_STREAM = 2000  # ... and at least this long, so that the cold starts weigh little


@dataclass(frozen=True)
class Score:
    """The probability of a text, summed up. A token that is given is read, not scored."""

    nats: float  # -log probability of the scored tokens, natural logarithm
    tokens: int  # scored tokens, an end token among them
    characters: int  # characters they stand for (bytes at byte level); an end token stands for none
    bytes: int  # UTF-8 bytes they stand for
    unknown: int  # scored tokens that the vocabulary does not have

    def __add__(self, other: Score) -> Score:
        """The score of two texts together."""
        return Score(*(a + b for a, b in zip(vars(self).values(), vars(other).values())))

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


NOTHING = Score(0.0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Surprisals:
    """A text, or a piece of one, token by token.

    text: what the scored tokens stand for. ids (M,) int32: the scored tokens. nats (M,): -log p of each.
    vocabulary: the one the ids belong to.
    """

    text: Text
    ids: np.ndarray
    nats: np.ndarray
    vocabulary: Vocabulary

    @property
    def bits(self) -> np.ndarray:
        """-log2 p of each token (M,)"""
        return self.nats / self.nats.dtype.type(math.log(2))

    @property
    def tokens(self) -> list[str]:
        """The tokens as strings, as they stand in the text even where the vocabulary does not know them."""
        tokens = list(self.vocabulary.split(self.text))
        return tokens + [self.vocabulary.tokens[id] for id in self.ids[len(tokens) :]]  # an end token has no text

    @property
    def unknown(self) -> np.ndarray:
        """Which tokens the vocabulary does not have, (M,) bool."""
        return self.ids == (-1 if self.vocabulary.unk_id is None else self.vocabulary.unk_id)

    @property
    def score(self) -> Score:
        """The sum."""
        nats, unknown = float(self.nats.sum(dtype=np.float64)), int(np.count_nonzero(self.unknown))
        return Score(nats, len(self.ids), len(self.text), _num_bytes(self.text), unknown)


def _num_bytes(text: Text) -> int:
    return len(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


def start_id(vocabulary: Vocabulary) -> int:
    """The id of the token that is read before a text that nothing stands before."""
    return int(vocabulary.encode(START)[0]) if vocabulary.end_id is None else vocabulary.end_id


def rows_at_once(config: ModelConfig) -> int:
    """How many tokens a network reads at once where nothing but memory limits it."""
    row = 4 * config.hidden_size * np.dtype(config.dtype).itemsize
    return max(FEWEST_STREAMS, min(MOST_ROWS, GATES_BYTES // row))


def _nothing_told(tokens: int, size: float) -> None:
    """What is called where nobody wants to know."""


# What a token costs with NumPy, and what starting the compiled kernels costs: seconds of a step of a layer, operations
# a second, and seconds, measured on a 2-core x86-64 server.
NUMPY_STEP, NUMPY_OPERATIONS = 25e-6, 70e9
CPU_START = 0.7


def choose_backend(config: ModelConfig, texts: Iterable[Text], side_by_side: bool) -> tuple[str, Iterable[Text]]:
    """("numpy" or "cpu": whichever is expected to be done first; the texts, of which no more are taken than need be).

    numba takes longer to import than NumPy takes for a few thousand tokens, then is several times faster.
    """
    if fastest() == "numpy" or "numba" in sys.modules:
        return fastest(), texts
    steps = config.num_layers / (FEWEST_STREAMS if side_by_side else 1)
    seconds = steps * NUMPY_STEP + 2 * config.num_parameters / NUMPY_OPERATIONS  # a token
    texts = iter(texts)
    taken, enough = _taken(texts, int(CPU_START / seconds))
    return "cpu" if enough else "numpy", itertools.chain(taken, texts)


# ---------------------------------------------------------------- one text of any length


def score(network: Network, vocabulary: Vocabulary, chunks: Iterable[Text], told: Told = _nothing_told) -> Score:
    """Score a text of any length as one stream, whose first token is given; see `stream`."""
    return sum((piece.score for piece in stream(network, vocabulary, chunks, told=told)), NOTHING)


def stream(
    network: Network, vocabulary: Vocabulary, chunks: Iterable[Text], alone: bool = False, told: Told = _nothing_told
) -> Iterator[Surprisals]:
    """Judge a text of any length, piece by piece: the state is carried from its first token to its last.

    chunks: the text in pieces (bytes at byte level) that split no token, as `nblstm.text.corpus.read` gives them.
    alone: whether it is a document of its own, read after `start_id` and with an end token if the model has one;
    else its first token is given.
    """
    state, last = State.zeros(network.config), np.full(1, start_id(vocabulary), np.int32) if alone else None
    for text in chunks:
        text, ids = _encoded(vocabulary, text)
        if last is None and len(ids):
            text, ids, last = _behind_first(vocabulary, text), ids[1:], ids[:1]
        nats, state = _carried(network, last, ids, state, _num_bytes(text), told)
        last = ids[-1:] if len(ids) else last
        yield Surprisals(text, ids, nats, vocabulary)
    if alone and vocabulary.end_id is not None:
        end = np.full(1, vocabulary.end_id, np.int32)
        nats, _ = _carried(network, last, end, state, 0, told)
        yield Surprisals(b"" if vocabulary.level == "byte" else "", end, nats, vocabulary)


def _encoded(vocabulary: Vocabulary, text: Text) -> tuple[Text, np.ndarray]:
    """(text, as bytes at byte level; its ids (M,) int32)"""
    if vocabulary.level == "byte" and isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")
    return text, vocabulary.encode(text).astype(np.int32)


def _behind_first(vocabulary: Vocabulary, text: Text) -> Text:
    """A text without its first token and what stands before that."""
    if isinstance(text, bytes):
        return text[1:]
    first = vocabulary.split(text)[0]
    return text[text.index(first) + len(first) :]


def _carried(network: Network, last, ids: np.ndarray, state: State, size: int, told: Told) -> tuple[np.ndarray, State]:
    """-log p of each id (M,) that follows `last` (1,) and the ids before it, and the state after; size: their bytes."""
    nats, rows = np.empty(len(ids), network.config.dtype), rows_at_once(network.config)
    for start in range(0, len(ids), rows):
        targets = ids[start : start + rows]
        inputs = np.concatenate([last, targets[:-1]])
        losses, state = network.losses(inputs[:, None], targets[:, None], state)
        nats[start : start + rows], last = losses[:, 0], targets[-1:]
        told(len(targets), size * len(targets) / len(ids))
    return nats, state


# ---------------------------------------------------------------- many texts side by side


def judge(
    network: Network, vocabulary: Vocabulary, texts: Iterable[Text], told: Told = _nothing_told
) -> Iterator[Surprisals]:
    """Judge texts that know nothing of each other, in their order; each as `stream` does alone.

    Some WINDOW characters of texts are held at a time, sorted by length and read side by side.
    """
    texts = iter(texts)
    while window := _taken(texts, WINDOW)[0]:
        encoded = [_encoded(vocabulary, text) for text in window]
        ids = [ids for _, ids in encoded]
        if vocabulary.end_id is not None:
            ids = [np.append(part, np.int32(vocabulary.end_id)) for part in ids]
        size = sum(_num_bytes(text) for text, _ in encoded) / max(1, sum(map(len, ids)))
        nats = _side_by_side(network, ids, start_id(vocabulary), lambda tokens: told(tokens, tokens * size))
        for (text, _), part, losses in zip(encoded, ids, nats):
            yield Surprisals(text, part, losses, vocabulary)


def _taken(items: Iterator[Text], length: int) -> tuple[list[Text], bool]:
    """The next items until they have so many characters in all, and whether there were as many."""
    taken: list[Text] = []
    for item in items:
        taken.append(item)
        length -= len(item)
        if length <= 0:
            return taken, True
    return taken, False


def _side_by_side(
    network: Network, texts: list[np.ndarray], start: int, told: Callable[[int], None]
) -> list[np.ndarray]:
    """-log p of each id of each text, ids (M,) int32 that are read after `start`; neighbours in length go together."""
    lengths = np.array([len(ids) for ids in texts])
    ends = np.cumsum(lengths)
    places = ends - lengths
    targets = np.concatenate([*texts, np.zeros(1, np.int32)])  # the last one is read where a text has ended
    inputs = np.concatenate([np.zeros(1, np.int32), targets[:-1]])
    inputs[places] = start
    nats, order = np.empty(len(targets), network.config.dtype), np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    while len(order):
        batch = order[: batch_size(network.config, int(lengths[order[0]]))]
        _batch(network, inputs, targets, nats, places[batch], lengths[batch], told)
        order = order[len(batch) :]
    return np.split(nats[:-1], ends[:-1])


def batch_size(config: ModelConfig, longest: int) -> int:
    """How many texts of at most so many tokens are read side by side."""
    return max(FEWEST_STREAMS, min(MOST_STREAMS, rows_at_once(config) // longest))


def _batch(network: Network, inputs, targets, nats, places, lengths, told: Callable[[int], None]) -> None:
    """nats[p : p + n] = -log p of targets[p : p + n] for each place p and length n, longest first; padding is masked."""
    state, done, rows = State.zeros(network.config, len(lengths)), 0, rows_at_once(network.config)
    while done < lengths[0]:
        N = int(np.count_nonzero(lengths > done))  # the others have ended
        until_one_ends = max(int(lengths[N - 1]) - done, SHORTEST_RUN)
        T = min(int(lengths[0]) - done, until_one_ends, max(1, rows // N))
        step = np.arange(done, done + T)[:, None]
        real = step < lengths[:N]
        index = np.where(real, places[:N] + step, len(targets) - 1)
        losses, state = network.losses(inputs[index], targets[index], State(state.h[:, :N], state.c[:, :N]))
        nats[index[real]] = losses[real]
        done += T
        told(int(np.count_nonzero(real)))


# ---------------------------------------------------------------- a text cut into parallel streams


def score_in_streams(
    network: Network, vocabulary: Vocabulary, chunks: Iterable[Text], most: int, told: Told = _nothing_told
) -> tuple[Score, int]:
    """Score a text cut into up to `most` parallel streams of at least SHORTEST_STREAM tokens: (score, streams).

    Faster than one stream and a little pessimistic: each stream starts cold, from the zero state. The first token is
    given. The ids go to a temporary file; TextError if there is no room for it.
    """
    from nblstm.text.corpus import TokenFile

    size, first = 0, None

    def counted() -> Iterator[Text]:
        nonlocal size, first
        for text in chunks:
            size, first = size + _num_bytes(text), text if first is None else first
            yield text

    file = TokenFile(vocabulary, counted())
    ids = file.ids
    if len(ids) < 2:
        return NOTHING, 1
    N = max(1, min(most, len(ids) // SHORTEST_STREAM))
    streams, state, nats = Streams(ids, N, max(1, rows_at_once(network.config) // N)), State.zeros(network.config, N), 0.0
    for k in range(len(streams)):
        inputs, targets = streams.chunk(k)
        losses, state = network.losses(inputs, targets, state)
        nats += float(losses.sum(dtype=np.float64))
        told(losses.size, size * losses.size / len(ids))
        file.release()
    rest = ids[N * streams.length :].astype(np.int32)  # fewer than N tokens that follow the last stream
    losses, _ = _carried(network, rest[:1], rest[1:], State(state.h[:, -1:], state.c[:, -1:]), 0, told)
    text, _ = _encoded(vocabulary, first)
    scored = _behind_first(vocabulary, text)
    unknown = file.unknown - int(ids[0] == vocabulary.unk_id)
    nats += float(losses.sum(dtype=np.float64))
    characters = file.characters - (len(text) - len(scored))
    return Score(nats, len(ids) - 1, characters, size - (_num_bytes(text) - _num_bytes(scored)), unknown), N


def validation_loss(network: Network, ids: np.ndarray, stop: Callable[[], bool] = lambda: False) -> float | None:
    """The mean loss (nats per token) of a text cut into up to VALIDATION_STREAMS parallel streams; None if stopped.

    ids (tokens,) with at least 2 tokens. Each stream starts from the zero state and carries it to its end.
    """
    N = max(1, min(VALIDATION_STREAMS, len(ids) // SHORTEST_STREAM))
    streams, state = Streams(ids, N, max(1, CHUNK // N)), State.zeros(network.config, N)
    nats, tokens = 0.0, 0
    for k in range(len(streams)):
        if stop():
            return None
        inputs, targets = streams.chunk(k)
        losses, state = network.losses(inputs, targets, state)
        nats, tokens = nats + float(losses.sum(dtype=np.float64)), tokens + losses.size
    return nats / tokens
