"""nblstm sample: a model file -> text."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import click
from nblstm.cli.beam import beam_config, beam_options, write_beam
from nblstm.cli.escapes import escape_option, unescaped
from nblstm.cli.models import rounded, writer
from nblstm.cli.names import Command
from nblstm.cli.options import (
    FILE,
    LOGIT_BIAS,
    TEMPERATURES,
    echo_json,
    filter_options,
    given,
    model_option,
    setting,
    weights_option,
)
from nblstm.cli.outputs import check_folder
from nblstm.cli.shown import echo, safe_text, say

from nblstm.config import SampleConfig
from nblstm.errors import ConfigError, NblstmError


@click.command("sample", cls=Command)
@model_option
@setting(SampleConfig, "n", "Tokens to write at most; the prompt is not counted.", "-n")
@click.option("--prompt", metavar="TEXT", help="Text to go on from.")
@click.option(
    "--prompt-file", metavar="FILE", type=FILE, help="Go on from the text of a file, or - for standard input."
)
@click.option(
    "--context", metavar="TEXT", help="What to write to, of a model trained with --context-column: a label, say."
)
@click.option(
    "--echo/--no-echo", default=None, help="Write the prompt before the text.  [default: echo, except with -n 0]"
)
@escape_option
@click.option("--state", metavar="FILE", type=FILE, help="Go on from a state that --save-state wrote, then the prompt.")
@click.option("--save-state", metavar="FILE", type=FILE, help="Keep what the model remembers after the text.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text (repeatable).")
@click.option("--until-end", is_flag=True, help="Write until the model ends the text; only models of documents do.")
@click.option(
    "--temperature",
    type=TEMPERATURES,
    metavar="FLOAT[,FLOAT...]",
    help="Below 1 is safer, above 1 is bolder; 0 takes the most likely token. A text for each of several.  "
    f"[default: {SampleConfig.temperature}]",
)
@filter_options(SampleConfig)
@click.option(
    "--logit-bias",
    multiple=True,
    type=LOGIT_BIAS,
    metavar="TOKEN=NUMBER|FILE",
    help="Add a number to a token's logit, -100 to 100 (-100: it never comes); or a JSON file of such (repeatable).",
)
@setting(SampleConfig, "seed", "The same seed writes the same text; without one every text is new.")
@setting(SampleConfig, "num_samples", "Texts to write, side by side.")
@click.option(
    "--novel", multiple=True, metavar="CORPUS", type=FILE, help="Skip texts that stand in this corpus (repeatable)."
)
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Write to a new file.  [default: standard output]")
@click.option(
    "--json", "json", is_flag=True, help="Print a JSON object for each text: text, log_probability, tokens, seed."
)
@setting(SampleConfig, "backend", "What computes: NumPy, compiled kernels, or whichever is done first.")
@weights_option
@beam_options
def command(
    model: str, prompt: str | None, prompt_file: str | None, context: str | None, echo: bool | None,
    escape: bool, state: str | None, save_state: str | None, stop: tuple[str, ...], until_end: bool,
    logit_bias: tuple[dict[str, float], ...], novel: tuple[str, ...], output: str | None, json: bool,
    weights: str | None, **settings: Any,
) -> None:  # fmt: skip
    """Let a model write. Text goes to stdout as it is made, the prompt first.

    With --beam the most likely text is searched, which suits short texts that have an end; long ones repeat themselves.
    """
    if escape:
        prompt = None if prompt is None else unescaped(prompt, "--prompt")
        stop = tuple(unescaped(text, "--stop") for text in stop)
        logit_bias = tuple(
            {unescaped(token, "--logit-bias"): value for token, value in part.items()} for part in logit_bias
        )
    drawing_only = {"save_state": save_state, "until_end": until_end, "novel": novel, "logit_bias": logit_bias}
    search, scores = beam_config(settings, stop, drawing_only)
    temperatures = settings.pop("temperature") or (SampleConfig.temperature,)
    bias = {token: value for part in logit_bias for token, value in part.items()}
    configs = [SampleConfig(**given(settings), temperature=t, logit_bias=bias or None) for t in temperatures]
    config = configs[0]
    _check(config, prompt, prompt_file, save_state, novel, output, json, several=len(configs) > 1)
    text = _read((prompt_file,)) if prompt_file is not None else checked(prompt or "")
    loaded = rounded(writer(model), weights)
    read = text if context is None else _in_context(loaded, context, text, state, novel)
    warn_of_unknown(loaded, read)
    shown = text if (config.n > 0 if echo is None else echo) else ""
    before = None if state is None else loaded.load_state(state)
    corpus = _read(novel, apart=loaded.vocabulary.end_id is not None) if novel else None
    with _going_to(output):
        if search:
            return write_beam(loaded, read, shown, before, search, scores, json)
        for each in configs:
            if len(configs) > 1 and not json:
                sys.stdout.write(f"temperature {each.temperature:g}\n")
            asked = {**each.to_dict(), "state": before, "stop": stop, "until_end": until_end}
            _draw(loaded, read, shown, asked, corpus, save_state, json)


def _check(
    config: SampleConfig, prompt: str | None, prompt_file: str | None, save_state: str | None, novel: tuple[str, ...],
    output: str | None, json: bool, several: bool,
) -> None:  # fmt: skip
    """Raise ConfigError if the options contradict each other."""
    if prompt is not None and prompt_file is not None:
        raise ConfigError("give --prompt or --prompt-file, not both.")
    if save_state is not None and (novel or several or json or config.num_samples > 1):
        raise ConfigError("--save-state needs one text; leave out --num-samples, --novel, --json and temperatures.")
    if json and novel:
        raise ConfigError("--json tells probabilities, which --novel does not know; leave one of them out.")
    if output is not None:
        check_folder(output)
        if os.path.exists(output):
            raise ConfigError(f"{output} exists and is not replaced; choose another -o.")


def _in_context(model: Any, context: str, prompt: str, state: str | None, novel: tuple[str, ...]) -> str:
    """Return the prompt below its context. ConfigError for options that leave no place for one."""
    if state is not None or novel:
        raise ConfigError("--context begins a text of its own; leave out --state and --novel.")
    return model.in_context(context, prompt)


@contextmanager
def _going_to(output: str | None) -> Iterator[None]:
    """Let what is written to standard output in a block go to a new file, if there is one."""
    if output is None:
        yield
        return
    with open(output, "x", encoding="utf-8", newline="") as file, redirect_stdout(file):
        yield
    say(f"wrote {output} ({os.path.getsize(output) / 1000:.0f} kB)", err=True)


def _draw(
    model: Any, prompt: str, shown: str, asked: dict[str, Any], corpus: str | None, save_state: str | None, json: bool
) -> None:
    """Write the texts of one temperature. asked: arguments of `generate`. corpus: what must not hold them."""
    if json:
        for drawn in model.draw(prompt, **asked):
            facts = {"text": drawn.text, "log_probability": drawn.log_probability, "tokens": drawn.tokens}
            echo_json(facts | {"seed": drawn.seed, "temperature": asked["temperature"]}, indent=None)
    elif corpus is not None:
        _write_novel(model, prompt, shown, corpus, asked)
    elif asked["num_samples"] > 1:
        _write_all(model, shown, model.generate_many(prompt, **asked), asked["num_samples"])
    else:
        writing = model.generate(prompt, **asked)
        _stream(shown, writing)
        if save_state is not None:
            model.save_state(save_state, writing.state())


def _stream(shown: str, pieces: Any) -> None:
    """Write one text behind the shown prompt, as it is made."""
    safe = safe_text()
    sys.stdout.write(safe(shown))
    try:
        for piece in pieces:
            sys.stdout.write(safe(piece))
            sys.stdout.flush()
    finally:  # what ends it has a line of its own
        sys.stdout.write("\n")


def _write_all(model: Any, shown: str, texts: list[str], num_samples: int) -> None:
    """Write whole texts: those of a model of documents one below the other, others with a line between them."""
    safe = safe_text()
    for text in texts:
        echo(safe(shown + text))
        if model.vocabulary.end_id is None and num_samples > 1:
            echo("-" * 20)


def _write_novel(model: Any, prompt: str, shown: str, corpus: str, asked: dict[str, Any]) -> None:
    """Write texts that do not occur in the corpus. NblstmError after them if they are too few."""
    found = model.generate_novel(prompt, corpus=corpus, **asked)
    _write_all(model, shown, found.texts, asked["num_samples"])
    tried = found.skipped + len(found.texts)
    click.echo(f"{found.skipped:,} of {tried:,} texts stand in the corpus and were skipped.", err=True)
    if len(found.texts) < asked["num_samples"]:
        raise NblstmError(
            f"only {len(found.texts):,} of {asked['num_samples']:,} texts are novel; raise --temperature or -n, or ask "
            "for fewer."
        )


def _read(paths: tuple[str, ...], apart: bool = False) -> str:
    """Read the text of a prompt file or a corpus. apart: no line goes on from one file into the next."""
    from nblstm.text.reading import read_each, read_text

    if not apart:
        return "".join(read_text(paths))
    return "\n".join("".join(chunks) for _, chunks in read_each(paths, "char"))


def checked(prompt: str) -> str:
    """Return the prompt. ConfigError if it has bytes that are not text: Python makes lone surrogates of them."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise ConfigError("--prompt is not text in the terminal's encoding; use --prompt-file with UTF-8.") from None
    return prompt


def warn_of_unknown(model: Any, text: str) -> None:
    """Tell which tokens of the prompt the model has never seen."""
    unknown = model.vocabulary.unknown(text)
    if unknown:
        shown = ", ".join(repr(token) for token in unknown[:10]) + (", ..." if len(unknown) > 10 else "")
        click.echo(f"the model has never seen {shown} of the prompt; it reads <unk> instead.", err=True)
