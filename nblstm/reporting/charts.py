"""Charts as SVG text: curves over an axis, and scatters of shares. No dependency, no scripts.

A chart is an <svg class="chart"> whose colours are the rules of `nblstm.reporting.theme`; `standalone` puts the rules
inside, so that it can be a file of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

from nblstm.reporting import theme
from nblstm.reporting.durations import duration_text, hours_text

MOST_POINTS = 800  # of one curve: more than the pixels it crosses
MOST_HOVERED = 60  # of them, those that tell their values
MINUTE, HOUR = 60, 3600
DURATIONS = (  # between two ticks, seconds
    1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR,
    8 * HOUR, 12 * HOUR, 24 * HOUR,
)  # fmt: skip
LETTER = 6.6  # about the width of a letter, pixels
LEFT, RIGHT, BOTTOM = 58, 16, 44  # margins for the labels of the axes


@dataclass(frozen=True)
class Curve:
    """A line through points x, y (n,), in the colour of its run; `bold` ones have a dot at every point.

    noted: whether the last value is written beside it, and of a bold one the least, which is marked.
    """

    x: np.ndarray
    y: np.ndarray
    run: int
    bold: bool = False
    noted: bool = False


@dataclass(frozen=True)
class Axis:
    """How values become pixels: low lies at `start`, high at `stop`; ticks are (value, text)."""

    low: float
    high: float
    start: float
    stop: float
    log: bool
    ticks: list[tuple[float, str]]

    def place(self, values: np.ndarray | float) -> np.ndarray:
        """Return pixels of values, which on a logarithmic axis must be above 0."""
        scale = np.log if self.log else np.asarray
        low, high = float(scale(self.low)), float(scale(self.high))
        return self.start + (scale(np.asarray(values, float)) - low) / (high - low) * (self.stop - self.start)


# ------------------------------------------------------------------------------------------- ticks


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose at most `most` (or a few more) round values, 1, 2 or 5 times a power of ten apart, within [low, high]."""
    rough = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    return _multiples(low, high, step)


def duration_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose ticks for seconds: steps of seconds, minutes and hours that people count in."""
    rough = (high - low) / max(most, 1)
    step = next((step for step in DURATIONS if step >= rough), DURATIONS[-1] * math.ceil(rough / DURATIONS[-1]))
    return _multiples(low, high, step)


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose powers of ten within [low, high], with 2 and 5 times them where there is room; linear ticks if too few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**k for k in decades for factor in factors if low <= factor * 10.0**k <= high]
        if len(ticks) <= most + 2:
            break
    return ticks if len(ticks) >= 3 else linear_ticks(low, high, most)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def number_text(value: float) -> str:
    """Format a tick's value in few letters: 0.5, 12, 3k, 1.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.6g}{unit}"
    return f"{value:.6g}"


# ------------------------------------------------------------------------------------------- curves


