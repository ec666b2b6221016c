"""The report on a translator as one HTML page (`nblstm.reporting.skeleton`)."""

from __future__ import annotations

import numpy as np

from nblstm.reporting import theme
from nblstm.reporting.skeleton import facts_list, html_text, learning_curves, page_of, verdict_cards
from nblstm.reporting.translator_report import TranslatedPair, TranslatorReport

NEEDS_PAIRS = "<p>This needs pairs that the model has not seen: name a file of them (text).</p>"
WIDEST_MAP = 40  # tokens of either side in a heat map


def translator_page(report: TranslatorReport) -> str:
    """Render the whole page."""
    measured = report.scores
    sections = [
        ("verdict", "Verdict", verdict_cards(report.verdicts) if measured else NEEDS_PAIRS),
        ("model", "Model", facts_list(report.facts)),
        ("learning", "Learning", learning_curves(report.metrics)),
        ("examples", "Examples", "".join(map(_example, report.examples)) if measured else NEEDS_PAIRS),
    ]
    config = report.model.config
    summary = f"{html_text(config.description)}: {config.num_parameters:,} parameters."
    if measured:
        summary += f" BLEU {measured.bleu:.1f} on {html_text(report.text)}, {measured.pairs:,} pairs."
    return page_of(report.name, summary, sections)


def _example(pair: TranslatedPair) -> str:
    """Render a pair, its translation, and where each token of that came from."""
    rows = (("source", pair.source), ("reference", pair.target), ("translation", pair.translation.text))
    table = "".join(f"<tr><th scope=row>{name}</th><td>{html_text(text)}</td></tr>" for name, text in rows)
    return f'<article class="card"><table>{table}</table>{_heat_map(pair)}</article>'


def _heat_map(pair: TranslatedPair) -> str:
    """Render the attention of a translation: a row for each of its tokens, a column for each of the source's."""
    found = pair.translation
    if found.attention is None:
        return "<p>Without attention nothing tells where a word came from.</p>"
    written, read = (
        [html_text(token.strip() or "␣") for token in side[:WIDEST_MAP]] for side in (found.tokens, found.source_tokens)
    )
    heads = "".join(f"<th scope=col>{token}</th>" for token in read)
    levels = np.rint(found.attention * len(theme.SURPRISE_BITS)).astype(int)
    rows = "".join(
        f"<tr><th scope=row>{token}</th>{''.join(map(_heat_cell, looked[:WIDEST_MAP], tints[:WIDEST_MAP]))}</tr>"
        for token, looked, tints in zip(written, found.attention, levels.tolist())
    )
    return (
        '<figure class="heat"><table><caption>How much each word of the translation (a row) looked at each of the '
        f"source (a column), in percent.</caption><tr><td></td>{heads}</tr>{rows}</table></figure>"
    )


def _heat_cell(share: float, level: int) -> str:
    """Render a share of the attention."""
    percent = round(100 * float(share))
    return f'<td class="number u{level}">{percent or ""}</td>'
