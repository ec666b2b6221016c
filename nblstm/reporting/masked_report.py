"""The report on a model that reads both ways: what one on a language model has, but for what it would have to write."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from nblstm.reporting.facts import model_facts
from nblstm.reporting.metrics import Metrics
from nblstm.reporting.recipe import command_line
from nblstm.reporting.report import ModelReport, Reading
from nblstm.reporting.surprisal import RankedSurprisals, surprisals
from nblstm.reporting.texts import mean_loss, read_texts, shown_ids
from nblstm.reporting.tokens import pieces
from nblstm.reporting.verdict import Losses, fit_verdict
from nblstm.tasks.masked.model import MaskedLanguageModel
from nblstm.tasks.masked.network import MaskedNetwork, mask_chunk
from nblstm.text.batches import Chunk


def make_masked_report(
    path: str | os.PathLike[str], model: MaskedLanguageModel, *, corpus: Sequence[str] = (), text: str | None = None,
    metrics: Metrics | None = None, encoding: str | None = None, documents: str | None = None,
    on_message: Callable[[str], None] = lambda message: None,
) -> ModelReport:  # fmt: skip
    """Measure the model in the file at `path`; arguments and errors as of `nblstm.reporting.report.make_report`."""
    texts = read_texts(model, corpus, text, encoding, documents, on_message)
    if corpus or text:
        on_message("measuring losses")
    losses = Losses(*(None if ids is None else mean_loss(model, ids) for ids in (texts.train, texts.held_out)))
    reading = Reading("", np.empty(0, np.int64), [], None, [], None)
    if texts.held_out is not None:
        ids = shown_ids(model, texts.held_out)
        reading = Reading(texts.held_out_name, ids, pieces(model.vocabulary, ids), _filled_in(model, ids), [], None)
    return ModelReport(
        os.path.basename(path), model, model_facts(path, model), command_line(model), os.stat(path).st_mtime, metrics,
        (), 0, [], None, reading, [fit_verdict(losses, metrics)],
    )  # fmt: skip


def _filled_in(model: MaskedLanguageModel, ids: np.ndarray) -> RankedSurprisals:
    """Return the surprisal of each id (T,) but the first, where it is masked; every document is read on its own."""
    network, end_id = model.network("numpy"), model.vocabulary.end_id
    assert isinstance(network, MaskedNetwork)
    ends = [0, *(np.flatnonzero(ids[1:] == end_id) + 1).tolist(), len(ids) - 1]  # a document goes up to its <end>
    texts = [ids[first + 1 : last + 1] for first, last in zip(ends, ends[1:])] if end_id is not None else [ids]
    logits = np.concatenate([_logits_of_masked(network, text) for text in texts if len(text)])
    return surprisals(logits[1 - len(ids) :], ids[1:])


def _logits_of_masked(network: MaskedNetwork, ids: np.ndarray) -> np.ndarray:
    """Return the logits (T, V) for each id of a text where it is masked, as `MaskedNetwork.losses` masks them."""
    state, found = network.initial_state(), np.empty((len(ids), network.config.vocab_size), network.config.dtype)
    for start in range(0, len(ids), network.span):
        part = ids[start : start + network.span].astype(np.int32)[:, None]
        chunk, place = Chunk.rectangle(part, part, fresh=False), np.arange(len(part))
        state = network.before(chunk, state)
        for k in range(min(network.config.masked_passes, len(part))):
            masked = place % network.config.masked_passes == k
            logits, _ = network.outputs(mask_chunk(chunk, masked), state)
            found[start:][: len(part)][masked] = logits[masked]
        state = network.read(mask_chunk(chunk, np.zeros(len(part), bool)), state)
    return found
