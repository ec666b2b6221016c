"""Scoring: how probable a network finds a text.

A text is judged in one of two ways. As a stream: one text of any length, its state carried from piece to piece. Or as
one of many: short texts that know nothing of each other, read side by side, which keeps the machine busy. Each text's
result depends on that text alone, not on its neighbours or on how it is cut.

A model that reads in both directions sees the token that follows. It is judged by filling in: every token is hidden
once and predicted from both sides, the first and an end token as well (`Network.losses`). What is read is all there is:
no token is given, and none stands before a text. A text longer than the network's span is read in spans of so many;
from one to the next the state is carried from left to right, and the other direction starts anew.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config import TokenStackConfig
from nblstm.nn.cost import compiled_pays_from
from nblstm.nn.network import Network
from nblstm.nn.state import State
from nblstm.text.batches import Chunk, Streams
from nblstm.text.buckets import Buckets
from nblstm.text.packing import chunks_of
from nblstm.text.vocabulary import Vocabulary, num_characters, utf8

Text = str | bytes
OnProgress = Callable[
    [int, float], None
]  # called now and then with the tokens and bytes of text done since the last call

GATES_BYTES = 3 << 23  # of all layers' gates, the largest part of what reading a chunk writes
MOST_ROWS = 4096  # tokens of a chunk: more are not faster
FEWEST_STREAMS, MOST_STREAMS = 32, 512  # texts read side by side
WINDOW = 1 << 18  # characters of texts that are sorted by length together
SCORED_AT_ONCE = 1024  # tokens of a validation text that are scored at once
VALIDATION_STREAMS = 16  # parallel streams of a validation text, each starting from the zero state ...
SHORTEST_SCORED = 2000  # ... and at least this long, so that the cold starts weigh little


@dataclass(frozen=True)
class Score:
    """The probability of a text, summed up. A token that is given is read, not scored."""

    nats: float  # -log probability of the scored tokens, natural logarithm
    tokens: int  # scored tokens, an end token among them
    characters: int  # characters they stand for, see `num_characters`; an end token stands for none
    bytes: int  # UTF-8 bytes they stand for
    unknown: int  # scored tokens that the vocabulary does not have

    def __repr__(self) -> str:
        return (
            f"<Score: {self.loss:.4f} nats per token, perplexity {self.perplexity:.2f}, {self.bits_per_character:.4f} bits per "
            f"character; {self.tokens:,} tokens, {self.unknown:,} unknown>"
        )

    def __add__(self, other: Score) -> Score:
        """Add up the scores of two texts."""
        return Score(*(a + b for a, b in zip(vars(self).values(), vars(other).values())))

    @property
    def loss(self) -> float:
        """Nats per token; nan if nothing was scored"""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def perplexity(self) -> float:
        """Exponential of the loss; inf where that overflows"""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_character(self) -> float:
        """Bits (nats / ln 2) per character; comparable between tokenizations"""
        return self.nats / math.log(2) / self.characters if self.characters else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Bits (nats / ln 2) per UTF-8 byte"""
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
        """Bits of each token, -log2 p (M,)"""
        return self.nats / self.nats.dtype.type(math.log(2))

    @property
    def tokens(self) -> list[str]:
        """The tokens as strings, as they stand in the text even where the vocabulary does not know them."""
        tokens = [] if self.vocabulary.by_bytes else list(self.vocabulary.split(self.text))
        return tokens + [self.vocabulary.tokens[id] for id in self.ids[len(tokens) :]]  # an end token has no text

    @property
    def unknown(self) -> np.ndarray:
        """Mask of tokens that the vocabulary does not have, (M,) bool."""
        return self.ids == (-1 if self.vocabulary.unk_id is None else self.vocabulary.unk_id)

    @property
    def score(self) -> Score:
        """The sum."""
        nats, unknown = float(self.nats.sum(dtype=np.float64)), int(np.count_nonzero(self.unknown))
        return Score(nats, len(self.ids), num_characters(self.text), len(utf8(self.text)), unknown)


def worse_than_guessing(loss: float | None, vocab_size: int) -> str | None:
    """Say, without a full stop, that a loss (nats per token) is above that of a uniform guess; None where it is not."""
    uniform = math.log(vocab_size)
    if loss is None or not loss > uniform:
        return None
    return f"{loss:.4f} nats per token are worse than a uniform guess among its {vocab_size:,} tokens, {uniform:.4f}"


