"""Options made from the configurations, which stay the only home of names, types and defaults."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import click
from nblstm.cli.shown import echo

from nblstm import config as settings
from nblstm.errors import ConfigError

MODEL = "model.safetensors"
CHOICES = {  # setting -> the name of its choices in nblstm.config
    "cell": "CELLS",
    "nonlinearity": "NONLINEARITIES",
    "head": "HEADS",
    "level": "LEVELS",
    "tokenizer": "TOKENIZERS",
    "newline": "NEWLINES",
    "documents": "DOCUMENTS",
    "optimizer": "OPTIMIZERS",
    "schedule": "SCHEDULES",
    "backend": "BACKENDS",
    "device": "DEVICES",
    "precision": "PRECISIONS",
    "wire": "WIRES",
    "until": "UNTIL",
    "on_divergence": "ON_DIVERGENCE",
}
TYPES = {"int": int, "float": float, "str": str}
FILTERS = {  # setting -> its help, and another flag
    "top_k": ("Draw from the k most likely tokens; 0 draws from all.",),
    "top_p": ("Draw from the most likely tokens that together have this probability.",),
    "min_p": ("Draw from tokens at least this times as likely as the most likely.",),
    "typical_p": ("Draw from the tokens of most typical surprise, together this likely.", "--typical"),
    "repetition_penalty": ("Above 1 makes tokens that were there less likely.",),
    "presence_penalty": ("What the logit of a token loses that was there.",),
    "frequency_penalty": ("What it loses for each time that the token was there.",),
    "repetition_window": ("Tokens that the penalties look back; 0 looks at all.",),
    "no_repeat_ngram": ("Never write the same so many tokens in a row twice; 0 may.",),
}


class _Encoding(click.ParamType):
    """The name of a text encoding that Python knows."""

    name = "encoding"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            "a".encode(value)
        except (LookupError, ValueError):
            self.fail(f"{value!r} is no encoding that Python knows; utf-8 and latin-1 are.", param, ctx)
        return value


class _File(click.ParamType):
    """The name of a file or folder, which shells complete. What is there is looked at by what reads or writes it."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem  # what only a shell that completes a line needs

        return [CompletionItem(incomplete, type="file")]


class _Weights(_File):
    """A file with a JSON object of numbers, or one of the words that stand for some."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float] | str:
        from nblstm.text.sources import regular

        if value in self.words:
            return value
        try:
            with open(value, encoding="utf-8", opener=regular) as file:
                weights = json.load(file, object_pairs_hook=functools.partial(self._unique, value, param, ctx))
        except OSError as error:
            self.fail(f"{value} cannot be read: {error.strerror}.", param, ctx)
        except (ValueError, RecursionError):
            weights = None
        if not isinstance(weights, dict):
            self.fail(f'{value} must hold a JSON object such as {{"e": 0.5}}.', param, ctx)
        return weights

    def _unique(self, file: str, param: Any, ctx: Any, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Return the object of a file; of a name that is given twice one value would be lost."""
        found = dict(pairs)
        if len(found) < len(pairs):
            [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
            self.fail(f"{file} names {twice!r:.40} twice; leave one out.", param, ctx)
        return found


class _Temperatures(click.ParamType):
    """One temperature, or several with commas between them."""

    name = "float[,float...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(map(float, value.split(",")))
        except ValueError:
            self.fail(f"{value!r} is not a valid float, nor several such as 0.5,0.8,1.", param, ctx)


class _LogitBias(_Weights):
    """TOKEN=NUMBER, or a file with a JSON object of such."""

    name = "bias"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, dict):
            return value
        token, sign, number = value.rpartition("=")
        try:
            return {token: float(number)} if sign and token else super().convert(value, param, ctx)
        except ValueError:
            return super().convert(value, param, ctx)


TEMPERATURES, LOGIT_BIAS = _Temperatures(), _LogitBias()
ENCODING, FILE, TOKEN_WEIGHTS, CLASS_WEIGHTS = _Encoding(), _File(), _Weights(), _Weights("balanced")


def _type_of(name: str, kind: str) -> Any:
    """Return the click type of a setting: its choices, where it has some, else that of its kind of value."""
    if name == "encoding":
        return ENCODING
    return click.Choice(getattr(settings, CHOICES[name])) if name in CHOICES else TYPES[kind]


def setting(config: type, name: str, text: str, *flags: str) -> Callable[[Any], Any]:
    """Return a click option for a field of a config. Left out, its value is None: see `given`.

    The field's default is shown in the help; where it is None, `text` says what happens without the option.
    """
    field = {field.name: field for field in dataclasses.fields(config)}[name]
    return _option(field, f"{text}{_default(field, 'default')}", flags)


def run_setting(
    name: str, text: str, type: Any = None, flags: tuple[str, ...] = (), **attributes: Any
) -> Callable[[Any], Any]:
    """Return a click option for a setting of runs, as `setting` does. Defaults are shown of each task that differs."""
    from nblstm.tasks.registry import RUNS, settings_of, verb_of

    fields: dict[str, dataclasses.Field] = {}
    for task in RUNS:
        if (field := settings_of(task).fields().get(name)) is not None:
            fields.setdefault(verb_of(task), field)
    first, *others = fields.items()
    text += _default(first[1], "default")
    text += "".join(_default(field, verb) for verb, field in others if field.default != first[1].default)
    return _option(first[1], text, flags, type, **attributes)


