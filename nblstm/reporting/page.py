"""The report on a language model as one HTML page (`nblstm.reporting.skeleton`)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from nblstm.reporting import theme
from nblstm.reporting.activations import CLOSED_BELOW, OPEN_ABOVE, SIGMOID_GATES
from nblstm.reporting.cells import ReadableCell
from nblstm.reporting.charts import share_scatter
from nblstm.reporting.copying import Span
from nblstm.reporting.history import EarlyText
from nblstm.reporting.parts import surprise_key
from nblstm.reporting.report import FAIR, TEXTS_EACH, ModelReport, Sample
from nblstm.reporting.skeleton import facts_list, html_text, learning_curves, page_of, verdict_cards
from nblstm.reporting.tokens import label, pieces

SHOWN_CHARACTERS = 1600  # of the text that was read
SCATTER = 320
MOST_EARLY, EARLY_CHARACTERS = 10, 400  # texts written while training that are shown, and how much of each
GATE_NAMES = {"i": "input gate", "f": "forget gate", "o": "output gate"}


def render(report: ModelReport) -> str:
    """Render the whole page."""
    sections = [
        ("verdict", "Verdict", verdict_cards(report.verdicts)),
        ("model", "Model", facts_list(report.facts) + _command(report.command)),
        ("learning", "Learning", learning_curves(report.metrics) + _early_texts(report.history)),
        ("surprise", "Surprise", _surprise(report)),
    ]
    if report.samples:
        sections[3:3] = [("samples", "Samples", _samples(report)), ("copying", "Copying", _copying(report))]
        sections += [("cells", "Cells", _cells(report)), ("gates", "Gates", _gates(report))]
    return page_of(report.name, _summary(report), sections, report.modified)


def _data(id: str, value: object) -> str:
    """Return JSON for the script, in which no tag can begin or end."""
    text = json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{id}">{text}</script>'


def _summary(report: ModelReport) -> str:
    config = report.model.config
    words = [f"{verdict.question.lower()}: {verdict.word}" for verdict in report.verdicts]
    return (
        f"{html_text(config.description)}: {config.num_parameters:,} parameters that read {report.unit}s. "
        f"{html_text('; '.join(words)).capitalize()}."
    )


# ------------------------------------------------------------------------------------------- its making


def _command(command: str | None) -> str:
    if command is None:
        return ""
    return f'<p class="command">A model like it comes from</p><pre class="mono">{html_text(command)}</pre>'


def _early_texts(history: Sequence[EarlyText]) -> str:
    """Show what the model wrote while it was trained, MOST_EARLY of the texts, evenly spaced, the last among them."""
    if not history:
        return ""
    count = len(history)
    kept = sorted({round(k * (count - 1) / (MOST_EARLY - 1)) for k in range(MOST_EARLY)})
    rows = "".join(_early(history[k]) for k in kept)
    return (
        "<h3>What it wrote while it was trained</h3><table><tr><th scope=col>after epoch</th><th scope=col>loss</th>"
        f"<th scope=col>text</th></tr>{rows}</table>"
    )


def _early(found: EarlyText) -> str:
    loss = "" if found.loss is None else f"{found.loss:.4f}"
    return (
        f'<tr><td class="number">{found.epoch:.2f}</td><td class="number">{loss}</td>'
        f'<td><pre class="early">{_written(found.text[:EARLY_CHARACTERS])}</pre></td></tr>'
    )


def _written(text: str) -> str:
    """Show a text that the model wrote; of one that shows nothing, that it does."""
    if not text:
        return '<span class="soft">(nothing: it ended at once)</span>'
    if not text.strip():
        return f'<span class="soft">(only white space: {len(text):,} characters)</span>'
    return html_text(text.strip("\n"))


# ------------------------------------------------------------------------------------------- samples


def _samples(report: ModelReport) -> str:
    start = "after a line end" if report.model.vocabulary.end_id is None else "from a document's start on"
    intro = (
        f"<p>What it writes {start}, at seed {report.seed}. A low temperature keeps to what is likely, a high "
        "one dares more.</p>"
    )
    return f'{intro}<div class="flow">{"".join(map(_sample, report.samples))}</div>'


def _sample(sample: Sample) -> str:
    return (
        f'<article class="sample"><h3>temperature {sample.temperature:g}</h3>'
        f"<pre>{_written(sample.texts[0])}</pre></article>"
    )


def _copying(report: ModelReport) -> str:
    if report.samples[0].copied is None:
        return "<p>This needs the training text: name it (corpus).</p>"
    rows = [(f"samples at temperature {sample.temperature:g}", sample.copied) for sample in report.samples]
    if report.by_chance is not None:
        rows.append(("<strong>held-out text</strong>", report.by_chance))
    table = "".join(_span_row(report, name, span) for name, span in rows)
    rule = f"Samples at temperature {FAIR:g} compare with held-out text: they are drawn from the model as it is."
    if report.by_chance is None:
        rule += " There is no held-out text to say what is usual; name one (text)."
    how = (
        f"For each row, {TEXTS_EACH} texts of equal length are searched for their longest span of {report.unit}s that also "
        "stands in the training text. Rolling hashes of all windows of one length find candidates in one pass over "
        "the corpus, equal hashes are compared token by token, and a window that is found grows by doubling and "
        "halving."
    )
    return (
        f"<p>The longest span that texts share with the training text, word for word. {rule}</p>"
        f"<table><tr><th scope=col>in</th><th scope=col>{report.unit}s</th><th scope=col>the span</th></tr>{table}</table>"
        f"<details><summary>How this is computed</summary><p>{how}</p></details>"
    )


def _span_row(report: ModelReport, name: str, span: Span | None) -> str:
    tokens = np.empty(0, np.int64) if span is None else span.tokens
    text = "".join(pieces(report.model.vocabulary, tokens))
    text = text if len(text) <= 400 else text[:400] + " …"
    shown = html_text(text).replace("\n", "↵ ")
    return f'<tr><td>{name}</td><td class="number">{len(tokens):,}</td><td><span class="label">{shown}</span></td></tr>'


# ------------------------------------------------------------------------------------------- the text that was read


def _shown(report: ModelReport) -> int:
    """Count the tokens of the text that are shown: those of its first SHOWN_CHARACTERS, and at least two."""
    ends = np.cumsum([len(piece) for piece in report.reading.pieces])
    return max(2, int(np.searchsorted(ends, SHOWN_CHARACTERS, side="right")))


def _tokens(shown: Sequence[str], kind: str, levels: Sequence[int]) -> str:
    """Render tokens, each tinted by its level of a kind; line ends are made visible."""
    return "".join(f'<b class="{kind}{level}">{_visible(piece)}</b>' for piece, level in zip(shown, levels))


def _visible(piece: str) -> str:
    return html_text(piece).replace("\n", "↵\n")


def _surprise(report: ModelReport) -> str:
    reading, unit = report.reading, report.unit
    if reading.surprisals is None:
        return "<p>This needs a text the model has not seen: name one (text).</p>"
    count = _shown(report)
    levels = np.searchsorted(theme.SURPRISE_BITS, reading.surprisals.bits[: count - 1], side="right")
    tokens = _tokens(reading.pieces[1:count], "u", levels.tolist())
    return (
        f"<p>The start of {html_text(reading.name)}, tinted by how little the model expected each {unit} {_seeing(report)}: "
        f"{reading.surprisals.bits.mean():.2f} bits on average. Point at a {unit}, tap it, or walk with the "
        f'arrow keys to see what was expected in its place.</p>{surprise_key()}<div class="beside"><div class="reading" '
        f'role="group" aria-label="Text" data-surprise="surprise-data" data-panel="surprise-panel">'
        f'{_visible(reading.pieces[0])}{tokens}</div><aside class="panel" id="surprise-panel" aria-live="polite" '
        f'aria-label="What was expected"></aside></div>{_data("surprise-data", _surprise_data(report, count))}'
    )


def _seeing(report: ModelReport) -> str:
    """Tell what the model knew when it was asked for a token."""
    if report.model.config.directions == 1:
        return "after those before it"
    return f"where it was hidden, between those around it ({report.model.config.mask_fraction:.0%} hidden at a time)"


def _surprise_data(report: ModelReport, count: int) -> dict[str, list]:
    """Render the script's data.

    labels: names of tokens. rows, for each shown token but the first: its label's place, its bits, its rank, then the
    most probable tokens: label's place and percent, in turn.
    """
    found, ids = report.reading.surprisals, report.reading.ids[1:count].tolist()
    assert found is not None
    places: dict[int, int] = {}
    rows = []
    for own, bits, rank, best, chances in zip(ids, found.bits, found.ranks, found.best, found.probabilities):
        row = [places.setdefault(own, len(places)), round(float(bits), 2), int(rank)]
        for id, chance in zip(best.tolist(), chances.tolist()):
            row += [places.setdefault(id, len(places)), round(100 * chance, 2)]
        rows.append(row)
    return {"labels": [label(report.model.vocabulary, id) for id in places], "rows": rows}


def _cells(report: ModelReport) -> str:
    reading, count = report.reading, _shown(report)
    levels = [_cell_levels(cell, count) for cell in reading.cells]
    pills = "".join(_pill(k, cell) for k, cell in enumerate(reading.cells))
    digits = ["".join(np.base_repr(level, 36).lower() for level in row) for row in levels]
    return (
        f"<p>The text is {html_text(reading.name)}, tinted by what one memory cell holds after each {report.unit}: blue is a "
        f"tanh(c) near −1, red one near +1. These cells, out of {report.num_cells:,}, follow something simple best. They "
        "were found in the first half of the text; r is the correlation in the second half, which the search did not "
        f'see. Choose several to see them side by side.</p><fieldset data-cells="cell-data"><legend>Cells</legend>{pills}'
        f'</fieldset>{_cell_key()}<div id="cell-texts"><figure class="cell"><figcaption>{_cell_name(reading.cells[0])}'
        f'</figcaption><div class="reading">{_tokens(reading.pieces[:count], "c", levels[0])}</div></figure></div>'
        f"{_data('cell-data', digits)}"
    )


def _cell_levels(cell: ReadableCell, count: int) -> list[int]:
    """Return the tints of the first `count` tokens, 0 to 2 CELL_LEVELS."""
    steps = theme.CELL_LEVELS
    return (np.rint(cell.activation[:count] * steps).astype(int) + steps).tolist()


def _cell_key() -> str:
    steps = theme.CELL_LEVELS
    names = [f"{(k - steps) / steps:+.1f}".replace("-", "−").replace("+0.0", "0") for k in range(2 * steps + 1)]
    items = "".join(f'<li class="c{k}">{name}</li>' for k, name in enumerate(names))
    return f'<ul class="key" aria-label="tanh of the cell">{items}</ul>'


def _pill(k: int, cell: ReadableCell) -> str:
    checked = " checked" if k == 0 else ""
    box = f'<input type="checkbox" name="cell" value="{k}"{checked}>'
    return f'<label class="pill">{box}<span>{_cell_name(cell)}</span></label>'


def _cell_name(cell: ReadableCell) -> str:
    what = f"{cell.feature}, r = {cell.r:.2f}".replace("-", "−") if cell.feature else "follows nothing simple"
    return html_text(f"layer {cell.layer + 1}, cell {cell.unit}: {what}")


# ------------------------------------------------------------------------------------------- gates


def _gates(report: ModelReport) -> str:
    layers = report.reading.saturation
    if layers is None:
        return "<p>Its cells do not have the gates of an LSTM.</p>"
    charts = "".join(
        share_scatter(
            [layer[gate][::-1] for layer in layers],
            GATE_NAMES[gate],
            f"share of time above {OPEN_ABOVE:g}",
            f"share of time below {CLOSED_BELOW:g}",
            SCATTER,
        )
        for gate in SIGMOID_GATES
    )
    shares = f"below {CLOSED_BELOW:g}, above {OPEN_ABOVE:g}"
    heads = "".join(f"<th scope=col>{GATE_NAMES[gate]}<br>{shares}</th>" for gate in SIGMOID_GATES)
    rows = "".join(_gate_row(k, layer) for k, layer in enumerate(layers))
    return (
        f"<p>How decided the gates are while it reads {html_text(report.reading.name)}: each dot is a unit, at the shares of "
        "the time that its gate is open and closed. Dots in the lower right corner of the forget gate remember for long; "
        f"dots near the diagonal act like switches; dots near the origin are never decided.</p><figure><div "
        f'class="scatters">{charts}</div><figcaption>After figure 4 of Karpathy, Johnson and Fei-Fei, Visualizing and '
        f"Understanding Recurrent Networks (2015).</figcaption></figure>"
        f"<table><tr><th scope=col>mean of</th>{heads}</tr>{rows}</table>"
    )


def _gate_row(k: int, layer: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    run = k % len(theme.LIGHT.runs)
    circle = f'<circle class="dot{run}" cx="6" cy="6" r="5"/>'
    dot = f'<svg class="chart dot" width="12" height="12" aria-hidden="true">{circle}</svg>'
    cells = "".join(
        f"<td>{closed.mean():.0%}, {opened.mean():.0%}</td>" for closed, opened in (layer[g] for g in SIGMOID_GATES)
    )
    return f"<tr><th scope=row>{dot} layer {k + 1}</th>{cells}</tr>"
