"""Options made from the configurations, which stay the only home of names, types and defaults."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import click
from nblstm.cli.shown import echo

from nblstm.config import (
    BACKENDS,
    CELLS,
    DEVICES,
    DOCUMENTS,
    HEADS,
    LEVELS,
    NONLINEARITIES,
    ON_DIVERGENCE,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    TOKENIZERS,
    UNTIL,
)

MODEL = "model.safetensors"
CHOICES = {
    "cell": CELLS,
    "nonlinearity": NONLINEARITIES,
    "head": HEADS,
    "level": LEVELS,
    "tokenizer": TOKENIZERS,
    "documents": DOCUMENTS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "backend": BACKENDS,
    "device": DEVICES,
    "precision": PRECISIONS,
    "until": UNTIL,
    "on_divergence": ON_DIVERGENCE,
}
TYPES = {"int": int, "float": float, "str": str}


class _Encoding(click.ParamType):
    """The name of a text encoding that Python knows."""

    name = "encoding"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            "a".encode(value)
        except (LookupError, ValueError):
            self.fail(f"{value!r} is no encoding that Python knows; utf-8 and latin-1 are.", param, ctx)
        return value


class _TokenWeights(click.ParamType):
    """A file with a JSON object of numbers."""

    name = "file"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        try:
            with open(value, encoding="utf-8") as file:
                weights = json.load(file)
        except OSError as error:
            self.fail(f"{value} cannot be read: {error.strerror}.", param, ctx)
        except (ValueError, RecursionError):
            weights = None
        if not isinstance(weights, dict):
            self.fail(f'{value} must hold a JSON object such as {{"e": 0.5}}.', param, ctx)
        return weights


ENCODING, TOKEN_WEIGHTS = _Encoding(), _TokenWeights()
NAMED_TYPES = {"encoding": ENCODING, **{name: click.Choice(choices) for name, choices in CHOICES.items()}}


def setting(config: type, name: str, text: str, *flags: str) -> Callable[[Any], Any]:
    """Return a click option for a field of a config. Left out, its value is None: see `given`.

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
    attributes["type"] = NAMED_TYPES.get(name) or TYPES[kind]
    return click.option(flag, *flags, **attributes)


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the user gave."""
    return {name: value for name, value in settings.items() if value is not None}


def model_option(command: Any) -> Any:
    """Add -m, --model: the model file that a command reads."""
    return click.option("-m", "--model", default=MODEL, show_default=True, metavar="FILE", help="Model file.")(command)


def scoring_options(command: Any) -> Any:
    """Add the options of every command that scores: how files are read, and what computes."""
    options = [
        click.option("--encoding", type=ENCODING, default="utf-8", show_default=True, help="Encoding of the files."),
        click.option(
            "--backend", type=click.Choice(BACKENDS), default="auto", show_default=True,
            help="What computes: NumPy, compiled kernels, or whichever is done first.",
        ),
        click.option("--threads", type=click.IntRange(0, 4096), default=0, help="Threads; 0 means every core."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def json_option(command: Any) -> Any:
    """Add --json: for programs."""
    return click.option("--json", "json", is_flag=True, help="Print JSON.")(command)


def echo_json(facts: dict[str, Any], indent: int | None = 2) -> None:
    """Print facts as JSON, which knows no nan and no infinity: they become null. indent None: on one line."""
    echo(json.dumps(_finite(facts), indent=indent))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
