"""TaggerReport: what the page about a tagger shows, measured on tagged words."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nblstm.errors import ConfigError
from nblstm.reporting.facts import model_facts
from nblstm.reporting.metrics import Metrics
from nblstm.reporting.verdict import Verdict
from nblstm.tasks.tagging.batches import looked_up
from nblstm.tasks.tagging.measures import SpanMeasures, TagEvaluation
from nblstm.tasks.tagging.model import Tagger
from nblstm.tasks.tagging.reading import tagged_in
from nblstm.tasks.tagging.run import check_tags_of_lines, checked_part
from nblstm.tasks.tagging.settings import TaggedTextConfig
from nblstm.tasks.tagging.spans import OUTSIDE, TaggedSpan, mark_of, rewritten, scheme_of, spans_of

SENTENCES_SHOWN = 8  # sentences that are shown, of the wrong and of the right ones
MOST_KINDS = 24  # types, or tags, of the confusion matrix; the others are one
OTHER_KINDS = "(others)"
GOOD_F1, FAIR_F1 = 0.85, 0.60
ERRORS = ("right", "another type", "other borders", "missed", "made up")  # what becomes of spans


@dataclass(frozen=True)
class TaggedExample:
    """A sentence, its true spans and those that were found; where tags mark no spans, each word is one."""

    words: Sequence[str]
    expected: list[TaggedSpan]
    found: list[TaggedSpan]


@dataclass(frozen=True)
class TaggerReport:
    """All of it. evaluation is None, and the rest is empty, where there were no tagged words.

    kinds: the types of spans, or the tags; the first has a colour of its own, and so on. names, confusion (true, found):
    words of each kind, and outside of all. by_kind: of each of `kinds`. errors: how many spans each of ERRORS is.
    """

    name: str
    model: Tagger
    facts: list[tuple[str, str]]
    metrics: Metrics | None
    text: str = ""
    evaluation: TagEvaluation | None = None
    kinds: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    confusion: Any = None
    by_kind: tuple[SpanMeasures, ...] = ()
    errors: tuple[int, ...] = ()
    wrong: tuple[TaggedExample, ...] = ()
    right: tuple[TaggedExample, ...] = ()
    verdicts: tuple[Verdict, ...] = ()


def make_tagger_report(
    path: str | os.PathLike[str], model: Tagger, *, text: str | None = None, token_column: int | None = None,
    tag_column: int | None = None, encoding: str | None = None, metrics: Metrics | None = None,
    on_message: Callable[[str], None] = lambda message: None,
) -> TaggerReport:  # fmt: skip
    """Measure the tagger in the file at `path` on tagged words that it has not seen, if some are given.

    token_column, tag_column, encoding: of the text; None: those of training. on_message is called with a sentence before each
    long step. TextError names file and line of what is wrong.
    """
    described = TaggerReport(os.path.basename(path), model, model_facts(path, model), metrics)
    if text is None:
        return described
    asked = {"token_column": token_column, "tag_column": tag_column, "encoding": encoding}
    lines = tagged_in([text], _reading(model, asked))
    part = checked_part(lines, [text])
    check_tags_of_lines(lines, model.config)
    on_message(f"tagging {len(part.sentences):,} sentences")
    scheme, answers = scheme_of(part.tags), model.predict(part.sentences)
    found = [rewritten(tags, scheme) for tags in answers]
    return replace(described, text=os.path.basename(text), **_measured(model, part.sentences, part.tags, found))


def _reading(model: Tagger, asked: dict[str, Any]) -> TaggedTextConfig:
    """Return how files are read: as asked, else as in training where the model's file says so, else as by default."""
    stored = model.training.get("text")
    try:
        known = TaggedTextConfig.from_dict(stored) if isinstance(stored, dict) else TaggedTextConfig()
    except ConfigError:  # a file may hold anything there
        known = TaggedTextConfig()
    return replace(known, **{name: value for name, value in asked.items() if value is not None})


