"""nblstm report: a model file -> one HTML page about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from nblstm.cli.models import text_model
from nblstm.cli.names import Command
from nblstm.cli.options import ENCODING, FILE, model_option
from nblstm.cli.outputs import check_replaceable, write
from nblstm.cli.shown import say

from nblstm.config import DOCUMENTS
from nblstm.errors import ConfigError, ReportError

HTML = (("<!doctype html",), "an HTML page")


@click.command("report", cls=Command)
@model_option
@click.option("--corpus", multiple=True, metavar="FILE", type=FILE, help="A text it was trained on (repeatable).")
@click.option(
    "--text", metavar="FILE", type=FILE, help="A text it has not seen; else what training kept of the corpus."
)
@click.option(
    "-o", "--output", default="report.html", show_default=True, metavar="FILE", type=FILE, help="Page; - is stdout."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the samples.")
@click.option("-n", type=click.IntRange(1, 100_000), default=300, show_default=True, help="Tokens of each sample.")
@click.option(
    "--documents", type=click.Choice(DOCUMENTS),
    help="What a document is in the texts, for a model trained on documents.  [default: as in training, or line]",
)  # fmt: skip
@click.option("--encoding", type=ENCODING, help="Encoding of the texts.  [default: as in training, or utf-8]")
@click.option("--demo", is_flag=True, help="The text it was trained on is that of nblstm train --demo.")
def command(
    model: str, corpus: tuple[str, ...], text: str | None, output: str, seed: int, n: int, documents: str | None,
    encoding: str | None, demo: bool,
) -> None:  # fmt: skip
    """Write one HTML page about a model: what it is, learned, writes and looks at, and what to do next.

    The page needs no network and no other file. It shows the loss curves if the run's .metrics.csv is beside the model,
    and with the training text and an unseen one how well it fits, whether it copies, and what surprises it. An HTML
    page that is at the output is replaced; any other file there is left alone.
    """
    from nblstm.reporting.history import read_history
    from nblstm.reporting.metrics import read_metrics
    from nblstm.reporting.page import render
    from nblstm.reporting.report import make_report
    from nblstm.tasks.session import history_path, metrics_path
    from nblstm.text.demo import DEMO

    if demo and corpus:
        raise ConfigError("--demo brings its own text; leave out --corpus.")
    check_replaceable(output, *HTML)
    loaded = text_model(model)
    told = lambda message: say(message, err=True)
    report = make_report(
        model, loaded, corpus=(DEMO,) if demo else corpus, text=text, encoding=encoding, documents=documents, seed=seed,
        n=n, metrics=_beside(model, metrics_path, read_metrics, "loss curves"),
        history=_beside(model, history_path, read_history, "samples of its training") or (), notify=told,
    )  # fmt: skip
    write(output, render(report))


def _beside(model: str, place: Callable[[Path], Path], read: Callable[[Path], Any], what: str) -> Any:
    """Read what a run has left beside its model, if there is any; say so where it cannot be read."""
    path = place(Path(model))
    if not path.exists():
        return None
    try:
        return read(path)
    except ReportError as error:
        say(f"no {what}: {error}", err=True)
        return None
