"""Reports: what a trainer says after an update or a validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from nblstm.config import is_number
from nblstm.files.fields import Rule
from nblstm.nn.network import Network
from nblstm.scoring import validation_loss
from nblstm.text.batches import Chunk
from nblstm.training.ranks import ALONE, ProcessGroup

BEST_MEASURES = Rule(
    "an object of finite numbers", lambda value: isinstance(value, dict) and all(map(is_number, value.values()))
)


@dataclass(frozen=True)
class Report:
    """Progress and loss of training after an update or, where `validated` is set, after a validation."""

    step: int  # updates made
    epoch: float  # passes over the training text, with a fraction
    progress: float  # share of the training that is done, in [0, 1]
    tokens: int  # tokens read
    seconds: float  # spent training and validating, over all sessions of the run; of each but its first update
    seconds_left: float | None  # estimate; None before there is one
    tokens_per_second: float  # of the updates, smoothed
    lr: float  # learning rate of the last update
    loss: float  # of the last update's chunk, nats per token
    smooth_loss: float  # loss, averaged over about the last 50 updates
    gradient_norm: float  # before clipping
    validated: bool = False  # an epoch (or the training) has ended, or the validation text was read inside of one
    valid_loss: float | None = None  # nats per token; None without a validation text
    improved: bool = False  # the validation is the best so far; without a validation text, always
    sample: str | None = None  # what the model then wrote, where a session was asked for it
    measures: Mapping[str, float] = field(default_factory=dict)  # what else the task measures in validation

    def __repr__(self) -> str:
        valid = "" if self.valid_loss is None else f", validation loss {self.valid_loss:.4f}{' (best)' * self.improved}"
        pace = f"{self.tokens_per_second:,.0f} tokens a second"
        return f"<Report: step {self.step:,}, epoch {self.epoch:.2f}, loss {self.smooth_loss:.4f}{valid}, {pace}>"

    def validated_by(self, found: Validation | None, seconds: float, improved: bool) -> Report:
        """Return the report of a validation that has come after this one. found: None without a validation text."""
        measures = {} if found is None else dict(found.measures)
        loss = measures.pop("loss", None)
        return replace(self, seconds=seconds, validated=True, valid_loss=loss, improved=improved, measures=measures)


class Validation(NamedTuple):
    """What a validation has found: value, least where the network is best, and the measures that are shown.

    measures: "loss", the mean of a target in nats, and by name what else a task measures.
    """

    value: float
    measures: dict[str, float]


Measure = Callable[[Network, Sequence[Chunk], Callable[[], bool]], Validation | None]  # (network, validation, stop)


def by_loss(
    network: Network, valid: Sequence[Chunk], stop: Callable[[], bool] = lambda: False, ranks: ProcessGroup = ALONE
) -> Validation | None:
    """Measure the loss alone, each rank that of its texts."""
    loss = validation_loss(network, (ranks.part(network, chunk) for chunk in valid), stop, ranks.totals)
    return None if loss is None else Validation(loss, {"loss": loss})