def rows_at_once(config: TokenStackConfig) -> int:
    """Return how many tokens a network reads at once where nothing but memory limits it."""
    row = len(config.cells) * 4 * config.hidden_size * np.dtype(config.dtype).itemsize
    return max(FEWEST_STREAMS, min(MOST_ROWS, GATES_BYTES // row))


def _no_progress(tokens: int, size: float) -> None:
    """Default progress callback: does nothing."""


def backend_for(config: TokenStackConfig, texts: Iterable[Text], side_by_side: bool) -> tuple[str, Iterable[Text]]:
    """Return ("numpy" or "cpu": whichever is expected to be done first; the texts, of which few are taken).

    numba takes longer to import than NumPy takes for a few thousand tokens, then is several times faster.
    """
    enough = compiled_pays_from(config, FEWEST_STREAMS if side_by_side else 1)
    if enough in (0, math.inf):
        return "numpy" if enough else "cpu", texts
    texts = iter(texts)
    taken, are_enough = _take(texts, int(enough))
    return "cpu" if are_enough else "numpy", itertools.chain(taken, texts)


# ---------------------------------------------------------------- one text of any length


def score(
    network: Network, vocabulary: Vocabulary, chunks: Iterable[Text], on_progress: OnProgress = _no_progress
) -> Score:
    """Score a text of any length as one stream, whose first token is given unless it is filled in; see `stream`."""
    return sum((piece.score for piece in stream(network, vocabulary, chunks, on_progress=on_progress)), NOTHING)


def stream(
    network: Network,
    vocabulary: Vocabulary,
    chunks: Iterable[Text],
    alone: bool = False,
    on_progress: OnProgress = _no_progress,
) -> Iterator[Surprisals]:
    """Judge a text of any length, piece by piece: the state is carried from its first token to its last.

    chunks: the text in pieces (bytes at byte level) that split no token, as `nblstm.text.reading.read_chunks` gives them.
    alone: whether it is a document of its own, read after `start_id` and with an end token if the model has one;
    else its first token is given. A text that is filled in comes in pieces of whole spans.
    """
    chunks = vocabulary.read_pieces(chunks)
    if network.span:
        yield from _fill_in(network, vocabulary, chunks, alone, on_progress)
        return
    state, last = network.initial_state(), np.full(1, vocabulary.start_id, np.int32) if alone else None
    for text in chunks:
        text, ids = _encode(vocabulary, text)
        if last is None and len(ids):
            text, ids, last = _drop_first(vocabulary, text, int(ids[0])), ids[1:], ids[:1]
        nats, state = _read_on(network, last, ids, state, len(utf8(text)), on_progress)
        last = ids[-1:] if len(ids) else last
        yield Surprisals(text, ids, nats, vocabulary)
    if alone and vocabulary.end_id is not None:
        end = np.full(1, vocabulary.end_id, np.int32)
        nats, _ = _read_on(network, last, end, state, 0, on_progress)
        yield Surprisals(b"" if vocabulary.by_bytes else "", end, nats, vocabulary)


def _fill_in(
    network: Network, vocabulary: Vocabulary, chunks: Iterable[Text], alone: bool, on_progress: OnProgress
) -> Iterator[Surprisals]:
    """Judge as `stream` does, by a network that reads in both directions."""
    assert network.span is not None  # as for every network that reads in both directions
    state, before = network.initial_state(), np.full(1, vocabulary.start_id, np.int32)
    for text, is_last in _cut_in_spans(vocabulary, chunks, network.span):
        ids = _encode(vocabulary, text)[1]
        if is_last and alone and vocabulary.end_id is not None:
            ids = np.append(ids, np.int32(vocabulary.end_id))
        nats, state = _read_on(network, before, ids, state, len(utf8(text)), on_progress)
        yield Surprisals(text, ids, nats, vocabulary)


def _cut_in_spans(vocabulary: Vocabulary, chunks: Iterable[Any], span: int) -> Iterator[tuple[str, bool]]:
    """Give the text in pieces of whole spans of tokens, and a shorter last one; whether it is that."""
    rest = ""
    for chunk in chunks:
        text = rest + chunk
        tokens, cut = vocabulary.split(text), len(text)
        for token in reversed(tokens[len(tokens) - len(tokens) % span :]):
            cut = text.rindex(token, 0, cut)
        if cut:
            yield text[:cut], False
        rest = text[cut:]
    yield rest, True


def _encode(vocabulary: Vocabulary, text: Text) -> tuple[Text, np.ndarray]:
    """Return (the text as it is read, as bytes where tokens are; its ids (M,) int32)."""
    text = vocabulary.read(text)
    ids = vocabulary.encode(text).astype(np.int32)
    return utf8(text) if vocabulary.by_bytes else text, ids


def _drop_first(vocabulary: Vocabulary, text: Text, first_id: int) -> Text:
    """Return a text without its first token and what stands before that."""
    if isinstance(text, bytes):
        return text[len(vocabulary.token_bytes(first_id)) :]
    first = vocabulary.split(text)[0]
    return text[text.index(first) + len(first) :]


def _read_on(
    network: Network, last, ids: np.ndarray, state: State, size: int, on_progress: OnProgress
) -> tuple[np.ndarray, State]:
    """Return (-log p of each id (M,), read after `last` (1,) and those before it; the state after).

    size: the bytes that the ids stand for.
    """
    config = network.config
    nats, rows = np.empty(len(ids), config.dtype), network.span or rows_at_once(config)
    for start in range(0, len(ids), rows):
        targets = ids[start : start + rows]
        inputs = np.concatenate([last, targets[:-1]])
        chunk = Chunk.rectangle(inputs[:, None], targets[:, None], fresh=False)
        losses, state = network.losses(chunk, state)
        nats[start : start + rows] = checks.losses(losses)
        last = targets[-1:]
        on_progress(len(targets), size * len(targets) / len(ids))
    return nats, state


def following_losses(network: Network, state: State, ids: np.ndarray) -> np.ndarray:
    """Return -log p of each id of a text (M,) that follows `state`, by a network that reads from left to right."""
    if not len(ids):
        return np.empty(0, network.config.dtype)
    ids = ids.astype(np.int32)
    z = checks.distributions(network.logits(state.features), "behind the state")[0].astype(np.float64)
    z -= z.max()
    first = np.log(np.exp(z).sum()) - z[ids[0]]  # -log softmax
    rest, _ = _read_on(network, ids[:1], ids[1:], state, 0, _no_progress)
    return np.concatenate([[first], rest])


# ---------------------------------------------------------------- many texts side by side


def judge(
    network: Network, vocabulary: Vocabulary, texts: Iterable[Text], on_progress: OnProgress = _no_progress
) -> Iterator[Surprisals]:
    """Judge texts that know nothing of each other, in their order; each as `stream` does alone.

    Some WINDOW characters of texts are held at a time, sorted by length and read side by side.
    """
    texts = iter(texts)
    while window := _take(texts, WINDOW)[0]:
        encoded = [_encode(vocabulary, text) for text in window]
        ids = [ids for _, ids in encoded]
        if vocabulary.end_id is not None:
            ids = [np.append(part, np.int32(vocabulary.end_id)) for part in ids]
        size = sum(len(utf8(text)) for text, _ in encoded) / max(1, sum(map(len, ids)))
        nats = _judge_batches(network, ids, vocabulary.start_id, lambda tokens: on_progress(tokens, tokens * size))  # noqa: B023
        for (text, _), part, losses in zip(encoded, ids, nats):
            yield Surprisals(text, part, losses, vocabulary)


def _take(items: Iterator[Text], length: int) -> tuple[list[Text], bool]:
    """Take the next items until they have so many characters in all; whether there were as many."""
    taken: list[Text] = []
    for item in items:
        taken.append(item)
        length -= len(item)
        if length <= 0:
            return taken, True
    return taken, False


def _judge_batches(
    network: Network, texts: list[np.ndarray], start: int, on_progress: Callable[[int], None]
) -> list[np.ndarray]:
    """Return -log p of each id of each text, ids (M,) int32 read after `start`; those of like length share a batch."""
    lengths = np.array([len(ids) for ids in texts])
    targets, ends = np.concatenate(texts), np.cumsum(lengths)
    inputs, order = np.roll(targets, 1), np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    inputs[(ends - lengths)[order]] = start
    nats = np.empty(len(targets), network.config.dtype)
    while len(order):
        batch = order[: batch_size(network.config, int(lengths[order[0]]))]
        state = network.initial_state(len(batch))
        starts, most = (ends - lengths)[batch], rows_at_once(network.config)
        for rows, offsets in chunks_of(starts, lengths[batch], most, network.span):
            chunk = Chunk(inputs[rows], targets[rows], offsets, fresh=False)
            nats[rows], state = network.losses(chunk, network.before(chunk, state))
            on_progress(len(rows))
        order = order[len(batch) :]
    return np.split(checks.losses(nats, ends), ends[:-1])


def batch_size(config: TokenStackConfig, longest: int) -> int:
    """Return how many texts of at most so many tokens make a batch."""
    return max(FEWEST_STREAMS, min(MOST_STREAMS, rows_at_once(config) // longest))


# ---------------------------------------------------------------- a text cut into parallel streams


class _TokenText:
    """A text as ids in a temporary file, and what a score counts of it. TextError if there is no room for the file."""

    def __init__(self, vocabulary: Vocabulary, chunks: Iterable[Text]) -> None:
        from nblstm.text.token_file import TokenFile

        self.vocabulary, self.size, self.characters = vocabulary, 0, 0
        self.first: Text | None = None
        self.file = TokenFile(vocabulary, self._counted(vocabulary.read_pieces(chunks)))
        self.ids = self.file.ids

    def _counted(self, chunks: Iterable[Text]) -> Iterator[Text]:
        for text in chunks:
            self.size, self.characters = self.size + len(utf8(text)), self.characters + num_characters(text)
            self.first = text if self.first is None else self.first
            yield text

    def score(self, nats: float) -> Score:
        """Return the score of all tokens but the first, which is given."""
        text, _ = _encode(self.vocabulary, self.first or "")
        scored = _drop_first(self.vocabulary, text, int(self.ids[0]))
        characters = self.characters - (num_characters(text) - num_characters(scored))
        size = self.size - (len(utf8(text)) - len(utf8(scored)))
        return Score(
            nats, len(self.ids) - 1, characters, size, self.file.unknown - int(self.ids[0] == self.vocabulary.unk_id)
        )


def score_in_streams(
    network: Network, vocabulary: Vocabulary, chunks: Iterable[Text], most: int, on_progress: OnProgress = _no_progress
) -> tuple[Score, int]:
    """Score a text cut into up to `most` parallel streams of at least SHORTEST_SCORED tokens: (score, streams).

    Faster than one stream and a little pessimistic: each stream starts cold, from the zero state. The first token is
    given. The ids go to a temporary file; TextError if there is no room for it.
    """
    text = _TokenText(vocabulary, chunks)
    ids = text.ids
    if len(ids) < 2:
        return NOTHING, 1
    N = max(1, min(most, len(ids) // SHORTEST_SCORED))
    streams, state, nats = Streams(ids, N, max(1, rows_at_once(network.config) // N)), network.initial_state(N), 0.0
    for chunk in streams:
        losses, state = network.losses(chunk, network.before(chunk, state))
        nats += float(checks.losses(losses).sum(dtype=np.float64))
        on_progress(losses.size, text.size * losses.size / len(ids))
        text.file.release()
    rest = ids[N * streams.length :].astype(np.int32)  # fewer than N tokens that follow the last stream
    losses, _ = _read_on(network, rest[:1], rest[1:], state.take([N - 1]), 0, on_progress)
    return text.score(nats + float(losses.sum(dtype=np.float64))), N


def score_in_windows(
    network: Network,
    vocabulary: Vocabulary,
    chunks: Iterable[Text],
    window: int,
    on_progress: OnProgress = _no_progress,
) -> Score:
    """Score a text cut into windows of so many tokens, each read from nothing, as models with a fixed context are.

    Every token but the first is scored once, by those before it in its window and the last one of the window before.
    The ids go to a temporary file; TextError if there is no room for it.
    """
    text, nats = _TokenText(vocabulary, chunks), 0.0
    at_once = window * max(1, rows_at_once(network.config) // window)
    for start in range(0, max(0, len(text.ids) - 1), at_once):
        piece = text.ids[start : start + at_once + 1]
        for length in (window, (len(piece) - 1) % window):  # whole windows, and the shorter one at the end
            N = (len(piece) - 1) // length if length else 0
            if N:
                inputs, targets = (piece[k : k + N * length].reshape(N, length).T for k in (0, 1))
                chunk = Chunk.rectangle(inputs, targets, fresh=True)
                losses, _ = network.losses(chunk, network.initial_state(N))
                nats += float(checks.losses(losses).sum(dtype=np.float64))
                on_progress(losses.size, text.size * losses.size / len(text.ids))
            piece = piece[N * length :]
        text.file.release()
    return text.score(nats) if len(text.ids) > 1 else NOTHING


# ---------------------------------------------------------------- validation


def validation_streams(ids: np.ndarray) -> Sequence[Chunk]:
    """Cut a text, ids (tokens,), into up to VALIDATION_STREAMS parallel streams; nothing below 2 tokens."""
    N = max(1, min(VALIDATION_STREAMS, len(ids) // SHORTEST_SCORED))
    return Streams(ids, N, max(1, SCORED_AT_ONCE // N)) if len(ids) > 1 else ()


def validation_documents(ids: np.ndarray, offsets: np.ndarray) -> Sequence[Chunk]:
    """Put documents in batches, as in `nblstm.text.token_file.TokenFile`; nothing without one."""
    if len(offsets) < 2:
        return ()
    return Buckets(
        ids, offsets, (), SCORED_AT_ONCE // VALIDATION_STREAMS, 1, tokens_per_batch=SCORED_AT_ONCE, seed=None
    ).epoch(0)


def validation_loss(
    network: Network, chunks: Iterable[Chunk], stop: Callable[[], bool] = lambda: False
) -> float | None:
    """Compute the mean loss (nats per token) of the chunks, at least one, in their order; None if stopped."""
    nats, tokens, state = 0.0, 0, network.initial_state()
    for chunk in chunks:
        if stop():
            return None
        losses, state = network.losses(chunk, network.before(chunk, state))
        losses = losses if chunk.weights is None else losses[chunk.weights > 0]
        nats, tokens = nats + float(losses.sum(dtype=np.float64)), tokens + len(losses)
    return nats / tokens
