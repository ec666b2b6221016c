"""The shape of a network that reads in both directions and predicts masked tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from nblstm.config.checks import at_least, fraction
from nblstm.config.network import TokenStackConfig, stored
from nblstm.errors import ConfigError

MIN_MASK = 0.001  # a text is read once for each of 1 / mask_fraction parts of it


@dataclass(frozen=True)
class MaskedConfig(TokenStackConfig):
    """A masked language model, which reads every text in both directions; stored in its file."""

    mask_fraction: float = 0.15  # share of the tokens that are masked at a time

    KEY: ClassVar[str] = "nblstm"
    directions: ClassVar[int] = 2

    @classmethod
    def owns(cls, fields: Mapping[str, Any]) -> bool:
        """Tell whether stored fields are those of this config, not of a language model."""
        return fields.get("bidirectional") is True

    def check_level(self, level: str) -> None:
        """Raise ConfigError for a level without a token that replaces a masked one."""
        check_masking(level)

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction(self, "mask_fraction")
        at_least(self, MIN_MASK, "mask_fraction")

    @property
    def masked_passes(self) -> int:
        """The number of readings that mask every token once: each time about mask_fraction."""
        return max(2, round(1 / self.mask_fraction))

    @property
    def readings(self) -> int:  # type: ignore[override]
        """The number of readings that score a text: with every token masked once, and for the state with none."""
        return 1 + self.masked_passes

    @property
    def description(self) -> str:
        """The network in a few words: "LSTM 2 x 256, bidirectional"."""
        return f"{super().description}, bidirectional"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as files hold them."""
        return stored(self, bidirectional=True)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> MaskedConfig:
        """Make the config that `to_dict` came from. ConfigError names a field this version does not know."""
        own = dict(fields)
        if own.pop("bidirectional", True) is not True:
            raise ConfigError("a masked language model reads in both directions; leave bidirectional out.")
        return super().from_dict(own)


def check_masking(level: str) -> None:
    """Raise ConfigError for a level without a token that replaces a masked one."""
    if level in ("byte", "subword"):
        raise ConfigError(
            f"bidirectional hides tokens behind <unk>, which level {level} does not have; choose another."
        )
