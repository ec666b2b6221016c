"""Report: everything about a model that its page shows, measured."""

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
from nblstm.nn.decoder import check_writes
from nblstm.reporting.activations import SIGMOID_GATES, activations, saturation
from nblstm.reporting.cells import ReadableCell, readable_cells
from nblstm.reporting.copying import Span, longest_copy
from nblstm.reporting.facts import model_facts
from nblstm.reporting.history import EarlyText
from nblstm.reporting.metrics import Metrics
from nblstm.reporting.recipe import command_line
from nblstm.reporting.surprisal import RankedSurprisals, surprisals
from nblstm.reporting.tokens import pieces
from nblstm.reporting.verdict import Losses, Verdict, copy_verdict, fit_verdict
from nblstm.scoring import VALIDATION_STREAMS, validation_documents, validation_loss, validation_streams
from nblstm.tasks.language.model import LanguageModel
from nblstm.text.corpus import named_columns
from nblstm.text.demo import DEMO, demo_source
from nblstm.text.reading import read_chunks, read_documents
from nblstm.text.sources import texts_in
from nblstm.text.tables import Columns
from nblstm.text.token_file import TokenFile, fingerprint_of

TEMPERATURES = (0.3, 0.5, 0.8, 1.0, 1.2)
FAIR = 1.0  # the temperature at which samples have the model's own distribution: the one to compare with real text
TEXTS_EACH = 4  # samples at each temperature
EXCERPTS, EXCERPT_TOKENS = 16, 6000  # of a text whose loss is measured
READ_TOKENS = 1500  # of the text that is read step by step, or fewer:
READ_LOGITS = 1 << 25  # the logits of all its tokens are held at once
SHORTEST_HELD_OUT = 1000  # a shorter rest of the corpus is not taken for a held-out text


@dataclass(frozen=True)
class Sample:
    """Texts that the model wrote at a temperature. copied: the longest span that they share with the training text."""

    temperature: float
    texts: list[str]
    copied: Span | None


@dataclass(frozen=True)
class Texts:
    """Token ids (tokens,) of the training text and of a text the model has not seen, where there are any."""

    train: np.ndarray | None = None
    held_out: np.ndarray | None = None
    held_out_name: str = ""


@dataclass(frozen=True)
class Reading:
    """A text read step by step. ids (T,), pieces: the text each adds; surprisals of all but the first.

    saturation: for each layer, gate -> the shares of the time (H,), (H,) that each unit's is closed and open; None
    if the cells are not those of an LSTM.
    """

    name: str
    ids: np.ndarray
    pieces: list[str]
    surprisals: RankedSurprisals | None
    cells: list[ReadableCell]
    saturation: list[dict[str, tuple[np.ndarray, np.ndarray]]] | None


@dataclass(frozen=True)
class ModelReport:
    """All of it."""

    name: str
    model: LanguageModel
    facts: list[tuple[str, str]]
    command: str | None  # that trains it
    modified: float  # when its file was written, seconds since 1970
    metrics: Metrics | None
    history: Sequence[EarlyText]  # what it wrote while it was trained
    seed: int
    samples: list[Sample]
    by_chance: Span | None  # the longest span that as much held-out text shares with the training text
    reading: Reading
    verdicts: list[Verdict]

    @property
    def unit(self) -> str:
        """The name of a token."""
        return unit_of(self.model)

    @property
    def num_cells(self) -> int:
        """How many cells the network has."""
        return self.model.config.num_layers * self.model.config.hidden_size


def make_report(
    path: str | os.PathLike[str], model: LanguageModel, *, corpus: Sequence[str] = (), text: str | None = None,
    metrics: Metrics | None = None, encoding: str | None = None, documents: str | None = None, seed: int = 0, n: int = 300,
    history: Sequence[EarlyText] = (), notify: Callable[[str], None] = lambda message: None,
) -> ModelReport:  # fmt: skip
    """Measure the model in the file at `path`.

    corpus: the files it was trained on. If they hold more tokens than it was trained on, the rest is held-out text.
    text: a file it has not seen. documents: what a document is in them (see `nblstm.text.documents`), if the model was
    trained on documents; like their encoding it is that of training unless it is given. n: tokens of a sample; TEXTS_EACH are
    drawn at each temperature. history: what it wrote while it was trained.
    notify is called with a sentence before each long step. TextError if a text cannot be read or is too short,
    ConfigError for a bidirectional model, which cannot write samples.
    """
    check_writes(model.config)
    read_ids = partial(_ids, model, _how_read(model, encoding, documents), notify=notify)
    texts = _texts(corpus, text, read_ids, model, notify)
    notify(f"writing samples at {len(TEMPERATURES)} temperatures")
    samples = [_sample(model, temperature, seed, n) for temperature in TEMPERATURES]
    by_chance = None
    if texts.train is not None:
        notify(f"looking for copied spans in {len(texts.train):,} tokens")
        samples = [_compared(model, sample, texts.train) for sample in samples]
        by_chance = (
            None if texts.held_out is None else longest_copy(_excerpts(texts.held_out, TEXTS_EACH, n), texts.train)
        )
    notify("measuring losses" if corpus or text else "reading its own samples")
    losses = Losses(*(None if ids is None else _loss(model, ids) for ids in (texts.train, texts.held_out)))
    fair = next(sample for sample in samples if sample.temperature == FAIR)
    copied, usual = (None if span is None else len(span) for span in (fair.copied, by_chance))
    verdicts = [fit_verdict(losses, metrics), copy_verdict(copied, usual, unit_of(model))]
    return ModelReport(
        os.path.basename(path), model, model_facts(path, model), command_line(model), os.stat(path).st_mtime, metrics,
        history, seed, samples, by_chance, _read(model, texts, fair), verdicts,
    )  # fmt: skip


