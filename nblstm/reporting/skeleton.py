"""The skeleton of every report: one HTML page of sections that needs nothing else, and what its text must pass.

Everything that comes from a model or a text is escaped. The page forbids itself, by its content security policy, to
load anything and to run any script but the one it came with.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from html import escape

from nblstm.reporting.curves import loss_chart, panels
from nblstm.reporting.metrics import Metrics
from nblstm.reporting.parts import content_policy
from nblstm.reporting.script import SCRIPT
from nblstm.reporting.style import page_style
from nblstm.reporting.tokens import printable
from nblstm.reporting.verdict import Verdict
from nblstm.version import __version__

WIDE, NARROW = (760, 400), (340, 320)  # sizes of the loss chart, pixels


def page_of(title: str, summary: str, sections: Sequence[tuple[str, str, str]], modified: float | None = None) -> str:
    """Write a page. title: text. summary, and of the sections (id, title, content): HTML.

    modified: when the model's file was written, seconds since 1970.
    """
    name, style = html_text(title), page_style()
    links = "".join(f'<li><a href="#{id}">{head}</a></li>' for id, head, _ in sections)
    body = "".join(f'<section id="{id}"><h2>{head}</h2>{content}</section>\n' for id, head, content in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{content_policy(style, SCRIPT)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: report</title>
<style>{style}</style>
</head>
<body>
<header><h1>{name}</h1><p>{summary}</p><nav aria-label="Sections"><ul>{links}</ul></nav></header>
<main>
{body}</main>
<footer>Made by nblstm report {__version__}{_of_day(modified)}. The same model, texts and seed give the same page.</footer>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _of_day(modified: float | None) -> str:
    if modified is None:
        return ""
    return f" of a model file of {datetime.fromtimestamp(modified, timezone.utc):%Y-%m-%d}"


def html_text(text: str) -> str:
    """Escape text for HTML."""
    return escape(printable(text))


def verdict_cards(verdicts: Sequence[Verdict]) -> str:
    """Write verdicts side by side."""
    return "".join(['<div class="grid">', *map(_verdict, verdicts), "</div>"])


def _verdict(verdict: Verdict) -> str:
    rows = [(html_text(name), f'<td class="number">{html_text(value)}</td>') for name, value in verdict.figures]
    table = "<table>" + "".join(f"<tr><th scope=row>{name}</th>{value}</tr>" for name, value in rows) + "</table>"
    return (
        f'<div class="card {verdict.tone}"><h3 class="soft">{html_text(verdict.question)}</h3>'
        f'<p class="word">{html_text(verdict.word)}</p>{table if rows else ""}<p>{html_text(verdict.why)}</p>'
        f"<p><strong>Next:</strong> {html_text(verdict.advice)}</p></div>"
    )


def facts_list(facts: Sequence[tuple[str, str]]) -> str:
    """Write names and values."""
    return "<dl>" + "".join(f"<dt>{html_text(name)}</dt><dd>{html_text(value)}</dd>" for name, value in facts) + "</dl>"


def learning_curves(metrics: Metrics | None, unit: str = "token") -> str:
    """Draw the curves of a run, wide and narrow. unit: what the loss is the mean over."""
    if metrics is None:
        return "<p>There is no .metrics.csv beside the model, so there are no curves to show.</p>"
    charts = [loss_chart([metrics], width=width, height=height, unit=unit) for width, height in (WIDE, NARROW)]
    shown = "".join(chart.replace('"chart"', f'"chart {kind}"', 1) for chart, kind in zip(charts, ("wide", "narrow")))
    others = "".join(panels(metrics))
    return (
        f"<figure>{shown}<figcaption>The training loss is a moving average, measured with dropout on; the validation "
        "loss is measured with dropout off, so it can lie below. Losses far above most others, as those of the first updates "
        f'are, are cut off. Point at a curve to read it.</figcaption></figure><figure class="flow">{others}</figure>'
    )
