"""Report: everything about a model that its page shows, measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nblstm.nn.decoder import check_writes
from nblstm.reporting.activations import SIGMOID_GATES, activations, saturation
from nblstm.reporting.cells import ReadableCell, readable_cells
from nblstm.reporting.copying import Span, longest_copy
from nblstm.reporting.facts import model_facts
from nblstm.reporting.history import EarlyText
from nblstm.reporting.metrics import Metrics
from nblstm.reporting.recipe import command_line
from nblstm.reporting.surprisal import RankedSurprisals, surprisals
from nblstm.reporting.texts import Texts, excerpts_of, mean_loss, read_texts, shown_ids
from nblstm.reporting.tokens import pieces
from nblstm.reporting.verdict import Losses, Verdict, copy_verdict, fit_verdict
from nblstm.tasks.language.model import LanguageModel
from nblstm.tasks.text_model import TextModel

TEMPERATURES = (0.3, 0.5, 0.8, 1.0, 1.2)
FAIR = 1.0  # the temperature at which samples have the model's own distribution: the one to compare with real text
TEXTS_EACH = 4  # samples at each temperature


@dataclass(frozen=True)
class Sample:
    """Texts that the model wrote at a temperature. copied: the longest span that they share with the training text."""

    temperature: float
    texts: list[str]
    copied: Span | None


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
    """All of it. A model that reads both ways has no samples and no cells: it does not read from left to right.

    command: that trains it. modified: when its file was written, seconds since 1970. history: what it wrote while it was
    trained. by_chance: the longest span that as much held-out text shares with the training text.
    """

    name: str
    model: TextModel
    facts: list[tuple[str, str]]
    command: str | None
    modified: float
    metrics: Metrics | None
    history: Sequence[EarlyText]
    seed: int
    samples: list[Sample]
    by_chance: Span | None
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
    history: Sequence[EarlyText] = (), on_message: Callable[[str], None] = lambda message: None,
) -> ModelReport:  # fmt: skip
    """Measure the model in the file at `path`.

    corpus: the files it was trained on. If they hold more tokens than it was trained on, the rest is held-out text.
    text: a file it has not seen. documents: what a document is in them (see `nblstm.text.documents`), if the model was
    trained on documents; like their encoding it is that of training unless it is given. n: tokens of a sample; TEXTS_EACH are
    drawn at each temperature. history: what it wrote while it was trained.
    on_message is called with a sentence before each long step. TextError if a text cannot be read or is too short,
    ConfigError for a bidirectional model, which cannot write samples.
    """
    check_writes(model.config)
    texts = read_texts(model, corpus, text, encoding, documents, on_message)
    on_message(f"writing samples at {len(TEMPERATURES)} temperatures")
    samples = [_sample(model, temperature, seed, n) for temperature in TEMPERATURES]
    by_chance = None
    if texts.train is not None:
        on_message(f"looking for copied spans in {len(texts.train):,} tokens")
        samples = [_compared(model, sample, texts.train) for sample in samples]
        by_chance = (
            None if texts.held_out is None else longest_copy(excerpts_of(texts.held_out, TEXTS_EACH, n), texts.train)
        )
    on_message("measuring losses" if corpus or text else "reading its own samples")
    losses = Losses(*(None if ids is None else mean_loss(model, ids) for ids in (texts.train, texts.held_out)))
    fair = next(sample for sample in samples if sample.temperature == FAIR)
    copied, usual = (None if span is None else len(span) for span in (fair.copied, by_chance))
    verdicts = [fit_verdict(losses, metrics), copy_verdict(copied, usual, unit_of(model))]
    return ModelReport(
        os.path.basename(path), model, model_facts(path, model), command_line(model), os.stat(path).st_mtime, metrics,
        history, seed, samples, by_chance, _read(model, texts, fair), verdicts,
    )  # fmt: skip


def unit_of(model: TextModel) -> str:
    """Name the model's unit: "character", "byte", "word" or "sub-word"."""
    return {"char": "character", "word": "word", "byte": "byte", "subword": "sub-word"}[model.vocabulary.level]


# ------------------------------------------------------------------------------------------- measurements


def _sample(model: LanguageModel, temperature: float, seed: int, n: int) -> Sample:
    texts = model.generate_many(n=n, temperature=temperature, seed=seed, num_samples=TEXTS_EACH)
    return Sample(temperature, texts, None)


def _compared(model: LanguageModel, sample: Sample, train: np.ndarray) -> Sample:
    copied = longest_copy([model.encode(text) for text in sample.texts], train)
    return Sample(sample.temperature, sample.texts, copied)


def _read(model: LanguageModel, texts: Texts, fair: Sample) -> Reading:
    """Read the start of the held-out text, or of the model's own samples, step by step."""
    if texts.held_out is not None:
        ids, name = texts.held_out, texts.held_out_name
    else:
        ids, name = model.encode("\n".join(fair.texts)), "its own samples at temperature 1"
    ids, network = shown_ids(model, ids), model.network("numpy")
    found, shown = activations(network, ids, model.vocabulary.end_id), pieces(model.vocabulary, ids)
    surprise = surprisals(found.logits[:-1], ids[1:]) if texts.held_out is not None else None
    shares = None
    if found.gates is not None:
        shares = [{gate: saturation(getattr(layer, gate)) for gate in SIGMOID_GATES} for layer in found.gates]
    memory = [np.tanh(c) for c in found.c] if found.c[0].size else [h.clip(-1, 1) for h in found.h]
    return Reading(name, ids, shown, surprise, readable_cells(memory, shown), shares)