def unit_of(model: LanguageModel) -> str:
    """Name the model's unit: "character", "byte", "word" or "sub-word"."""
    return {"char": "character", "word": "word", "byte": "byte", "subword": "sub-word"}[model.vocabulary.level]


# ------------------------------------------------------------------------------------------- texts


def _texts(
    corpus: Sequence[str], text: str | None, read_ids: Callable[[Sequence[str]], np.ndarray], model: LanguageModel,
    notify: Callable[[str], None],
) -> Texts:  # fmt: skip
    """Read the ids of the texts that were given."""
    train = held_out = None
    name = ""
    if corpus:
        notify(f"reading {_named(corpus)}")
        ids = read_ids(corpus)
        _check_corpus(corpus, ids, model, notify)
        train, held_out = _split(ids, model.training.get("tokens"), model.vocabulary.end_id)
        name = "the part of the corpus it was not trained on" if held_out is not None else ""
    if text is not None:
        held_out, name = read_ids([text]), os.path.basename(text)
    return Texts(train, held_out, name)


def _named(paths: Sequence[str]) -> str:
    return ", ".join("the demo text" if path == DEMO else path for path in paths)


def _check_corpus(corpus: Sequence[str], ids: np.ndarray, model: LanguageModel, notify: Callable[[str], None]) -> None:
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
        notify(
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


def _how_read(model: LanguageModel, encoding: str | None, documents: str | None) -> _HowRead:
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
    model: LanguageModel, how: _HowRead, paths: Sequence[str], notify: Callable[[str], None] = lambda message: None
) -> np.ndarray:
    """Read the token ids (tokens,) of files, at least 2, mapped from disk. Documents have <end> around each."""
    vocabulary = model.vocabulary
    sources = [demo_source() if path == DEMO else path for path in paths]
    files = texts_in(sources, how.include, vocabulary.level, notify)
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


def _excerpts(ids: np.ndarray, count: int, length: int) -> list[np.ndarray]:
    """Return `count` evenly spaced excerpts of up to `length` tokens, which do not overlap."""
    length = max(1, min(length, len(ids) // count))
    starts = np.linspace(0, len(ids) - length, count).astype(int)
    return [ids[start : start + length] for start in starts.tolist()]


# ------------------------------------------------------------------------------------------- measurements


def _sample(model: LanguageModel, temperature: float, seed: int, n: int) -> Sample:
    texts = model.generate_many(n=n, temperature=temperature, seed=seed, num_samples=TEXTS_EACH)
    return Sample(temperature, texts, None)


def _compared(model: LanguageModel, sample: Sample, train: np.ndarray) -> Sample:
    copied = longest_copy([model.encode(text) for text in sample.texts], train)
    return Sample(sample.temperature, sample.texts, copied)


def _loss(model: LanguageModel, ids: np.ndarray) -> float:
    """Compute nats per token, of EXCERPTS excerpts of a long text, of the whole of a short one."""
    end_id = model.vocabulary.end_id
    if len(ids) > EXCERPTS * EXCERPT_TOKENS:
        excerpts = _excerpts(ids, EXCERPTS, EXCERPT_TOKENS)
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


def _read(model: LanguageModel, texts: Texts, fair: Sample) -> Reading:
    """Read the start of the held-out text, or of the model's own samples, step by step."""
    if texts.held_out is not None:
        ids, name = texts.held_out, texts.held_out_name
    else:
        ids, name = model.encode("\n".join(fair.texts)), "its own samples at temperature 1"
    ids = ids[: min(READ_TOKENS, max(2, READ_LOGITS // len(model.vocabulary)))]
    ids, end_id, network = ids.astype(np.int64), model.vocabulary.end_id, model.network("numpy")
    if end_id is not None and ids[0] != end_id:
        ids = np.concatenate([[end_id], ids])
    found, shown = activations(network, ids, end_id), pieces(model.vocabulary, ids)
    surprise = surprisals(found.logits[:-1], ids[1:]) if texts.held_out is not None else None
    shares = None
    if found.gates is not None:
        shares = [{gate: saturation(getattr(layer, gate)) for gate in SIGMOID_GATES} for layer in found.gates]
    memory = [np.tanh(c) for c in found.c] if found.c[0].size else [h.clip(-1, 1) for h in found.h]
    return Reading(name, ids, shown, surprise, readable_cells(memory, shown), shares)
