"""Pace: how fast a session of a run goes, and what it then has left."""

from __future__ import annotations

import math
import time
from typing import Any

from nblstm.kernels.compiling import compiled_seconds

SMOOTHING = 0.98  # of loss and speed: averages over about the last 50 updates


def clock() -> float:
    """Return seconds of a clock that stands still while kernels are compiled."""
    return time.perf_counter() - compiled_seconds()


class Pace:
    """The smoothed loss and speed of a session, and how long its validations took.

    updates: of the session. loss: nats per token. validations: the seconds that each has taken.
    """

    def __init__(self) -> None:
        self.updates, self.loss = 0, 0.0
        self.validations: list[float] = []
        self._seconds = 0.0  # of a token

    def updated(self, loss: float, tokens: int, seconds: float) -> float:
        """Count an update, and return the seconds that count: the first one's do not, as it may compile kernels."""
        n = self.updates
        keep_loss, keep_pace = (min(SMOOTHING, max(count, 0) / (max(count, 0) + 1)) for count in (n, n - 1))
        self.loss = keep_loss * self.loss + (1 - keep_loss) * loss
        self._seconds = keep_pace * self._seconds + (1 - keep_pace) * seconds / tokens
        self.updates += 1
        return seconds if n else 0.0

    @property
    def tokens_per_second(self) -> float:
        """The smoothed speed."""
        return 1 / self._seconds

    def seconds_left(self, trainer: Any) -> float | None:
        """Estimate the seconds left: updates take as long as those so far, each epoch ends with a validation like the last."""
        progress, limit = trainer.progress, 60 * (trainer.config.minutes or math.inf)
        last = self.validations[-1] if self.validations else 0.0
        if progress == 0 or trainer.seconds == 0:  # no update has been timed
            return None
        if progress == trainer.seconds / limit:  # the clock will end it, behind it comes one validation
            return limit - trainer.seconds + last
        count: float = math.ceil(trainer.epoch / progress - 1e-6) - trainer.epoch_number + (trainer.chunk_number == 0)
        updates, _ = getattr(trainer.config, "valid_interval", (None, None))
        count += trainer.step * (1 - progress) / progress // updates if updates else 0
        return (trainer.seconds - sum(self.validations)) * (1 - progress) / progress + count * last