def line_chart(
    curves: Sequence[Curve], legend: Sequence[tuple[str, int, bool]], x_label: str, y_label: str, *,
    width: int = 760, height: int = 420, log_x: bool = False, log_y: bool = False, durations: bool = False,
    title: str = "",
) -> str:  # fmt: skip
    """Draw curves over a common axis, as an <svg>. legend: (name, run, bold) entries. durations: x is in seconds.

    A legend of several lines adds to the height. On a logarithmic axis values of 0 and less are left out.
    """
    curves = [_drawable(curve, log_x, log_y) for curve in curves]
    long = durations and max((float(c.x.max()) for c in curves if len(c.x)), default=0.0) >= HOUR
    legend_lines = _wrapped(legend, width - LEFT - RIGHT)
    head = 30 if title else 8
    top, height = head + 20 * len(legend_lines) + 8, height + 20 * max(0, len(legend_lines) - 1)
    ticks = duration_ticks if durations else linear_ticks
    text = (hours_text if long else duration_text) if durations else number_text
    x_label += (" (h:mm)" if long else " (m:ss)") if durations else ""
    x = _axis([c.x for c in curves], LEFT, width - RIGHT, log_x, 0.0, ticks, text, max(4, width // 100))
    rows = max(4, (height - top) // 60)
    y = _axis([c.y for c in curves], height - BOTTOM, top, log_y, 0.04, linear_ticks, number_text, rows)
    parts = [_title(title), _legend(legend_lines, head), _grid(x, y, x_label, y_label)]
    exact = duration_text if durations else number_text
    parts += [_line(curve, x, y) + _hover(curve, x, y, exact) for curve in curves]
    parts.append(_notes([curve for curve in curves if curve.noted and len(curve.x)], x, y))
    return _svg(width, height, title or f"{y_label} over {x_label}", parts)


def _drawable(curve: Curve, log_x: bool, log_y: bool) -> Curve:
    """Keep the points that the axes can show, thinned out to MOST_POINTS, the first and the last among them."""
    shown = np.isfinite(curve.x) & np.isfinite(curve.y)
    if log_x:
        shown &= curve.x > 0
    if log_y:
        shown &= curve.y > 0
    x, y = curve.x[shown], curve.y[shown]
    if len(x) > MOST_POINTS:
        kept = np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int)
        x, y = x[kept], y[kept]
    return replace(curve, x=x, y=y)


def _axis(
    values: Sequence[np.ndarray], start: float, stop: float, log: bool, margin: float,
    ticks: Callable[[float, float, int], list[float]], text: Callable[[float], str], most: int,
) -> Axis:  # fmt: skip
    """Make an axis that shows all values; a margin (share of the range) is added at both ends."""
    joined = np.concatenate([*values, np.empty(0)])
    low, high = (float(joined.min()), float(joined.max())) if len(joined) else (1.0, 2.0)
    if log:
        spread = (high / low) ** margin if high > low else 1.1
        low, high = low / spread, high * spread
        marks = log_ticks(low, high, most)
    else:
        spread = (high - low) * margin if high > low else max(abs(high), 1.0) * 0.1
        low, high = low - spread, high + spread
        marks = ticks(low, high, most)
    return Axis(low, high, start, stop, log, [(mark, text(mark)) for mark in marks])


def _line(curve: Curve, x: Axis, y: Axis) -> str:
    if not len(curve.x):
        return ""
    points = [f"{a:.1f},{b:.1f}" for a, b in zip(x.place(curve.x), y.place(curve.y))]
    line = f'<polyline class="{"bold" if curve.bold else "thin"} run{curve.run}" points="{" ".join(points)}"/>'
    if not curve.bold and len(points) > 1:
        return line
    at = [point.split(",") for point in points] if len(points) <= 60 else [points[-1].split(",")]
    return line + "".join(f'<circle class="dot{curve.run}" cx="{a}" cy="{b}" r="2.5"/>' for a, b in at)


def _hover(curve: Curve, x: Axis, y: Axis, text: Callable[[float], str]) -> str:
    """Return places of a curve, MOST_HOVERED at most, that tell their values to who points at them."""
    kept = np.unique(np.linspace(0, len(curve.x) - 1, min(len(curve.x), MOST_HOVERED)).round().astype(int))
    return "".join(
        f'<circle class="hover" cx="{a:.1f}" cy="{b:.1f}" r="7"><title>{text(at)}: {value:.4g}</title></circle>'
        for a, b, at, value in zip(
            x.place(curve.x[kept]), y.place(curve.y[kept]), curve.x[kept].tolist(), curve.y[kept].tolist()
        )
    )


def _notes(curves: Sequence[Curve], x: Axis, y: Axis) -> str:
    """Write the last value of curves, the higher ones above their ends and the lower below, and mark the least of bold ones."""
    parts, ends = [], sorted(curves, key=lambda curve: -curve.y[-1])
    for k, curve in enumerate(ends):
        a, b = float(x.place(curve.x[-1])), float(y.place(curve.y[-1]))
        b += -8 if k < len(ends) / 2 else 18
        parts.append(
            f'<text class="note" x="{a:.1f}" y="{b:.1f}" text-anchor="end">{number_text(float(f"{curve.y[-1]:.4g}"))}</text>'
        )
    for curve in (curve for curve in curves if curve.bold):
        least = int(curve.y.argmin())
        a, b = float(x.place(curve.x[least])), float(y.place(curve.y[least]))
        parts.append(f'<line class="best" x1="{a:.1f}" x2="{a:.1f}" y1="{y.start:g}" y2="{y.stop:g}"/>')
        parts.append(f'<circle class="ring run{curve.run}" cx="{a:.1f}" cy="{b:.1f}" r="5.5"/>')
        anchor, aside = ("end", -6) if a > (x.start + x.stop) / 2 else ("start", 6)
        said = f"best {curve.y[least]:.4g}"
        parts.append(f'<text class="note" x="{a + aside:.1f}" y="{y.stop + 12:g}" text-anchor="{anchor}">{said}</text>')
    return "".join(parts)


def _grid(x: Axis, y: Axis, x_label: str, y_label: str) -> str:
    """Draw the grid lines and the texts at the axes."""
    parts = []
    for value, text in y.ticks:
        at = float(y.place(value))
        parts.append(f'<line class="grid" x1="{x.start:g}" x2="{x.stop:g}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{x.start - 8:g}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    for value, text in x.ticks:
        at = float(x.place(value))
        parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{y.start:g}" y2="{y.start + 4:g}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{y.start + 18:g}" text-anchor="middle">{text}</text>')
    parts.append(f'<line class="axis" x1="{x.start:g}" x2="{x.stop:g}" y1="{y.start:g}" y2="{y.start:g}"/>')
    below, beside = f'x="{(x.start + x.stop) / 2:g}" y="{y.start + 36:g}"', f"translate(17 {(y.start + y.stop) / 2:g})"
    parts.append(f'<text {below} text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text transform="{beside} rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    return "".join(parts)


def _wrapped(legend: Sequence[tuple[str, int, bool]], width: float) -> list[list[tuple[float, str, int, bool]]]:
    """Return the legend's entries in lines, each with its place from the left; names that fill a line are cut."""
    lines: list[list[tuple[float, str, int, bool]]] = []
    at, longest = math.inf, max(8, int(width / LETTER) - 6)
    for name, run, bold in legend:
        name = name if len(name) <= longest else name[: longest - 1] + "…"
        size = 28 + LETTER * len(name) + 18
        if at + size - 18 > width:
            lines.append([])
            at = 0
        lines[-1].append((at, name, run, bold))
        at += size
    return lines


def _legend(lines: list[list[tuple[float, str, int, bool]]], top: float) -> str:
    parts = []
    for k, entries in enumerate(lines):
        y = top + 20 * k + 12
        for at, name, run, bold in entries:
            x, kind = LEFT + at, "bold" if bold else "thin"
            parts.append(f'<line class="{kind} run{run}" x1="{x:g}" x2="{x + 20:g}" y1="{y - 4:g}" y2="{y - 4:g}"/>')
            if bold:
                parts.append(f'<circle class="dot{run}" cx="{x + 10:g}" cy="{y - 4:g}" r="2.5"/>')
            parts.append(f'<text x="{x + 27:g}" y="{y:g}">{escape(name)}</text>')
    return "".join(parts)


# ------------------------------------------------------------------------------------------- scatters


def share_scatter(
    points: Sequence[tuple[np.ndarray, np.ndarray]], title: str, x_label: str, y_label: str, size: int
) -> str:
    """Draw groups of points (x, y), (n,) each, all in [0, 1], each group in its own colour, as a square <svg>.

    Points are drawn on a grid of half a pixel, those at the same place once.
    """
    x = Axis(0, 1, LEFT, size - RIGHT, False, [(0, "0"), (0.5, "0.5"), (1, "1")])
    y = Axis(0, 1, size - BOTTOM, 34, False, x.ticks)
    parts = [_title(title), _grid(x, y, x_label, y_label)]
    parts.append(f'<line class="grid" x1="{x.start}" y1="{y.stop}" x2="{x.stop}" y2="{y.start}"/>')
    for run, (a, b) in enumerate(points):
        places = sorted(set(zip((x.place(a) * 2).round().tolist(), (y.place(b) * 2).round().tolist())))
        dots = "".join(f"M{p / 2:g} {q / 2:g}h0" for p, q in places)
        parts.append(f'<path class="units run{run % len(theme.LIGHT.runs)}" d="{dots}"/>')
    return _svg(size, size, f"{title}: {y_label} over {x_label}", parts)


def reliability_chart(bins: Sequence[tuple[int, float, float]], title: str, size: int) -> str:
    """Draw accuracy over probability, of (texts, accuracy, mean probability), as a square <svg>; sure is the diagonal."""
    x = Axis(0, 1, LEFT, size - RIGHT, False, [(0, "0"), (0.5, "0.5"), (1, "1")])
    y = Axis(0, 1, size - BOTTOM, 34, False, x.ticks)
    parts = [_title(title), _grid(x, y, "probability of the decision", "share that is right")]
    parts.append(f'<line class="grid" x1="{x.start}" y1="{y.start}" x2="{x.stop}" y2="{y.stop}"/>')
    most = max((count for count, _, _ in bins), default=1)
    for count, right, sure in bins:
        if count:
            radius = 3 + 9 * math.sqrt(count / most)
            parts.append(f'<circle class="dot0" cx="{x.place(sure):.1f}" cy="{y.place(right):.1f}" r="{radius:.1f}"/>')
    return _svg(size, size, f"{title}: share that is right over probability", parts)


def _title(title: str) -> str:
    return f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>' if title else ""


def _svg(width: int, height: int, name: str, parts: Sequence[str]) -> str:
    paper = f'<rect class="paper" width="{width}" height="{height}"/>'
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(name)}">{paper}{"".join(parts)}</svg>'
    )


def standalone(svg: str) -> str:
    """Put the style inside the chart: a file of its own."""
    start = svg.index(">") + 1
    return f"{svg[:start]}<style>{theme.chart_style()}</style>{svg[start:]}\n"
