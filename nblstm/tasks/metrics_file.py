"""The metrics file of a run: a table in CSV, with a row a second, and one for every validation."""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nblstm.errors import ModelFileError
from nblstm.training.report import Report

COLUMNS = (
    "step", "epoch", "tokens", "seconds", "lr", "loss", "smooth_loss", "gradient_norm", "tokens_per_second",
    "valid_loss",
)  # fmt: skip


class MetricsFile:
    """Rows of reports. A disk that is full ends no run.

    measures: names of a task's columns behind COLUMNS. on_message: told once where several rows in a row are not written.
    """

    def __init__(self, path: Path, measures: Iterable[str], on_message: Callable[[str], None]) -> None:
        self.path, self.measures, self.on_message = path, tuple(measures), on_message
        self._file: Any = None
        self._fails = False  # whether the last row could not be written

    def open(self, step: int) -> None:
        """Open the file: new, or where a run goes on after `step` cut off behind it. ModelFileError if that fails."""
        mode = "r+" if step and self.path.exists() else "w"
        try:
            self._file = file = open(self.path, mode, newline="", encoding="utf-8", errors="replace")  # noqa: SIM115
            end = 0
            while mode == "r+" and _is_kept(file.readline(), step):
                end = file.tell()
            file.seek(end)
            file.truncate()
            if end == 0:
                csv.writer(file).writerow(COLUMNS + self.measures)
            file.flush()
        except OSError as error:
            raise ModelFileError(f"{self.path} cannot be written: {error.strerror or error}.") from None

    def write(self, report: Report) -> None:
        """Add a row; the first of several in a row that fail is worth a warning."""
        try:
            values = [getattr(report, name) for name in COLUMNS] + list(map(report.measures.get, self.measures))
            csv.writer(self._file).writerow(map(_cell, values))
            self._file.flush()
            self._fails = False
        except OSError as error:
            if not self._fails:
                self.on_message(f"warning: {self.path} cannot be written: {error.strerror or error}.")
            self._fails = True

    def close(self) -> None:
        """Close the file; what a full disk does not take is lost."""
        with contextlib.suppress(OSError):
            self._file.close()


class NoMetrics(MetricsFile):
    """Rows that are written nowhere: another process writes those of the run."""

    def open(self, step: int) -> None:
        """Open no file."""

    def write(self, report: Report) -> None:
        """Write no row."""

    def close(self) -> None:
        """Close nothing."""


def _is_kept(line: str, step: int) -> bool:
    """Tell whether a line of metrics is whole and not after `step`."""
    first = line.partition(",")[0]
    return line.endswith("\n") and (first == COLUMNS[0] or (first.isdecimal() and int(first) <= step))


def _cell(value: Any) -> Any:
    """Return a value of a report as the metrics show it: an unknown one is empty."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value


def check_metrics(path: Path) -> None:
    """Raise ModelFileError if there is a file that no run has written."""
    begin = b""
    if path.is_file():
        with contextlib.suppress(OSError), open(path, "rb") as file:  # whoever writes tells of errors
            begin = file.readline(1000)
    if begin and not begin.startswith(",".join(COLUMNS[:2]).encode()):
        raise ModelFileError(f"{path} exists and holds no metrics of a run; it is not replaced, choose another output.")
