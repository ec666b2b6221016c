"""Learning-rate schedules: the rate of the next update, from how far training has come.

A schedule is asked `lr(step, epoch, progress)` before every update:

    step      updates made so far, 0 before the first
    epoch     passes over the training text so far, with a fraction: 2.5 is the middle of the third
    progress  share of the training that is done, in [0, 1], whether it is limited by epochs, steps or minutes

All but Plateau are pure functions of these. Plateau also listens to validation losses; what it remembers is
`state_dict()`, which travels in the checkpoint.
"""

from __future__ import annotations

import math

from nblstm.config import Recipe
from nblstm.files.fields import COUNT, FACTOR, NUMBER, Stored, optional


class Schedule(Stored):
    """Base of all schedules. A subclass defines `lr`; most have no state."""

    def __init__(self, config: Recipe) -> None:
        self.config = config

    def lr(self, step: int, epoch: float, progress: float) -> float:
        """Return the learning rate of the next update."""
        raise NotImplementedError

    def validated(self, loss: float) -> None:
        """Hear the validation loss at the end of an epoch."""

    @classmethod
    def name_of(cls, config: Recipe) -> str:
        """Name the schedule of a config."""
        return f"the {config.schedule} schedule"


class Constant(Schedule):
    """lr0, always."""

    def lr(self, step: int, epoch: float, progress: float) -> float:
        return self.config.learning_rate


class Exponential(Schedule):
    """lr0 exp(-k t): t in epochs, evaluated at every update, k = -ln(lr_decay), so lr_decay is the factor an epoch."""

    def lr(self, step: int, epoch: float, progress: float) -> float:
        # lr0 exp(-k t) = lr0 lr_decay^t
        return self.config.learning_rate * self.config.lr_decay**epoch


class Step(Schedule):
    """The full rate for `decay_after` epochs, then times lr_decay at the start of every epoch.

    Source: Zaremba, Sutskever and Vinyals, Recurrent Neural Network Regularization (2014), section 4.1.
    """

    def lr(self, step: int, epoch: float, progress: float) -> float:
        decays = max(0, math.floor(epoch) + 1 - self.config.decay_after)
        return self.config.learning_rate * self.config.lr_decay**decays


class Plateau(Schedule):
    """Times lr_decay whenever `decay_after` epochs in a row brought no better validation loss."""

    STATE = {"best": optional(NUMBER), "waited": COUNT, "factor": FACTOR}

    def __init__(self, config: Recipe) -> None:
        super().__init__(config)
        self.best: float | None = None  # lowest validation loss so far
        self.waited = 0  # epochs since `best`, or since the last decay
        self.factor = 1.0  # lr / lr0

    def lr(self, step: int, epoch: float, progress: float) -> float:
        return self.config.learning_rate * self.factor

    def validated(self, loss: float) -> None:
        if not math.isnan(loss) and (self.best is None or loss < self.best):
            self.best, self.waited = float(loss), 0
            return
        self.waited += 1
        if self.waited >= self.config.decay_after:
            self.factor, self.waited = self.factor * self.config.lr_decay, 0


class Cosine(Schedule):
    """A linear warm-up, then half a cosine from lr0 down to FLOOR lr0 at the end of training.

    The warm-up takes `warmup` updates, but never more than the first tenth of the training, so that a short run
    reaches its rate. The cosine runs from the start; the warm-up multiplies it.
    Source: Loshchilov and Hutter, SGDR (2017), equation 5, without restarts.
    """

    FLOOR = 0.01
    LONGEST_WARMUP = 0.1

    def lr(self, step: int, epoch: float, progress: float) -> float:
        progress = min(progress, 1.0)
        warm = min(1.0, max((step + 1) / max(self.config.warmup, 1), progress / self.LONGEST_WARMUP))
        cosine = self.FLOOR + (1 - self.FLOOR) * (1 + math.cos(math.pi * progress)) / 2
        return self.config.learning_rate * warm * cosine


SCHEDULE_CLASSES = {
    "constant": Constant,
    "exponential": Exponential,
    "step": Step,
    "plateau": Plateau,
    "cosine": Cosine,
}


def make_schedule(config: Recipe) -> Schedule:
    """Make the schedule that `config.schedule` names."""
    return SCHEDULE_CLASSES[config.schedule](config)
