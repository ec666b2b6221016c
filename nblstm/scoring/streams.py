"""One text of any length, its state carried from piece to piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.nn.network import Network
from nblstm.nn.state import State
from nblstm.scoring import amounts
from nblstm.scoring.results import NOTHING, OnProgress, Score, Surprisals, Text, no_progress
from nblstm.text.batches import Chunk
from nblstm.text.strings import ends_inside, utf8
from nblstm.text.vocabulary import Vocabulary


def score(
    network: Network, vocabulary: Vocabulary, chunks: Iterable[Text], on_progress: OnProgress = no_progress
) -> Score:
    """Score a text of any length as one stream, whose first token is given unless it is filled in; see `stream`."""
    return sum((piece.score for piece in stream(network, vocabulary, chunks, on_progress=on_progress)), NOTHING)


def stream(
    network: Network,
    vocabulary: Vocabulary,
    chunks: Iterable[Text],
    alone: bool = False,
    on_progress: OnProgress = no_progress,
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
    inside = False
    for text in chunks:
        text, ids = text_and_ids(vocabulary, text)
        if last is None and len(ids):
            text, ids, last = without_first(vocabulary, text, int(ids[0])), ids[1:], ids[:1]
        nats, state = read_on(network, last, ids, state, len(utf8(text)), on_progress)
        last = ids[-1:] if len(ids) else last
        yield Surprisals(text, ids, nats, vocabulary, inside)
        inside = ends_inside(text, inside)
    if alone and vocabulary.end_id is not None:
        end = np.full(1, vocabulary.end_id, np.int32)
        nats, _ = read_on(network, last, end, state, 0, on_progress)
        yield Surprisals(b"" if vocabulary.by_bytes else "", end, nats, vocabulary)


def _fill_in(
    network: Network, vocabulary: Vocabulary, chunks: Iterable[Text], alone: bool, on_progress: OnProgress
) -> Iterator[Surprisals]:
    """Judge as `stream` does, by a network that sees a span of tokens together."""
    assert network.span is not None
    state, before = network.initial_state(), np.full(1, vocabulary.start_id, np.int32)
    inside = False
    for text, is_last in _cut_in_spans(vocabulary, chunks, network.span):
        ids = text_and_ids(vocabulary, text)[1]
        if is_last and alone and vocabulary.end_id is not None:
            ids = np.append(ids, np.int32(vocabulary.end_id))
        nats, state = read_on(network, before, ids, state, len(utf8(text)), on_progress)
        yield Surprisals(text, ids, nats, vocabulary, inside)
        inside = ends_inside(text, inside)


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


def text_and_ids(vocabulary: Vocabulary, text: Text) -> tuple[Text, np.ndarray]:
    """Return (the text as it is read, as bytes where tokens are; its ids (M,) int32)."""
    text = vocabulary.read(text)
    ids = vocabulary.encode(text).astype(np.int32)
    return utf8(text) if vocabulary.by_bytes else text, ids


def without_first(vocabulary: Vocabulary, text: Text, first_id: int) -> Text:
    """Return a text without its first token and what stands before that."""
    if isinstance(text, bytes):
        return text[len(vocabulary.token_bytes(first_id)) :]
    first = vocabulary.split(text)[0]
    return text[text.index(first) + len(first) :]


def read_on(
    network: Network, last, ids: np.ndarray, state: State, size: int, on_progress: OnProgress
) -> tuple[np.ndarray, State]:
    """Return (-log p of each id (M,), read after `last` (1,) and those before it; the state after).

    size: the bytes that the ids stand for.
    """
    config = network.config
    nats, rows = np.empty(len(ids), config.dtype), network.span or amounts.rows_at_once(config)
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
    rest, _ = read_on(network, ids[:1], ids[1:], state, 0, no_progress)
    return np.concatenate([[first], rest])
