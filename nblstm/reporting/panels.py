"""Panels that several reports have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from nblstm.reporting import theme
from nblstm.reporting.skeleton import html_text

NAME_CHARACTERS = 40  # of a label that are shown


def confusion_table(head: str, names: Sequence[str], counts: np.ndarray, figures: Mapping[str, Iterable[float]]) -> str:
    """Render a confusion matrix (truth, answer), tinted by the share of a row, and the figures of each row.

    head: what the names are called. figures: name of a column -> a share for each row.
    """
    shown = [html_text(f"{name:.{NAME_CHARACTERS}}") for name in names]
    heads = "".join(f"<th scope=col>{name}</th>" for name in [*shown, *figures])
    rows = []
    for name, row, *shares in zip(shown, counts, *figures.values()):
        levels = (row / max(1, row.sum()) * len(theme.SURPRISE_BITS)).round().astype(int)
        cells = "".join(f'<td class="number u{level}">{count:,}</td>' for count, level in zip(row, levels))
        cells += "".join(f'<td class="number">{share:.3f}</td>' for share in shares)
        rows.append(f"<tr><th scope=row>{name}</th>{cells}</tr>")
    return f'<div class="wide"><table><tr><th scope=col>{head}</th>{heads}</tr>{"".join(rows)}</table></div>'
