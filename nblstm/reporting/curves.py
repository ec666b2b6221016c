"""Curves as charts: the losses of one or several runs; a series and its forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nblstm.reporting.charts import Curve, line_chart
from nblstm.reporting.metrics import Metrics
from nblstm.reporting.theme import LIGHT

X_LABELS = {"step": "update", "epoch": "epoch", "tokens": "tokens read", "seconds": "time spent training"}
PANELS = {  # column of the metrics -> what a small chart of it is called
    "lr": "learning rate",
    "gradient_norm": "norm of the gradient",
    "tokens_per_second": "tokens a second",
}
MATTERING = 0.95  # share of the losses that set the scale; the first ones of a run are far above them
HEADROOM = 0.3  # above those, as a share of their range


def loss_chart(
    runs: Sequence[Metrics], x: str = "step", *, log_x: bool = False, log_y: bool = False, width: int = 760,
    height: int = 420, title: str = "", unit: str = "token", whole: bool = False,
) -> str:  # fmt: skip
    """Draw the training loss (smoothed, thin) and validation loss (dots) of runs over x, one of X_LABELS: an <svg>.

    whole: also losses above `limit`, which are cut off otherwise, but never on a logarithmic axis. Of one run the least
    and the last values are written.
    """
    curves, colors, alone = [], len(LIGHT.runs), len(runs) == 1
    for k, run in enumerate(runs):
        curves.append(Curve(*run.curve(x, "smooth_loss"), k % colors, noted=alone))
        curves.append(Curve(*run.curve(x, "valid_loss"), (1 if alone else k) % colors, bold=True, noted=alone))
    if not (whole or log_y):
        high = limit(curves)
        curves = [cut_above(curve, high) for curve in curves]
    if alone:
        legend = [("training", 0, False), ("validation", 1, True)]
    else:
        legend = [(name, k % colors, True) for k, name in enumerate(distinct_names(runs))]
        legend.append(("thin: training, dotted: validation", 0, False))
    return line_chart(
        curves, legend, X_LABELS[x], f"loss (nats per {unit})", width=width, height=height, log_x=log_x, log_y=log_y,
        durations=x == "seconds", title=title,
    )  # fmt: skip


def limit(curves: Sequence[Curve]) -> float:
    """Return the loss up to which curves are drawn: a little above MATTERING of all of them."""
    losses = np.concatenate([curve.y for curve in curves] or [np.empty(0)])
    losses = losses[np.isfinite(losses)]
    if not len(losses):
        return np.inf
    low, high = losses.min(), np.quantile(losses, MATTERING)
    return float(high + HEADROOM * (high - low)) if high > low else np.inf


def cut_above(curve: Curve, high: float) -> Curve:
    """Cut off what a curve has above `high`: it ends where it crosses that, and goes on where it comes back."""
    x, y = curve.x, curve.y
    over = y > high
    at = np.flatnonzero(over[1:] != over[:-1])  # a crossing between at and at + 1
    share = (high - y[at]) / (y[at + 1] - y[at])
    x, y = np.insert(x, at + 1, x[at] + share * (x[at + 1] - x[at])), np.insert(y, at + 1, high)
    kept = y <= high
    return replace(curve, x=x[kept], y=y[kept])


def panels(run: Metrics, x: str = "step", *, width: int = 360, height: int = 220) -> list[str]:
    """Draw a small chart of each of PANELS that a run's file has."""
    charts = []
    for column, name in PANELS.items():
        xs, ys = run.curve(x, column) if column in run.columns else (np.empty(0), np.empty(0))
        if len(xs):
            charts.append(
                line_chart(
                    [Curve(xs, ys, 0, noted=True)], [], X_LABELS[x], name, width=width, height=height, title=name
                )
            )
    return charts


def distinct_names(runs: Sequence[Metrics]) -> list[str]:
    """Return the runs' names; those that several share get their place in the list."""
    names = [run.name for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({k})" for k, name in enumerate(names, start=1)]


def forecast_chart(names: Sequence[str], series: np.ndarray, forecast: np.ndarray) -> str:
    """Draw the columns of a series (T, D), thin, and behind them their forecast (n, D), with dots: an <svg>."""
    T, colors = len(series), len(LIGHT.runs)
    curves, legend = [], []
    for k, name in enumerate(names):
        run = k % colors
        curves.append(Curve(np.arange(1, T + 1), series[:, k], run))
        curves.append(Curve(np.arange(T + 1, T + len(forecast) + 1), forecast[:, k], run, bold=True))
        legend.append((name, run, True))
    return line_chart(curves, [*legend, ("thin: the series, dotted: its forecast", 0, False)], "row", "value")
