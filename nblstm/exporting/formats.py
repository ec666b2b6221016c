"""The formats, and what each asks of a kind of model; each kind says it in the file of its task's name beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nblstm.errors import ConfigError

FORMATS = {"c": ".h", "py": ".py", "html": ".html", "onnx": ".onnx"}  # format -> the ending of its files


class HeaderParts(NamedTuple):
    """What a kind's C header has beside the network: declarations, how text becomes tokens, what is behind a step."""

    head: dict[str, str]  # what `c_source.FRAME` is filled with
    text: list[str]
    behind: list[str]


@dataclass(frozen=True)
class ExportedKind:
    """What each format has for a kind of model; where it is None the format does not hold it."""

    model: type
    c: Any = None  # (plan, what is filled in) -> HeaderParts
    py: Any = None  # (what stands on top of the file, the code behind its network)
    html: Any = None  # (what a page shows, its script)
    onnx: Any = None  # (graph, named, config) -> metadata: adds all behind the tokens
    facts: tuple[str, ...] = ()  # settings that its files know, beside those of the network


def check_held(format: str, what: str, table: Mapping[str, Any], name: str) -> None:
    """Raise ConfigError unless a format has something for a name of the table, whose entries have a field a format."""
    own = table.get(name)
    if getattr(own, format, None):
        return
    held = ", ".join(other for other, each in table.items() if getattr(each, format))
    others = [other for other in FORMATS if getattr(own, other, None)]
    way_out = f"choose format {others[0]}, or train" if others else "train"
    raise ConfigError(f"format {format} has the {what} {held}, got {name}; {way_out} one of them.")
