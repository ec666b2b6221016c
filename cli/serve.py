"""nblstm serve: a model behind HTTP, as OpenAI's clients ask for completions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from nblstm.cli.models import writer
from nblstm.cli.names import Command
from nblstm.cli.options import given, model_option, setting
from nblstm.cli.shown import say

from nblstm.serving.config import ServeConfig


@click.command("serve", cls=Command)
@model_option
@setting(ServeConfig, "host", "Address to listen at; the default can be reached from this machine alone.")
@setting(ServeConfig, "port", "Port to listen at; 0 takes any that is free.")
@setting(ServeConfig, "max_tokens", "Most tokens of one request, of all its texts together.")
@setting(ServeConfig, "queue", "Requests at once; more are asked to come back.")
@setting(ServeConfig, "timeout", "Seconds a client may take to send a request, or to take in a piece of an answer.")
@setting(ServeConfig, "backend", "What computes: NumPy, compiled kernels, or the fastest there is.")
@click.option("-q", "--quiet", is_flag=True, help="Do not write a line for each request.")
def command(model: str, quiet: bool, **settings: Any) -> None:
    """Serve a model to programs and to browsers on this machine, until Ctrl-C.

    \b
    POST /v1/completions   what OpenAI's clients ask for
    GET  /v1/models        the model's name
    GET  /health           whether it is there
    GET  /                 a page to write with it
    """
    from nblstm.serving.server import CompletionServer

    config = ServeConfig(**given(settings))
    loaded = writer(model)
    tell = (lambda line: None) if quiet else (lambda line: say(line, err=True))
    with CompletionServer(loaded, Path(model).stem, config, tell) as server:
        say(f"serving {server.name} at {server.url} (Ctrl-C ends)", err=True)
        if not server.is_local:
            say("note: everyone who reaches this machine can use it; there is no password and no encryption.", err=True)
        server.serve_forever()