def _default(field: dataclasses.Field, word: str) -> str:
    """Tell the default of a field, where it has one that can be told in its help."""
    if field.default is None or _kind(field) == "bool":
        return ""
    return f"  [{word}: {field.default}]"


def _kind(field: dataclasses.Field) -> str:
    """Return the type that an option's word is made, by name."""
    return str(field.type).split(" | ")[0]


def _option(field: dataclasses.Field, text: str, flags: tuple[str, ...], type: Any = None, **attributes: Any) -> Any:
    """Make the option of a field."""
    flag = "--" + field.name.replace("_", "-")
    attributes = {"default": None, "help": text, **attributes}
    if _kind(field) == "bool":
        return click.option(f"{flag}/--no-{flag[2:]}", *flags, **attributes)
    attributes["type"] = type or _type_of(field.name, _kind(field))
    return click.option(flag, *flags, **attributes)


def filter_options(config: type) -> Callable[[Any], Any]:
    """Return the options of how a token is drawn, but for the temperature, of a config that has them: FILTERS."""

    def add(command: Any) -> Any:
        for name, (text, *flags) in reversed(FILTERS.items()):
            command = setting(config, name, text, *flags)(command)
        return command

    return add


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the user gave; a repeatable one that he did not is ()."""
    return {name: value for name, value in settings.items() if value is not None and value != ()}


def model_option(command: Any) -> Any:
    """Add the model file that a command reads: as its argument, or behind -m, --model. It gets one of them as `model`."""

    @functools.wraps(command)
    def chosen(*args: Any, model: str | None, model_argument: str | None, **others: Any) -> Any:
        if None not in (model, model_argument) and model != model_argument:
            raise ConfigError(f"name one model, not {model_argument} and -m {model}.")
        named = [path for path in (model, model_argument) if path is not None]  # "" may be a variable that is not set
        return command(*args, model=named[0] if named else MODEL, **others)

    return model_flag(click.argument("model_argument", required=False, metavar="[MODEL]", type=FILE)(chosen))


def model_flag(command: Any) -> Any:
    """Add -m, --model alone; None without it."""
    text = f"Model file.  [default: {MODEL}]"
    return click.option("-m", "--model", "model", metavar="FILE", type=FILE, help=text)(command)


def scoring_options(command: Any) -> Any:
    """Add the options of every command that scores: how files are read, and what computes."""
    options = [
        click.option("--encoding", type=ENCODING, default="utf-8", show_default=True, help="Encoding of the files."),
        click.option(
            "--backend", type=_type_of("backend", "str"), default="auto", show_default=True,
            help="What computes: NumPy, compiled kernels, or whichever is done first.",
        ),
        click.option("--threads", type=click.IntRange(0, 4096), default=0, help="Threads; 0 means every core."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def weights_option(command: Any) -> Any:
    """Add --weights: what a language model's weights are rounded to once they are read; None leaves them."""
    text = "Round a language model's weights first, in memory; nblstm quantize keeps them so."
    return click.option("--weights", type=click.Choice(("int8",)), help=text)(command)


LEARN = "Dynamic evaluation: learn from each segment once it is scored."
LEARN_LINES = "Learn from each line as it ends."


def adapt_options(command: Any, text: str = LEARN) -> Any:
    """Add the options of learning while reading; the command gets them as `adapt`, None without --adapt."""

    options = [
        click.option(
            "--adapt", is_flag=False, flag_value="auto", type=click.Choice(("auto", "rms", "sgd")),
            help=f"{text} rms needs nblstm adapt-prepare.",
        ),
        click.option("--adapt-rate", type=float, help="With --adapt: size of an update."),
        click.option("--adapt-decay", type=float, help="With --adapt: pull back to the trained weights, an update."),
        click.option("--adapt-segment", type=int, help="With --adapt: tokens between two updates.  [default: 20]"),
    ]  # fmt: skip
    return _with_parts(command, "adapt", "rule", ("rate", "decay", "segment"), options)


def cache_options(command: Any) -> Any:
    """Add the options of a neural cache; the command gets them as `cache`, None without --cache."""

    options = [
        click.option(
            "--cache", type=int, metavar="N",
            help="Neural cache, of models of words or sub-words: the last N tokens come again more easily.",
        ),
        click.option("--cache-theta", type=float, help="With --cache: how much likeness to the present counts."),
        click.option("--cache-share", type=float, help="With --cache: its share of the probability, lambda."),
    ]  # fmt: skip
    return _with_parts(command, "cache", "size", ("theta", "share"), options)


def _with_parts(command: Any, name: str, field: str, parts: tuple[str, ...], options: list[Any]) -> Any:
    """Add an option and those that only go with it; the command gets them as a dict called `name`, or None.

    field: what the option's own value is called in the dict. parts: the others, --NAME-PART, that were given.
    """

    @functools.wraps(command)
    def chosen(*args: Any, **others: Any) -> Any:
        value, rest = others.pop(name), given({part: others.pop(f"{name}_{part}") for part in parts})
        if value is None and rest:
            raise ConfigError(f"--{name}-{next(iter(rest))} needs --{name}.")
        return command(*args, **{name: None if value is None else {field: value, **rest}}, **others)

    for option in reversed(options):
        chosen = option(chosen)
    return chosen


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
