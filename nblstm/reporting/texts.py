"""The texts that a report on a model of text is measured on: as ids, and how well the model knows them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nblstm.config import DOCUMENTS
from nblstm.errors import TextError
from nblstm.nn.cost import compiled_pays_from
from nblstm.scoring import VALIDATION_STREAMS, validation_documents, validation_loss, validation_streams
from nblstm.tasks.text_model import TextModel
from nblstm.text.corpus import named_columns
from nblstm.text.demo import DEMO, demo_source
from nblstm.text.reading import read_chunks, read_documents
from nblstm.text.sources import texts_in
from nblstm.text.tables import Columns
from nblstm.text.token_file import TokenFile, fingerprint_of

EXCERPTS, EXCERPT_TOKENS = 16, 6000  # of a text whose loss is measured
SHORTEST_HELD_OUT = 1000  # a shorter rest of the corpus is not taken for a held-out text
READ_TOKENS = 1500  # of the text that is read step by step, or fewer:
READ_LOGITS = 1 << 25  # the logits of all its tokens are held at once


@dataclass(frozen=True)
class Texts:
    """Token ids (tokens,) of the training text and of a text the model has not seen, where there are any."""

    train: np.ndarray | None = None
    held_out: np.ndarray | None = None
    held_out_name: str = ""


def read_texts(
    model: TextModel, corpus: Sequence[str], text: str | None, encoding: str | None, documents: str | None,
    on_message: Callable[[str], None],
) -> Texts:  # fmt: skip
    """Read the ids of the texts that were given; arguments as of `nblstm.reporting.report.make_report`."""
    read_ids = partial(_ids, model, _how_read(model, encoding, documents), on_message=on_message)
    train = held_out = None
    name = ""
    if corpus:
        on_message(f"reading {_named(corpus)}")
        ids = read_ids(corpus)
        _check_corpus(corpus, ids, model, on_message)
        train, held_out = _split(ids, model.training.get("tokens"), model.vocabulary.end_id)
        name = "the part of the corpus it was not trained on" if held_out is not None else ""
    if text is not None:
        held_out, name = read_ids([text]), os.path.basename(text)
    return Texts(train, held_out, name)


def _named(paths: Sequence[str]) -> str:
    return ", ".join("the demo text" if path == DEMO else path for path in paths)


def _check_corpus(corpus: Sequence[str], ids: np.ndarray, model: TextModel, on_message: Callable[[str], None]) -> None:
    """Raise TextError for a text that is not the one a model was trained on; where its file does not say which text that
    is, tell of one with another name. Behind that text there may be more.
    """
    names, tokens, fingerprint = (model.training.get(name) for name in ("corpus", "tokens", "fingerprint"))
    known = ", ".join(map(str, names)) if isinstance(names, list) and names else None
    if isinstance(tokens, int) and len(ids) < tokens:
        raise TextError(
            f"{_named(corpus)} holds {len(ids):,} tokens, so it is not the text of {tokens:,} tokens that the model was "
            f"trained on{'' if known is None else f' ({known})'}; name that, or leave corpus out."
        )
    if isinstance(fingerprint, str) and isinstance(tokens, int):
        if fingerprint_of(ids[: tokens + (model.vocabulary.end_id is not None)]) != fingerprint:
            raise TextError(
                f"{_named(corpus)} is not the text that the model was trained on{'' if known is None else f' ({known})'}, "
                "or it has changed, or is read in another encoding or as other documents; name that text, or leave corpus out."
            )
    elif known and {os.path.basename(os.path.abspath(path)) for path in corpus} != set(map(str, names or ())):
        on_message(
            f"WARNING: the model was trained on {known}, not on {_named(corpus)}: if that is another text, fit and copies "
            "are judged wrongly."
        )


@dataclass(frozen=True)
class _HowRead:
    """How texts are read."""

    encoding: str
    documents: str
    include: str
    columns: Columns | None


def _how_read(model: TextModel, encoding: str | None, documents: str | None) -> _HowRead:
    """Return how texts are read: as asked, else as in training where the model's file says so, else as by default."""
    stored = model.training.get("text")
    known = (
        {name: value for name, value in stored.items() if isinstance(value, str)} if isinstance(stored, dict) else {}
    )
    kind = known.get("documents", "line")
    chosen = documents or (kind if kind in DOCUMENTS else "line")
    named = [known.get(name) if chosen == "row" else None for name in ("text_column", "context_column")]
    return _HowRead(
        encoding or known.get("encoding", "utf-8"), chosen, known.get("include") or "*", named_columns(chosen, *named)
    )


