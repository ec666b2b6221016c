"""Many texts that know nothing of each other, read side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from nblstm import checks
from nblstm.nn.network import Network
from nblstm.scoring import amounts
from nblstm.scoring.results import OnProgress, Surprisals, Text, no_progress
from nblstm.scoring.streams import text_and_ids
from nblstm.text.batches import Chunk
from nblstm.text.packing import chunks_of
from nblstm.text.strings import utf8
from nblstm.text.vocabulary import Vocabulary

WINDOW = 1 << 18  # characters of texts that are sorted by length together


def judge(
    network: Network, vocabulary: Vocabulary, texts: Iterable[Text], on_progress: OnProgress = no_progress
) -> Iterator[Surprisals]:
    """Judge texts that know nothing of each other, in their order; each as `stream` does alone.

    Some WINDOW characters of texts are held at a time, sorted by length and read side by side.
    """
    texts = iter(texts)
    while window := amounts.take_texts(texts, WINDOW)[0]:
        encoded = [text_and_ids(vocabulary, text) for text in window]
        ids = [ids for _, ids in encoded]
        if vocabulary.end_id is not None:
            ids = [np.append(part, np.int32(vocabulary.end_id)) for part in ids]
        size = sum(len(utf8(text)) for text, _ in encoded) / max(1, sum(map(len, ids)))
        nats = _judge_batches(network, ids, vocabulary.start_id, lambda tokens: on_progress(tokens, tokens * size))  # noqa: B023
        for (text, _), part, losses in zip(encoded, ids, nats):
            yield Surprisals(text, part, losses, vocabulary)


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
        batch = order[: amounts.batch_size(network.config, int(lengths[order[0]]))]
        state = network.initial_state(len(batch))
        starts, most = (ends - lengths)[batch], amounts.rows_at_once(network.config)
        for rows, offsets in chunks_of(starts, lengths[batch], most, network.span):
            chunk = Chunk(inputs[rows], targets[rows], offsets, fresh=False)
            nats[rows], state = network.losses(chunk, network.before(chunk, state))
            on_progress(len(rows))
        order = order[len(batch) :]
    return np.split(checks.losses(nats, ends), ends[:-1])
