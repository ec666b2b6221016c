"""The metrics of a training run, read back from its CSV file."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nblstm.errors import ReportError
from nblstm.text.sources import regular

AXES = ("step", "epoch", "tokens", "seconds")  # what a curve can be drawn over
LOSSES = ("smooth_loss", "valid_loss")
OTHERS = ("lr", "gradient_norm", "tokens_per_second")  # columns that a file may lack


@dataclass(frozen=True)
class Metrics:
    """One run's curve. columns: name of AXES, LOSSES and OTHERS -> (rows,) float64, nan where nothing was measured."""

    name: str
    columns: dict[str, np.ndarray]

    def curve(self, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the points (n,), (n,) at which y was measured, in the order of the file."""
        known = np.isfinite(self.columns[y])
        return self.columns[x][known], self.columns[y][known]


def read_metrics(path: str | os.PathLike[str]) -> Metrics:
    """Read the metrics in a CSV file that training wrote, or is writing: a row without its line end is not read.

    ReportError names the file, the line and the rule if it is anything else.
    """
    rows = _rows(path)
    names = rows[0] if rows else []
    missing = [name for name in (*AXES, *LOSSES) if name not in names]
    if missing:
        raise ReportError(
            f"{path} is not a metrics file: it has no column {missing[0]!r}; name the .metrics.csv beside a model."
        )
    if len(rows) == 1:
        raise ReportError(f"{path} has no rows yet; wait until the training has made its first step.")
    values = [_numbers(path, number, names, row) for number, row in enumerate(rows[1:], start=2)]
    columns = {name: np.array([row[name] for row in values]) for name in (*AXES, *LOSSES, *OTHERS)}
    return Metrics(run_name(path), columns)


def run_name(path: str | os.PathLike[str]) -> str:
    """Return the name of a run: its file's name without `.metrics.csv`; what cannot be printed becomes U+FFFD."""
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in Path(path).name)
    return name.removesuffix(".csv").removesuffix(".metrics") or name


def _rows(path: str | os.PathLike[str]) -> list[list[str]]:
    """Return the cells of every whole line."""
    lines = _text(path).split("\n")[:-1]
    try:
        return list(csv.reader(lines))
    except csv.Error as error:
        raise ReportError(f"{path} is not a metrics file: {error}; name the .metrics.csv beside a model.") from None


def _text(path: str | os.PathLike[str]) -> str:
    """Return the file's text. ReportError if it is not a regular file of UTF-8 text."""
    try:
        with open(path, encoding="utf-8", opener=regular) as file:
            return file.read()
    except UnicodeDecodeError:
        raise ReportError(
            f"{path} is not a metrics file: it is not text; name the .metrics.csv beside a model."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ReportError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}; name the .metrics.csv beside a model."
        ) from None


def _numbers(path: str | os.PathLike[str], number: int, names: list[str], row: list[str]) -> dict[str, float]:
    """Return the values of a row by name: every one a number, losses also empty (nan)."""
    if len(row) != len(names):
        raise ReportError(f"{path}, line {number}: it must have {len(names)} values like its header, got {len(row)}.")
    cells = dict(zip(names, row))
    values = {name: _number(cells.get(name, "")) for name in (*AXES, *LOSSES, *OTHERS)}
    for name, value in values.items():
        if value is None or (name in AXES and not math.isfinite(value)):
            rule = "a finite number" if name in AXES else "a number or empty"
            raise ReportError(f"{path}, line {number}: {name} must be {rule}, got {cells[name]!r:.40}.")
    return values  # type: ignore[return-value]


def _number(cell: str) -> float | None:
    """Return the number in a cell, nan if it is empty, None if it is neither."""
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return None