def _measured(
    model: Tagger, sentences: Sequence[Sequence[str]], expected: Sequence[Sequence[str]], found: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Return the fields of a TaggerReport that are measured. expected, found: tags in one scheme."""
    evaluation = TagEvaluation.of(expected, found, model.config.types)
    marks = model.config.scheme != "none"
    kinds = evaluation.by_type or _measures_of_tags(expected, found)
    pieces = _spans if marks else _words
    examples = [TaggedExample(*of) for of in zip(sentences, map(pieces, expected), map(pieces, found))]
    wrong = sorted((one for one in examples if one.expected != one.found), key=_by_errors)
    right = sorted((one for one in examples if one.expected == one.found), key=lambda one: -len(one.expected))
    names, confusion = _confusion(expected, found, (_type if marks else str), tuple(kinds))
    return {
        "evaluation": evaluation,
        "kinds": tuple(kinds),
        "by_kind": tuple(kinds.values()),
        "names": names,
        "confusion": confusion,
        "errors": _errors(examples) if marks else (),
        "wrong": tuple(wrong[:SENTENCES_SHOWN]),
        "right": tuple(right[:SENTENCES_SHOWN]),
        "verdicts": tuple(_verdicts(model, evaluation, examples, confusion)),
    }


def _type(tag: str) -> str:
    """Return the type of the span that a tag is in; OUTSIDE where it is in none."""
    return mark_of(tag)[1] or OUTSIDE


def _spans(tags: Sequence[str]) -> list[TaggedSpan]:
    return spans_of(tags)


def _words(tags: Sequence[str]) -> list[TaggedSpan]:
    """Return each word as a span of its tag."""
    return [TaggedSpan(tag, place, place + 1) for place, tag in enumerate(tags)]


def _by_errors(one: TaggedExample) -> int:
    """Sort sentences by how many spans are wrong, the most first."""
    return -len(set(one.expected) ^ set(one.found))


def _measures_of_tags(expected: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> dict[str, SpanMeasures]:
    """Return the measures of each tag that there is or that was found, of words in place of spans."""
    there, mine = (Counter(tag for tags in part for tag in tags) for part in (expected, found))
    right = Counter(tag for pair in zip(expected, found) for tag, other in zip(*pair) if tag == other)
    return {tag: SpanMeasures(right[tag], mine[tag], there[tag]) for tag in sorted(there | mine)}


def _confusion(
    expected: Sequence[Sequence[str]],
    found: Sequence[Sequence[str]],
    kind_of: Callable[[str], str],
    kinds: tuple[str, ...],
) -> tuple[tuple[str, ...], np.ndarray]:
    """Count words by their true kind and the one that was found: (names, counts (names, names))."""
    pairs = Counter((kind_of(tag), kind_of(other)) for both in zip(expected, found) for tag, other in zip(*both))
    there = Counter(tag for tag, _ in pairs.elements())
    kept = [kind for kind in sorted(kinds, key=lambda kind: -there[kind]) if kind != OUTSIDE][:MOST_KINDS]
    names = [*sorted(kept), *([OTHER_KINDS] if len(kept) < len(set(kinds) - {OUTSIDE}) else [])]
    names += [OUTSIDE] if any(OUTSIDE in pair for pair in pairs) else []
    place = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), np.int64)
    for (tag, other), times in pairs.items():
        counts[place.get(tag, place.get(OTHER_KINDS, -1)), place.get(other, place.get(OTHER_KINDS, -1))] += times
    return tuple(names), counts


def _errors(examples: Sequence[TaggedExample]) -> tuple[int, ...]:
    """Count what becomes of spans, as ERRORS names it: true ones, and at last those that are none."""
    counts = dict.fromkeys(ERRORS, 0)
    for one in examples:
        found = set(one.found)
        places = {(span.start, span.stop) for span in found}
        for span in one.expected:
            counts[
                "right" if span in found
                else "another type" if (span.start, span.stop) in places
                else "other borders" if any(_overlap(span, other) for other in found)
                else "missed"
            ] += 1  # fmt: skip
        counts["made up"] += sum(not any(_overlap(span, other) for other in one.expected) for span in found)
    return tuple(counts.values())


def _overlap(one: TaggedSpan, other: TaggedSpan) -> bool:
    """Tell whether spans have a word in common."""
    return one.start < other.stop and other.start < one.stop


def _verdicts(
    model: Tagger, evaluation: TagEvaluation, examples: Sequence[TaggedExample], confusion: np.ndarray
) -> list[Verdict]:
    """Judge how much is found, and how much of it where a word was never seen."""
    if model.config.scheme == "none":
        return [_accuracy(evaluation, confusion)]
    spans = evaluation.spans
    tone = "good" if spans.f1 >= GOOD_F1 else "fair" if spans.f1 >= FAIR_F1 else "poor"
    why = f"A span is right if its type, its first and its last word are. Above {GOOD_F1:g} is good, below {FAIR_F1:g} poor."
    missed = spans.recall < spans.precision
    advice = "It misses more than it makes up" if missed else "It makes up more than it misses"
    advice += ": look at the sentences below. More sentences help most, then word vectors (vectors)."
    figures = [
        ("precision", f"{spans.precision:.1%}"),
        ("recall", f"{spans.recall:.1%}"),
        ("F1", f"{spans.f1:.4f}"),
        ("accuracy of words", f"{evaluation.accuracy:.1%}"),
        ("spans", f"{spans.there:,}"),
    ]
    return [Verdict("Spans", f"F1 {spans.f1:.2f}", tone, why, advice, figures), _newness(model, examples)]


def _accuracy(evaluation: TagEvaluation, confusion: np.ndarray) -> Verdict:
    """Judge tags that mark no spans, beside who always says the most frequent one."""
    usual = float(confusion.sum(axis=1).max() / confusion.sum())
    error, guess = 1 - evaluation.accuracy, 1 - usual
    tone = "poor" if error >= guess else "good" if error < guess / 4 else "fair"
    word = "no better than a guess" if tone == "poor" else f"in {evaluation.accuracy:.0%}"
    figures = [
        ("accuracy", f"{evaluation.accuracy:.1%}"),
        ("always the most frequent tag", f"{usual:.1%}"),
        ("words", f"{evaluation.words:,}"),
    ]
    why = "It is compared with who always says the most frequent tag."
    return Verdict("Right", word, tone, why, "Look at the sentences that are wrong below.", figures)


def _newness(model: Tagger, examples: Sequence[TaggedExample]) -> Verdict:
    """Judge how much is found of spans with a word that has no vector, beside the others."""
    words, counts = set(model.vocabulary.tokens), {True: [0, 0], False: [0, 0]}
    for one in examples:
        found = set(one.found)
        for span in one.expected:
            new = any(looked_up(word, model.config) not in words for word in one.words[span.start : span.stop])
            counts[new][0] += span in found
            counts[new][1] += 1
    of_known, of_new = (counts[which][0] / max(1, counts[which][1]) for which in (False, True))
    figures = [
        (f"recall of {counts[which][1]:,} spans {name}", f"{share:.1%}")
        for which, name, share in ((False, "of known words", of_known), (True, "with a new word", of_new))
    ]
    why = "A new word has no vector of its own: it is known by its characters and by what stands around it."
    if not counts[True][1]:
        return Verdict("New words", "none", "unknown", why, "Measure on text with names that it has not seen.", figures)
    tone = "good" if of_new >= 0.9 * of_known else "fair" if of_new >= 0.6 * of_known else "poor"
    word = {"good": "hardly harder", "fair": "harder", "poor": "much harder"}[tone]
    advice = (
        "Nothing to do."
        if tone == "good"
        else "Read characters (char_hidden_size), or start from word vectors (vectors)."
    )
    return Verdict("New words", word, tone, why, advice, figures)
