"""The report on a classifier as one HTML page (`nblstm.reporting.skeleton`)."""

from __future__ import annotations

from nblstm.reporting import theme
from nblstm.reporting.charts import reliability_chart
from nblstm.reporting.classifier_report import EXAMPLES, FEWEST, ClassifierReport, Decision
from nblstm.reporting.panels import confusion_table
from nblstm.reporting.skeleton import facts_list, html_text, learning_curves, page_of, verdict_cards
from nblstm.tasks.classification.measures import Evaluation

NEEDS_TEXT = "<p>This needs labelled texts that the model has not seen: name a file of them (text).</p>"
TOKENS_OF_A_DECISION = 120  # tokens of a decision that are shown
RELIABILITY = 340


def classifier_page(report: ClassifierReport) -> str:
    """Render the whole page."""
    measured = report.evaluation
    sections = [
        ("verdict", "Verdict", verdict_cards(report.verdicts) if measured else NEEDS_TEXT),
        ("model", "Model", facts_list(report.facts)),
        ("learning", "Learning", learning_curves(report.metrics, "text")),
        ("confusion", "Confusion", _confusion(measured, report.text) if measured else NEEDS_TEXT),
        ("calibration", "Calibration", _calibration(measured) if measured else NEEDS_TEXT),
        ("words", "Words", _words(report) if measured else NEEDS_TEXT),
        ("decisions", "Decisions", _decisions(report) if measured else NEEDS_TEXT),
    ]
    config = report.model.config
    summary = f"{html_text(config.description)}: {config.num_parameters:,} parameters."
    if measured:
        summary += f" It is right in {measured.accuracy:.1%} of {int(measured.confusion.sum()):,} texts."
    return page_of(report.name, summary, sections)


def _confusion(evaluation: Evaluation, text: str) -> str:
    """Render the matrix, and the figures of each label."""
    figures = {"precision": evaluation.precision, "recall": evaluation.recall, "F1": evaluation.f1}
    return (
        f"<p>The texts of {html_text(text)}: a row for each label that they have, a column for each that they were given. "
        f"Macro F1 {evaluation.macro_f1:.4f}.</p>"
        f"{confusion_table('label', list(map(str, evaluation.labels)), evaluation.confusion, figures)}"
    )


def _calibration(evaluation: Evaluation) -> str:
    """Render how often decisions of a probability are right."""
    return (
        "<p>Decisions in tenths of their probability: where a dot lies on the diagonal, the model is right as often as it "
        "says; below it, it is too sure. The larger a dot, the more texts. The calibration error, "
        f"{evaluation.calibration_error:.4f}, is the mean distance from the diagonal.</p><figure>"
        f"{reliability_chart(evaluation.bins, 'Calibration', RELIABILITY)}<figcaption>After Guo et al., On Calibration of "
        "Modern Neural Networks (2017).</figcaption></figure>"
    )


def _words(report: ClassifierReport) -> str:
    """Render the words that speak for each label."""
    tables = []
    for label, words in report.words:
        rows = "".join(
            f'<tr><td><span class="label">{html_text(word.strip() or repr(word))}</span></td><td class="number">{score:.3f}</td>'
            f'<td class="number">{times:,}</td></tr>'
            for word, score, times in words
        )
        heads = "<tr><th scope=col>word</th><th scope=col>contribution</th><th scope=col>texts</th></tr>"
        table = f"<table>{heads}{rows}</table>" if words else "<p>None occurs often enough.</p>"
        tables.append(f"<article class=card><h3>{html_text(label)}</h3>{table}</article>")
    return (
        "<p>Which words moved decisions for each label most, on average over the texts that were given it: the gradient of "
        f"the decision's margin, times the word's vector. Words that came {FEWEST} times at least.</p>"
        f'<div class="grid">{"".join(tables)}</div>'
    )


def _decisions(report: ClassifierReport) -> str:
    """Render the surest decisions, their words tinted by what they did."""
    wrong, right = ("".join(map(_decision, part)) for part in (report.wrong, report.right))
    return (
        f"<p>The {EXAMPLES} surest decisions that are wrong, then those that are right. A red word spoke for the decision, "
        f"a blue one against it.</p><h3>Wrong</h3>{wrong or '<p>There is none.</p>'}<h3>Right</h3>"
        f"{right or '<p>There is none.</p>'}"
    )


def _decision(one: Decision) -> str:
    """Render one text."""
    words = f"{one.decided} ({one.probability:.0%})" + ("" if one.decided == one.label else f", but it is {one.label}")
    most = max((abs(score) for _, score in one.tokens), default=0.0) or 1.0
    tints = [_tint(score / most) for _, score in one.tokens[:TOKENS_OF_A_DECISION]]
    shown = "".join(
        f'<b class="c{tint}">{html_text(token)}</b>'
        for (token, _), tint in zip(one.tokens[:TOKENS_OF_A_DECISION], tints)
    )
    more = " …" if len(one.tokens) > TOKENS_OF_A_DECISION else ""
    return f'<article class="sample"><p class="soft">{html_text(words)}</p><div class="reading">{shown}{more}</div></article>'


def _tint(share: float) -> int:
    """Return the level of a contribution in [-1, 1], as cells are tinted."""
    return round(share * theme.CELL_LEVELS) + theme.CELL_LEVELS
