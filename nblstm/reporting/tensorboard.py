"""Curves of a run as event files, which TensorBoard shows while it trains; tensorboardX writes them."""

from __future__ import annotations

import math
import os
from typing import Any

from nblstm import checks
from nblstm.errors import ConfigError, ReportError
from nblstm.training.report import Report

EVERY = 10  # updates between two events of the training loss


class EventFiles:
    """Event files in a folder: `write` takes the reports of a run, `close` ends it.

    Losses are in nats per token under loss/, learning rate, gradient norm and speed under training/, what a task measures
    under measures/. ConfigError where tensorboardX is not installed, ReportError where the folder cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        place = checks.path("tensorboard", folder)
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ConfigError(
                "tensorboard needs tensorboardX; install it by pip install 'nblstm[tensorboard]'."
            ) from None
        try:
            self._writer: Any = SummaryWriter(place)
        except OSError as error:
            raise ReportError(
                f"{place} cannot be written to: {error.strerror or error}; name another folder."
            ) from None

    def write(self, report: Report) -> None:
        """Write the numbers of a report; those of training every EVERY updates."""
        for name, value in _scalars(report).items():
            if value is not None and math.isfinite(value):
                self._writer.add_scalar(name, value, report.step)

    def close(self) -> None:
        """Write what is still held back."""
        self._writer.close()


def _scalars(report: Report) -> dict[str, float | None]:
    """Return what is drawn of a report, by name."""
    if report.validated:
        return {"loss/valid": report.valid_loss, **{f"measures/{name}": v for name, v in report.measures.items()}}
    if report.step % EVERY and report.step != 1:
        return {}
    return {
        "loss/train": report.smooth_loss,
        "training/lr": report.lr,
        "training/gradient_norm": report.gradient_norm,
        "training/tokens_per_second": report.tokens_per_second,
    }
