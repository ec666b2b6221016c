"""Loss curves of one or several runs, as a chart."""

from __future__ import annotations

from collections.abc import Sequence

from nblstm.reporting.charts import Curve, line_chart
from nblstm.reporting.metrics import Metrics
from nblstm.reporting.theme import LIGHT

X_LABELS = {"step": "update", "epoch": "epoch", "tokens": "tokens read", "seconds": "time spent training (h:mm:ss)"}


def loss_chart(
    runs: Sequence[Metrics], x: str = "step", *, log_x: bool = False, log_y: bool = False, width: int = 760,
    height: int = 420, title: str = "", unit: str = "token",
) -> str:  # fmt: skip
    """Draw the training loss (smoothed, thin) and validation loss (dots) of runs over x, one of X_LABELS: an <svg>."""
    curves, colors = [], len(LIGHT.runs)
    for k, run in enumerate(runs):
        curves.append(Curve(*run.curve(x, "smooth_loss"), k % colors))
        curves.append(Curve(*run.curve(x, "valid_loss"), (k if len(runs) > 1 else 1) % colors, bold=True))
    if len(runs) == 1:
        legend = [("training", 0, False), ("validation", 1, True)]
    else:
        legend = [(name, k % colors, True) for k, name in enumerate(distinct_names(runs))]
        legend.append(("thin: training, dotted: validation", 0, False))
    return line_chart(
        curves, legend, X_LABELS[x], f"loss (nats per {unit})", width=width, height=height, log_x=log_x, log_y=log_y,
        durations=x == "seconds", title=title,
    )  # fmt: skip


def distinct_names(runs: Sequence[Metrics]) -> list[str]:
    """Return the runs' names; those that several share get their place in the list."""
    names = [run.name for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({k})" for k, name in enumerate(names, start=1)]
