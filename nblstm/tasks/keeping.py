"""What a run leaves beside its model after validations, earlier models and early texts; and what it may leave at the end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nblstm.errors import ModelFileError
from nblstm.tasks.run import TaskRun
from nblstm.training.trainer import Trainer


class Snapshots:
    """Models of several validations, MODEL.epochE.L.safetensors: the `most` with the least loss L.

    kept: (loss, path) of those that are there, of this run or of the one that it goes on with.
    """

    def __init__(self, output: Path, most: int, resumed: bool) -> None:
        self.output, self.most = output, most
        self.kept: list[tuple[float, Path]] = sorted(self._found()) if resumed else []

    def _found(self) -> list[tuple[float, Path]]:
        """Find the files that are named as snapshots of this output are."""
        name = re.compile(
            rf"{re.escape(self.output.stem)}\.epoch\d+\.\d\d\.(\d+\.\d{{4}}){re.escape(self.output.suffix)}"
        )
        matches = ((name.fullmatch(path.name), path) for path in self.output.parent.iterdir())
        return [(float(match[1]), path) for match, path in matches if match and path.is_file()]

    def offer(self, model: Callable[[], Any], epoch: float, loss: float) -> None:
        """Save a model if it is among the best, and remove the one that then is not. ModelFileError if it cannot be saved."""
        path = self.output.with_name(f"{self.output.stem}.epoch{epoch:.2f}.{loss:.4f}{self.output.suffix}")
        best = sorted({*self.kept, (float(f"{loss:.4f}"), path)})
        kept = best[: self.most]
        if path in (place for _, place in kept):
            model().save(path)
        for _, old in best[self.most :]:
            if old != path:
                old.unlink(missing_ok=True)
        self.kept = kept


class EarlyTexts:
    """Texts written after validations, a JSON object a line; those after `step` are of a past that did not happen."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = [line for line in self._lines() if step and _step_of(line) <= step]
        self._write("w", "".join(f"{line}\n" for line in kept))

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text(encoding="utf-8").split("\n")[:-1]
        except (OSError, ValueError):
            return []

    def add(self, step: int, epoch: float, loss: float | None, text: str) -> None:
        """Add a text. ModelFileError if it cannot be written."""
        fields = {"step": step, "epoch": round(epoch, 4), "loss": loss, "text": text}
        self._write("a", json.dumps(fields) + "\n")

    def _write(self, mode: str, text: str) -> None:
        try:
            with open(self.path, mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise ModelFileError(f"{self.path} cannot be written: {error.strerror or error}.") from None


class _Stopped(Exception):  # no error
    """Some work is to end."""


def finished_model(task: TaskRun, trainer: Trainer, model: Any, material: Any, stop: Callable[[], bool]) -> Any:
    """Return the model of a run that is over with what only such a one has; None: nothing, or `stop` says yes meanwhile."""

    def go_on(tokens: int) -> None:
        if stop():
            raise _Stopped

    if trainer.progress < 1 and not trainer.patience_is_over:
        return None
    try:
        finished = task.finished(model, material, trainer.config, go_on)
    except _Stopped:
        return None
    return None if finished is model else finished


def _step_of(line: str) -> float:
    """Return the step of a line; infinity of one that has none."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")
    return step if isinstance(step, int) else float("inf")