def _ids(
    model: TextModel, how: _HowRead, paths: Sequence[str], on_message: Callable[[str], None] = lambda message: None
) -> np.ndarray:
    """Read the token ids (tokens,) of files, at least 2, mapped from disk. Documents have <end> around each."""
    vocabulary = model.vocabulary
    sources = [demo_source() if path == DEMO else path for path in paths]
    files = texts_in(sources, how.include, vocabulary.level, on_message)
    chunks: Iterator[Any]
    if vocabulary.end_id is None:
        chunks = iter(vocabulary.read_pieces(read_chunks(files, vocabulary.level, how.encoding)))
    else:
        chunks = read_documents(files, vocabulary.level, how.documents, how.encoding, how.columns)
    ids = TokenFile(vocabulary, chunks).ids
    if len(ids) < 2:
        raise TextError(f"{_named(paths)} has fewer than 2 tokens; the first is given, so there is nothing to score.")
    return ids


def _split(ids: np.ndarray, trained: object, end_id: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Split ids into the text a model was trained on and the rest, given the number of tokens it was trained on.

    Both parts of documents begin and end with <end>: they share one, and the first of all was not counted.
    """
    if not isinstance(trained, int) or not 2 <= trained <= len(ids) - SHORTEST_HELD_OUT:
        return ids, None
    if end_id is None:
        return ids[:trained], ids[trained:]
    return (ids[: trained + 1], ids[trained:]) if ids[trained] == end_id else (ids, None)


def excerpts_of(ids: np.ndarray, count: int, length: int) -> list[np.ndarray]:
    """Return `count` evenly spaced excerpts of up to `length` tokens, which do not overlap."""
    length = max(1, min(length, len(ids) // count))
    starts = np.linspace(0, len(ids) - length, count).astype(int)
    return [ids[start : start + length] for start in starts.tolist()]


def mean_loss(model: TextModel, ids: np.ndarray) -> float:
    """Compute nats per token, of EXCERPTS excerpts of a long text, of the whole of a short one."""
    end_id = model.vocabulary.end_id
    if len(ids) > EXCERPTS * EXCERPT_TOKENS:
        excerpts = excerpts_of(ids, EXCERPTS, EXCERPT_TOKENS)
        whole = excerpts if end_id is None else [np.array([end_id]), *(_documents(part, end_id) for part in excerpts)]
        ids = np.concatenate(whole)
    offsets = np.flatnonzero(ids == end_id)
    chunks = validation_streams(ids) if end_id is None or len(offsets) < 2 else validation_documents(ids, offsets)
    backend = "cpu" if len(ids) >= compiled_pays_from(model.config, VALIDATION_STREAMS) else "numpy"
    loss = validation_loss(model.network(backend), chunks)
    return float(loss)  # type: ignore[arg-type]


def _documents(ids: np.ndarray, end_id: int) -> np.ndarray:
    """Return the whole documents of an excerpt, each with its <end>."""
    ends = np.flatnonzero(ids == end_id)
    return ids[ends[0] + 1 : ends[-1] + 1] if len(ends) else ids[:0]


def shown_ids(model: TextModel, ids: np.ndarray) -> np.ndarray:
    """Return the ids (tokens,) int64 of the start of a text, as much as a page shows; of documents behind an <end>."""
    ids = ids[: min(READ_TOKENS, max(2, READ_LOGITS // len(model.vocabulary)))].astype(np.int64)
    end_id = model.vocabulary.end_id
    return ids if end_id is None or ids[0] == end_id else np.concatenate([[end_id], ids])
