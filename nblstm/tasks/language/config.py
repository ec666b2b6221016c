"""The shape of a network that predicts the next token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nblstm.config.network import TokenStackConfig, restored


@dataclass(frozen=True)
class LanguageConfig(TokenStackConfig):
    """A language model that reads from left to right; stored in its file."""

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> LanguageConfig:
        """Make the config that `to_dict` came from. ConfigError names a field this version does not know."""
        return super().from_dict(restored(cls, fields))
