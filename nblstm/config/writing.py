"""How text is written together with a person."""

from __future__ import annotations

from dataclasses import dataclass

from nblstm.config.checks import Config, at_least, at_most, check_types, one_of
from nblstm.config.decoding import BACKENDS

UNTIL = ("word", "line")


@dataclass(frozen=True)
class WriteConfig(Config):
    """What a person who writes with a model is offered."""

    continuations: int = 3  # how many
    until: str = "word"  # word | line: where a continuation ends
    n: int = 40  # most tokens of a continuation
    temperature: float = 0.0  # 0 offers the likeliest; above, they are drawn, the higher the bolder
    seed: int | None = None  # of what is drawn; None draws a fresh one
    backend: str = "auto"  # numpy | cpu | cuda | auto: numpy, which starts at once, or cpu, which learns faster

    def __post_init__(self) -> None:
        check_types(self)
        at_least(self, 1, "continuations", "n")
        at_least(self, 0, "temperature", "seed")
        at_most(self, 9, "continuations")
        at_most(self, 1000, "n")
        one_of(self, "until", UNTIL)
        one_of(self, "backend", BACKENDS)
