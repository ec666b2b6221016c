"""Texts that a model wrote while it was trained, read back from the file that training keeps them in."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from nblstm.errors import ReportError
from nblstm.files.fields import AMOUNT, COUNT, STRING, fault, optional
from nblstm.text.sources import regular

ROW = {"step": COUNT, "epoch": AMOUNT, "loss": optional(AMOUNT), "text": STRING}


@dataclass(frozen=True)
class EarlyText:
    """What a model wrote after so many updates and epochs. loss: of that validation, nats per token."""

    step: int
    epoch: float
    loss: float | None
    text: str


def read_history(path: str | os.PathLike[str]) -> list[EarlyText]:
    """Read the texts in a file of JSON lines. ReportError names the line and the rule if it is anything else."""
    try:
        with open(path, encoding="utf-8", opener=regular) as file:
            lines = file.read().split("\n")[:-1]
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    return [_row(path, number, line) for number, line in enumerate(lines, 1)]


def _row(path: str | os.PathLike[str], number: int, line: str) -> EarlyText:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise ReportError(f"{path}, line {number}: it must be a JSON object.") from None
    broken = fault(fields, ROW, alone=True)
    if broken:
        raise ReportError(f"{path}, line {number}: {broken}.")
    return EarlyText(**fields)
