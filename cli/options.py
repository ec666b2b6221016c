"""Options made from the configurations, which stay the only home of names, types and defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import click

from nblstm.config import BACKENDS, LEVELS, OPTIMIZERS, SCHEDULES, TOKENIZERS

MODEL = "model.safetensors"
CHOICES = {
    "level": LEVELS,
    "tokenizer": TOKENIZERS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "backend": BACKENDS,
}
TYPES = {"int": int, "float": float, "str": str}


def setting(config: type, name: str, text: str, *flags: str) -> Callable[[Any], Any]:
    """A click option for a field of a config. Left out, its value is None: see `given`.

    The field's default is shown in the help; where it is None, `text` says what happens without the option.
    """
    field = {field.name: field for field in dataclasses.fields(config)}[name]
    kind = field.type.split(" | ")[0]
    flag = "--" + name.replace("_", "-")
    if field.default is not None and kind != "bool":
        text = f"{text}  [default: {field.default}]"
    attributes: dict[str, Any] = {"default": None, "help": text}
    if kind == "bool":
        return click.option(f"{flag}/--no-{flag[2:]}", *flags, **attributes)
    attributes["type"] = click.Choice(CHOICES[name]) if name in CHOICES else TYPES[kind]
    return click.option(flag, *flags, **attributes)


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that the user gave."""
    return {name: value for name, value in settings.items() if value is not None}


def model_option(command: Any) -> Any:
    """-m, --model: the model file a command reads."""
    return click.option(
        "-m", "--model", "path", default=MODEL, show_default=True, metavar="FILE", help="Model file."
    )(command)
