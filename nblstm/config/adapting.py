"""How a network learns from the text that it reads."""

from __future__ import annotations

from dataclasses import dataclass

from nblstm.config.checks import MAX_SIZE, Config, above_zero, at_least, at_most, check_types, one_of

RULES = {"rms": (1e-4, 1e-3), "sgd": (2e-2, 1e-4)}  # rule -> rate and decay, where none are given


@dataclass(frozen=True)
class AdaptConfig(Config):
    """Dynamic evaluation (Krause et al. 2018, 2019): a segment is scored, then learned from."""

    rule: str = "auto"  # rms | sgd | auto: rms for a model with gradient statistics, else sgd
    rate: float | None = None  # of an update along the mean gradient of a segment; None: a good one for the rule
    decay: float | None = None  # share of the way back to the trained weights, an update; None: a good one
    segment: int = 20  # tokens of a segment

    def __post_init__(self) -> None:
        check_types(self)
        one_of(self, "rule", ("auto", *RULES))
        above_zero(self, "rate")
        at_least(self, 0, "decay")
        at_most(self, 1, "decay")
        at_least(self, 1, "segment")
        at_most(self, MAX_SIZE, "segment")
