"""The report on a tagger as one HTML page (`nblstm.reporting.skeleton`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nblstm.reporting import theme
from nblstm.reporting.panels import NAME_CHARACTERS, confusion_table
from nblstm.reporting.skeleton import facts_list, html_text, learning_curves, page_of, verdict_cards
from nblstm.reporting.tagger_report import ERRORS, SENTENCES_SHOWN, TaggedExample, TaggerReport
from nblstm.tasks.tagging.measures import SpanMeasures
from nblstm.tasks.tagging.spans import TaggedSpan

NEEDS_WORDS = "<p>This needs tagged words that the model has not seen: name a file of them (text).</p>"
WORDS_SHOWN = 80  # of a sentence


def tagger_page(report: TaggerReport) -> str:
    """Render the whole page."""
    measured = report.evaluation
    sections = [
        ("verdict", "Verdict", verdict_cards(report.verdicts) if measured else NEEDS_WORDS),
        ("model", "Model", facts_list(report.facts)),
        ("learning", "Learning", learning_curves(report.metrics, "word")),
        ("types", "Types" if report.model.config.types else "Tags", _kinds(report) if measured else NEEDS_WORDS),
        ("confusion", "Confusion", _confusion(report) if measured else NEEDS_WORDS),
        ("sentences", "Sentences", _sentences(report) if measured else NEEDS_WORDS),
    ]
    config = report.model.config
    summary = f"{html_text(config.description)}: {config.num_parameters:,} parameters."
    if measured:
        best = (
            f"finds spans with an F1 of {measured.f1:.4f}"
            if measured.by_type
            else f"is right in {measured.accuracy:.1%}"
        )
        summary += f" It {best} in {measured.words:,} words of {html_text(report.text)}."
    return page_of(report.name, summary, sections)


def _kinds(report: TaggerReport) -> str:
    """Render precision, recall and F1 of each type, and what becomes of spans."""
    assert report.evaluation is not None
    rows = [(name, measures) for name, measures in zip(report.kinds, report.by_kind)]
    rows += [("all", report.evaluation.spans)] if report.evaluation.by_type else []
    heads = "".join(
        f"<th scope=col>{name}</th>" for name in ("", "precision", "recall", "F1", "there", "found", "right")
    )
    table = f"<table><tr>{heads}</tr>{''.join(_row(*row) for row in rows)}</table>"
    if not report.errors:
        return f"<p>Of each tag, the words that have it and those that were given it.</p>{table}"
    counts = "".join(
        f'<tr><th scope=row>{name}</th><td class="number">{count:,}</td></tr>'
        for name, count in zip(ERRORS, report.errors)
    )
    return (
        "<p>A span is right if its type, its first and its last word are, as conlleval counts it.</p>"
        f"{table}<h3>What becomes of spans</h3><p>Of those that are there: right, found as another type, found with other "
        f"borders, or missed; and those made up where there is none.</p><table>{counts}</table>"
    )


def _row(name: str, m: SpanMeasures) -> str:
    """Render the measures of a type."""
    shares = "".join(f'<td class="number">{share:.4f}</td>' for share in (m.precision, m.recall, m.f1))
    counts = "".join(f'<td class="number">{count:,}</td>' for count in (m.there, m.found, m.right))
    return f"<tr><th scope=row>{html_text(name[:NAME_CHARACTERS])}</th>{shares}{counts}</tr>"


def _confusion(report: TaggerReport) -> str:
    """Render which kinds of words are taken for which."""
    what = "inside of spans of each type, O outside" if report.errors else "of each tag"
    return (
        f"<p>The words of {html_text(report.text)}, {what}: a row for what they are, a column for what they were taken "
        f"for.</p>{confusion_table('is', report.names, report.confusion, {})}"
    )


def _sentences(report: TaggerReport) -> str:
    """Render sentences, what was found in them in colour, and where it is wrong what is there."""
    colors = {kind: k % len(theme.LIGHT.runs) for k, kind in enumerate(report.kinds)}
    wrong, right = ("".join(_example(one, colors) for one in part) for part in (report.wrong, report.right))
    none = "<p>There is none.</p>"
    return (
        f"<p>The {SENTENCES_SHOWN} sentences with the most errors, then those with the most that is right.</p><h3>Wrong</h3>"
        f"{wrong or none}<h3>Right</h3>{right or none}"
    )


def _example(one: TaggedExample, colors: Mapping[str, int]) -> str:
    """Render a sentence."""
    rows = [("found", one.found)] if one.found == one.expected else [("is", one.expected), ("found", one.found)]
    shown = "".join(
        f'<tr><th scope=row>{name}</th><td class="reading">{_marked(one.words, spans, colors)}</td></tr>'
        for name, spans in rows
    )
    return f'<article class="tagged"><table>{shown}</table></article>'


def _marked(words: Sequence[str], spans: Sequence[TaggedSpan], colors: Mapping[str, int]) -> str:
    """Render words, those of each span in the colour of its type, with its name."""
    parts, place = [], 0
    for span in [span for span in spans if span.start < WORDS_SHOWN]:
        parts += [html_text(word) for word in words[place : span.start]]
        inside, name = html_text(" ".join(words[span.start : span.stop])), html_text(span.type[:NAME_CHARACTERS])
        parts.append(f'<b class="mark t{colors.get(span.type, 0)}">{inside}<small>{name}</small></b>')
        place = span.stop
    parts += [html_text(word) for word in words[place : max(place, WORDS_SHOWN)]]
    return " ".join(parts) + (" …" if len(words) > max(place, WORDS_SHOWN) else "")
