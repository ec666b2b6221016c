"""How a network remembers the text that it reads."""

from __future__ import annotations

from dataclasses import dataclass

from nblstm.config.checks import MAX_SIZE, Config, at_least, at_most, check_types, fraction


@dataclass(frozen=True)
class CacheConfig(Config):
    """A neural cache (Grave et al. 2017): tokens that have been come again, most where the text was like here."""

    size: int = 2000  # positions that it holds
    theta: float = 0.5  # how much more those count whose hidden states are like the present one
    share: float = 0.2  # of the probability that it has: lambda

    def __post_init__(self) -> None:
        check_types(self)
        at_least(self, 1, "size")
        at_most(self, MAX_SIZE, "size")
        at_least(self, 0, "theta")
        fraction(self, "share")
