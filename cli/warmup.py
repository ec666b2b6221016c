"""nblstm warmup: compile the kernels ahead of their first use."""

from __future__ import annotations

import time

import click
from nblstm.cli.names import Command
from nblstm.cli.options import given, setting

from nblstm.config import StackConfig


@click.command("warmup", cls=Command)
@setting(StackConfig, "cell", "Whose kernels: those of one cell.")
@setting(StackConfig, "nonlinearity", "Of an rnn.")
def command(**settings: str | None) -> None:
    """Compile the kernels for this machine now, so that the next training starts at once."""
    from nblstm.tasks.warmup import warmup

    started = time.perf_counter()
    warmup(**given(settings))
    click.echo(f"the kernels are ready ({time.perf_counter() - started:.1f} s).", err=True)
