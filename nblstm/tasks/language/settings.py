"""The settings of a language model's runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nblstm.config import TrainConfig
from nblstm.config.runs import RunSettings
from nblstm.config.text import CorpusConfig
from nblstm.errors import ConfigError
from nblstm.tasks.language.config import LanguageConfig

GIVEN_BY_TEXT = frozenset({"vocab_size", "even_chunks"})


class _LanguageSettings(RunSettings):
    """The settings of a language model; bidirectional=True is the task "masked"."""

    def names(self) -> set[str]:
        """Return the names of all settings and places."""
        return {*super().names(), "bidirectional"}

    def variant(self, settings: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Return (the other task, if these settings ask for it; the settings without bidirectional)."""
        rest = dict(settings)
        both_ways = rest.pop("bidirectional", False)
        if not isinstance(both_ways, bool):
            raise ConfigError(f"bidirectional must be true or false, got {both_ways!r:.40}.")
        if "mask_fraction" in rest and not both_ways:
            raise ConfigError("mask_fraction is for a bidirectional model; leave it out.")
        return "masked" if both_ways else None, rest


LANGUAGE_SETTINGS = _LanguageSettings(
    CorpusConfig,
    LanguageConfig,
    TrainConfig,
    given=GIVEN_BY_TEXT,
    demo={"hidden_size": 128, "dropout": 0.2, "minutes": 1.0},
)
