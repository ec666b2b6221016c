"""The settings that a run with files takes, by task: how it reads, what network, which recipe, from which paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nblstm.config.checks import Config
from nblstm.config.network import NetworkConfig
from nblstm.config.training import Recipe


class RunParts(NamedTuple):
    """Settings of a run, parted; each a dict of names and values. rest: those that the task does not have."""

    reading: dict[str, Any]
    network: dict[str, Any]
    recipe: dict[str, Any]
    places: dict[str, Any]
    rest: dict[str, Any]


@dataclass(frozen=True)
class RunSettings:
    """The configs whose fields are a task's settings.

    given: fields that the data give, which are no settings. places: names of the paths that are read. demo: the
    settings of a demonstration; None where a task has none.
    """

    reading: type[Config]
    network: type[NetworkConfig]
    recipe: type[Recipe]
    given: frozenset[str] = frozenset({"vocab_size"})
    places: tuple[str, ...] = ("corpus", "valid")
    demo: Mapping[str, Any] | None = None

    def fields(self) -> dict[str, dataclasses.Field]:
        """Return the field of every setting by name."""
        kinds: tuple[Any, ...] = self.reading, self.network, self.recipe
        fields = [field for kind in kinds for field in dataclasses.fields(kind)]
        return {field.name: field for field in fields if field.name not in self.given}

    def names(self) -> set[str]:
        """Return the names of all settings and places."""
        return {*self.fields(), *self.places}

    def split(self, settings: Mapping[str, Any]) -> RunParts:
        """Split settings by what they are for."""
        rest = dict(settings)
        names = [kind.names() - self.given for kind in (self.reading, self.network, self.recipe)]
        reading, network, recipe, places = (
            {name: rest.pop(name) for name in list(rest) if name in having} for having in (*names, self.places)
        )
        return RunParts(reading, network, recipe, places, rest)

    def variant(self, settings: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Return (the task that these settings ask for in place of this one, or None; the settings without that)."""
        return None, dict(settings)
