"""The shape of a network that predicts the next token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from nblstm.config.network import TokenStackConfig


@dataclass(frozen=True)
class LanguageConfig(TokenStackConfig):
    """A language model that reads from left to right; stored in its file."""

    KEY: ClassVar[str] = "nblstm"
    may_adapt: ClassVar[bool] = True

    @classmethod
    def owns(cls, fields: Mapping[str, Any]) -> bool:
        """Tell whether stored fields are those of this config, not of a masked model."""
        return fields.get("bidirectional") is not True
