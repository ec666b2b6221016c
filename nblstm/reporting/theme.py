"""The colours of charts and pages, for light and for dark, and the style rules made from them.

Text is drawn in `ink` or `soft`, on `paper`, on `card` or on a tint of `card`; tests hold every pair to the contrast
of 4.5 that the Web Content Accessibility Guidelines (WCAG 2.2, 1.4.3, level AA) ask for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SURPRISE_BITS = (1, 2, 4, 6, 9)  # the limits between the levels of surprise, bits
CELL_LEVELS = 5  # tints on either side of 0
KIND_SHARE = 0.28  # of the colour of a kind in the background of its spans


@dataclass(frozen=True)
class Palette:
    """Colours as #rrggbb. runs: of curves and layers; good, fair, poor: of verdicts."""

    paper: str
    card: str
    ink: str
    soft: str
    line: str
    accent: str
    surprise: str  # the strongest tint of a surprising token
    negative: str  # the strongest tints of a cell's activation
    positive: str
    good: str
    fair: str
    poor: str
    runs: tuple[str, ...]


LIGHT = Palette(
    paper="#faf9f6", card="#ffffff", ink="#1e2329", soft="#59616c", line="#e3e0d9", accent="#27589f",
    surprise="#f0875f", negative="#74a7e8", positive="#f08d74", good="#2f8059", fair="#b7791f", poor="#b8433a",
    runs=("#27589f", "#c2550f", "#1d7a5f", "#8a3f9e", "#a8323e", "#5a6f14", "#0f7490", "#6b5b4a"),
)  # fmt: skip
DARK = Palette(
    paper="#14171b", card="#1b1f25", ink="#e7e4de", soft="#a2a9b4", line="#31373f", accent="#8fb6f3",
    surprise="#a8431f", negative="#2d60a8", positive="#a23f32", good="#63b98d", fair="#d9a441", poor="#e5776c",
    runs=("#8fb6f3", "#f2a36b", "#6fcfae", "#d09be0", "#f08a93", "#b3cf7a", "#6fcfe3", "#c8b8a4"),
)  # fmt: skip


def mix(low: str, high: str, share: float) -> str:
    """Mix two colours: the one a share of the way from `low` to `high`."""
    pairs = [(int(low[k : k + 2], 16), int(high[k : k + 2], 16)) for k in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def surprise_tints(palette: Palette) -> list[str]:
    """Return the backgrounds of the levels of surprise, from none on."""
    levels = len(SURPRISE_BITS)
    return [mix(palette.card, palette.surprise, k / levels) for k in range(levels + 1)]


def cell_tints(palette: Palette) -> list[str]:
    """Return the backgrounds of a cell's activation from -1 to 1, 2 CELL_LEVELS + 1 of them."""
    sides = [(palette.negative, k) for k in range(CELL_LEVELS, 0, -1)]
    sides += [(palette.positive, k) for k in range(CELL_LEVELS + 1)]
    return [mix(palette.card, side, k / CELL_LEVELS) for side, k in sides]


def kind_tints(palette: Palette) -> list[str]:
    """Return a background for each of several kinds, as spans of a text are."""
    return [mix(palette.card, run, KIND_SHARE) for run in palette.runs]


def both(rules: str) -> str:
    """Return rules whose {names} are a palette's: for light, and again for dark where the reader prefers it."""
    return f"{_fill(rules, LIGHT)}\n@media (prefers-color-scheme: dark) {{\n{_fill(rules, DARK)}\n}}"


def _fill(rules: str, palette: Palette) -> str:
    """Write the palette's colours over their names: @ink; and so on, @u0;, @c0; and @t0; for the tints."""
    named = {name: getattr(palette, name) for name in Palette.__dataclass_fields__}
    named |= {f"u{k}": tint for k, tint in enumerate(surprise_tints(palette))}
    named |= {f"c{k}": tint for k, tint in enumerate(cell_tints(palette))}
    named |= {f"t{k}": tint for k, tint in enumerate(kind_tints(palette))}
    rules = rules.replace("@runs", _runs(palette))
    return re.sub(r"@(\w+);", lambda found: f"{named[found[1]]};", rules)


def _runs(palette: Palette) -> str:
    rules = ".chart .run{0} {{ stroke: {1}; }} .chart .dot{0} {{ fill: {1}; }}"
    return "\n".join(rules.format(k, color) for k, color in enumerate(palette.runs))


# Plain rules, no variables: programs that draw SVG but are no browsers know classes and little more.
CHART_COLORS = """\
.chart .paper { fill: @card; }
.chart .grid { stroke: @line; }
.chart .axis, .chart .best { stroke: @soft; }
.chart text { fill: @ink; }
.chart .tick { fill: @soft; }
@runs"""

CHART_SHAPES = """\
.chart text { font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; font-size: 12px; }
.chart .title { font-size: 14px; font-weight: 600; }
.chart .grid, .chart .axis, .chart .best { stroke-width: 1; }
.chart .best { stroke-dasharray: 2 4; }
.chart .ring { fill: none; stroke-width: 1.5; }
.chart .hover { fill-opacity: 0; }
.chart .thin { fill: none; stroke-width: 1.25; stroke-opacity: 0.6; stroke-linejoin: round; }
.chart .bold { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart .units { fill: none; stroke-width: 5; stroke-opacity: 0.5; stroke-linecap: round; }"""


def chart_style() -> str:
    """Return all rules of a chart."""
    return f"{CHART_SHAPES}\n{both(CHART_COLORS)}"
