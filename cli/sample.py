"""nblstm sample: a model file -> text."""

from __future__ import annotations

import sys
from typing import Any

import click

from nblstm.cli.options import given, model_option, setting
from nblstm.config import SampleConfig
from nblstm.errors import ConfigError


@click.command("sample")
@model_option
@setting(SampleConfig, "n", "Tokens to write; the prompt is not counted.", "-n")
@click.option("--prompt", metavar="TEXT", help="Text to go on from.")
@click.option("--prompt-file", metavar="FILE", help="Go on from the text of a file, or - for standard input.")
@setting(SampleConfig, "temperature", "Below 1 is safer, above 1 is bolder; 0 takes the most likely token.")
@setting(SampleConfig, "top_k", "Draw from the k most likely tokens; 0 draws from all.")
@setting(SampleConfig, "seed", "The same seed writes the same text; without one every text is new.")
@setting(SampleConfig, "num_samples", "Texts to write, side by side.")
@setting(SampleConfig, "backend", "What computes: NumPy, compiled kernels, or whichever is done first.")
def command(model: str, prompt: str | None, prompt_file: str | None, **settings: Any) -> None:
    """Let a model write. Text goes to stdout as it is made, the prompt first."""
    from nblstm.language_model import load

    config = SampleConfig(**given(settings))
    if prompt is not None and prompt_file is not None:
        raise ConfigError("give --prompt or --prompt-file, not both.")
    text = _read(prompt_file) if prompt_file is not None else _checked(prompt or "")
    loaded = load(model)
    _warn_of_unknown(loaded, text)
    asked = config.to_dict()
    if config.num_samples > 1:
        for written in loaded.generate_many(text, **asked):
            click.echo(text + written)
            click.echo("-" * 20)
        return
    del asked["num_samples"]
    sys.stdout.write(text)
    for piece in loaded.generate(text, **asked):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _read(path: str) -> str:
    """The text of a prompt file."""
    from nblstm.text.corpus import read_text

    return "".join(read_text([path]))


def _checked(prompt: str) -> str:
    """The prompt. ConfigError if it has bytes that are not text: Python makes lone surrogates of them."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise ConfigError("--prompt is not text in the terminal's encoding; use --prompt-file with UTF-8.") from None
    return prompt


def _warn_of_unknown(model: Any, text: str) -> None:
    """Tell which tokens of the prompt the model has never seen."""
    unknown = model.vocabulary.unknown(text)
    if unknown:
        shown = ", ".join(repr(token) for token in unknown[:10]) + (", ..." if len(unknown) > 10 else "")
        click.echo(f"the model has never seen {shown} of the prompt; it reads <unk> instead.", err=True)
