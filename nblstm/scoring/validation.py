"""Validation: the loss on a text that is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from nblstm.nn.network import Network
from nblstm.text.batches import Chunk, Streams
from nblstm.text.buckets import Buckets

SCORED_AT_ONCE = 1024  # tokens of a validation text that are scored at once
VALIDATION_STREAMS = 16  # parallel streams of a validation text, each starting from the zero state ...
SHORTEST_SCORED = 2000  # ... and at least this long, so that the cold starts weigh little


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
    network: Network,
    chunks: Iterable[Chunk | None],
    stop: Callable[[], bool] = lambda: False,
    totals: Callable[[float, int], Sequence[float]] = lambda nats, tokens: (nats, tokens),
) -> float | None:
    """Compute the mean loss (nats per token) of the chunks, at least one, in their order; None if stopped.

    totals: adds up what several have found, each of parts of the same chunks; None is an empty part.
    """
    nats, tokens, state = 0.0, 0, network.initial_state()
    for chunk in chunks:
        if stop():
            return None
        if chunk is None:
            continue
        losses, state = network.losses(chunk, network.before(chunk, state))
        losses = losses if chunk.weights is None else losses[chunk.weights > 0]
        nats, tokens = nats + float(losses.sum(dtype=np.float64)), tokens + len(losses)
    all_nats, all_tokens = totals(nats, tokens)
    return all_nats / all_tokens
