"""nblstm warmup: compile the kernels ahead of their first use."""

from __future__ import annotations

import time

import click


@click.command("warmup")
def command() -> None:
    """Compile the kernels for this machine now, so that the next training starts at once."""
    from nblstm.training.warmup import warmup

    started = time.perf_counter()
    warmup()
    click.echo(f"the kernels are ready ({time.perf_counter() - started:.1f} s).", err=True)
