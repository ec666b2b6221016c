"""nblstm quantize: a model file -> the same with small integers for its matrices."""

from __future__ import annotations

import os

import click
from nblstm.cli.models import rounded, trained_model
from nblstm.cli.names import Command
from nblstm.cli.options import ENCODING, FILE, MODEL
from nblstm.cli.shown import say

from nblstm.errors import ConfigError


@click.command("quantize", cls=Command)
@click.argument("model", default=MODEL, metavar="[MODEL]", type=FILE)
@click.option("-o", "--output", required=True, metavar="FILE", type=FILE, help="Model file to write.")
@click.option("--check", metavar="TEXT", type=FILE, help="Say the loss on this text file before and after rounding.")
@click.option("--encoding", type=ENCODING, default="utf-8", show_default=True, help="Encoding of the text file.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
def command(model: str, output: str, check: str | None, encoding: str, overwrite: bool) -> None:
    """Round a language model's weights to int8: a quarter of the file, and texts that are written faster.

    \b
    nblstm quantize model.safetensors -o small.safetensors --check valid.txt
    nblstm sample -m small.safetensors
    """
    from nblstm.reporting.durations import size_text
    from nblstm.tasks.registry import run_of_model

    if os.path.exists(output) and not overwrite:
        raise ConfigError(f"{output} exists; name another -o, or replace it with --overwrite.")
    loaded, before = trained_model(model), os.path.getsize(model)
    made = rounded(loaded, "int8")
    check_on = None if check is None else run_of_model(loaded).yardstick(loaded, check, encoding)
    made.save(output)
    say(f"saved       {output}: int8, {size_text(os.path.getsize(output))}, before {size_text(before)}")
    if loaded.statistics is not None:
        say("note        its gradient statistics are left out; nblstm adapt-prepare makes them again.")
    if check_on is not None:
        say(check_on.compare(loaded, made))
