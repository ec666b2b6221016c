"""TranslatorReport: what the page about a translator shows, measured on pairs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nblstm.errors import ConfigError
from nblstm.reporting.facts import model_facts
from nblstm.reporting.metrics import Metrics
from nblstm.reporting.verdict import Verdict
from nblstm.tasks.translation.measures import TranslationScores
from nblstm.tasks.translation.model import Translator
from nblstm.tasks.translation.reading import read_pairs, read_parallel
from nblstm.tasks.translation.writing import Translation

PAIRS_SHOWN = 8  # pairs that are shown, at even steps through the file
GOOD_BLEU, FAIR_BLEU = 30.0, 15.0


@dataclass(frozen=True)
class TranslatedPair:
    """A pair, and the best translation of its source."""

    source: str
    target: str
    translation: Translation


@dataclass(frozen=True)
class TranslatorReport:
    """All of it. scores is None, and there are no examples, where no pairs were given."""

    name: str
    model: Translator
    facts: list[tuple[str, str]]
    metrics: Metrics | None
    text: str
    scores: TranslationScores | None
    examples: list[TranslatedPair]
    verdicts: list[Verdict]


def make_translator_report(
    path: str | os.PathLike[str], model: Translator, *, text: str | None = None, target: str | None = None,
    encoding: str = "utf-8", metrics: Metrics | None = None, on_message: Callable[[str], None] = lambda message: None,
) -> TranslatorReport:  # fmt: skip
    """Measure the translator in the file at `path` on pairs that it has not seen, if some are given.

    text: a file of pairs, or of sources, and then target: of their targets. on_message is called with a sentence before each
    long step. TextError names file and line of what is no pair.
    """
    shown = os.path.basename(path), model, model_facts(path, model), metrics
    if text is None:
        if target is not None:
            raise ConfigError("target needs text, the sources that it belongs to; give both.")
        return TranslatorReport(*shown, "", None, [], [])
    sources, targets = read_pairs(text, encoding) if target is None else read_parallel(text, target, encoding)
    on_message(f"translating {len(sources):,} sources")
    scores = model.evaluate(sources, targets)
    places = np.unique(np.linspace(0, len(sources) - 1, PAIRS_SHOWN).round().astype(int)).tolist()
    found = model.translations([sources[place] for place in places])
    examples = [TranslatedPair(sources[place], targets[place], best[0]) for place, best in zip(places, found)]
    return TranslatorReport(*shown, os.path.basename(text), scores, examples, [_verdict_of(scores)])


def _verdict_of(scores: TranslationScores) -> Verdict:
    """Judge BLEU."""
    bleu = scores.bleu
    tone = "good" if bleu >= GOOD_BLEU else "fair" if bleu >= FAIR_BLEU else "poor"
    word = {"good": "understandable to good", "fair": "the gist is clear", "poor": "hard to get the gist"}[tone]
    why = (
        "BLEU says how many words, and sequences of up to four, the translations share with their references; it compares "
        "models on the same pairs, not languages."
    )
    advice = {
        "good": "Read the examples below; a larger beam and another length_penalty may add a little.",
        "fair": "Train longer, on more pairs, or with more dropout if the validation loss has risen.",
        "poor": "Train longer, on more pairs; try attention, if there is none.",
    }[tone]
    figures = [
        ("BLEU", f"{bleu:.1f}"),
        ("perplexity", f"{scores.perplexity:.2f}"),
        ("exact match", f"{scores.exact_match:.1%}"),
        ("pairs", f"{scores.pairs:,}"),
    ]
    return Verdict("Translations", word, tone, why, advice, figures)
