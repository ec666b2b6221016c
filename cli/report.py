"""nblstm report: a model file -> one HTML page about it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from nblstm.cli.models import trained_model
from nblstm.cli.names import Command
from nblstm.cli.options import ENCODING, FILE, model_option, run_setting
from nblstm.cli.outputs import check_replaceable, write
from nblstm.cli.shown import say

from nblstm.config import DOCUMENTS
from nblstm.errors import ConfigError, ReportError

REPORTS = {  # task -> module and name of what makes its report, and of what renders it
    "language": (("report", "make_report"), ("page", "render")),
    "masked": (("masked_report", "make_masked_report"), ("page", "render")),
    "classification": (("classifier_report", "make_classifier_report"), ("classifier_page", "classifier_page")),
    "tagging": (("tagger_report", "make_tagger_report"), ("tagger_page", "tagger_page")),
    "translation": (("translator_report", "make_translator_report"), ("translator_page", "translator_page")),
}
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
    "--documents",
    type=click.Choice(DOCUMENTS),
    help="What a document is in the texts, for a model trained on documents.  [default: as in training, or line]",
)
@run_setting("text_column", "Of a classifier's CSV file with a header: the column of the texts.")
@run_setting("label_column", "And the column of the labels.")
@run_setting("token_column", "Of a tagger's file: the column of the words, from 1 on, or from -1 backwards.")
@run_setting("tag_column", "And the column of the tags.")
@click.option("--target", metavar="FILE", type=FILE, help="Of a translator: the targets of --text, line by line.")
@click.option("--encoding", type=ENCODING, help="Encoding of the texts.  [default: as in training, or utf-8]")
@click.option("--demo", is_flag=True, help="The text it was trained on is that of nblstm train --demo.")
@click.pass_context
def command(context: click.Context, model: str, output: str, demo: bool, **settings: Any) -> None:
    """Write one HTML page about a model: what it is, learned, writes and looks at, and what to do next.

    The page needs no network and no other file. It shows the loss curves if the run's .metrics.csv is beside the model,
    and with the training text and an unseen one how well it fits, whether it copies, and what surprises it. (A model that
    reads both ways writes nothing: its page has no samples.) Of a classifier it shows, with labelled texts (--text), the
    confusion matrix, the calibration and which words moved a decision; of a translator, with pairs (--text), how good it
    is and where its words came from; of a tagger, with tagged words (--text), what it finds, confuses and misses. An HTML
    page that is at the output is replaced; any other file there is left alone.
    """
    from nblstm.reporting.history import read_history
    from nblstm.reporting.metrics import read_metrics
    from nblstm.tasks.outputs import history_path, metrics_path
    from nblstm.text.demo import DEMO

    if demo and settings["corpus"]:
        raise ConfigError("--demo brings its own text; leave out --corpus.")
    check_replaceable(output, *HTML)
    loaded = trained_model(model)
    make, render, takes = _report_of(loaded)
    if demo and "corpus" not in takes:
        raise ConfigError("--demo is not for models of this task; leave it out.")
    settings["corpus"] = (DEMO,) if demo else settings["corpus"]
    if "history" in takes:
        settings["history"] = _beside(model, history_path, read_history, "samples of its training")
    for name in settings.keys() - takes:
        if context.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
            raise ConfigError(f"--{name.replace('_', '-')} is not for models of this task; leave it out.")
    asked = {name: value for name, value in settings.items() if name in takes and value is not None}
    asked["metrics"] = _beside(model, metrics_path, read_metrics, "loss curves")
    report = make(model, loaded, on_message=lambda message: say(message, err=True), **asked)
    write(output, render(report))


def _report_of(model: Any) -> tuple[Callable[..., Any], Callable[[Any], str], set[str]]:
    """Return what makes the report of a model, what renders it, and the options that it takes."""
    from nblstm.tasks.registry import task_of

    task = task_of(type(model.config))
    if task not in REPORTS:
        raise ConfigError(f"there is no report about a model of task {task}.")
    make, render = (getattr(import_module(f"nblstm.reporting.{module}"), name) for module, name in REPORTS[task])
    return make, render, set(signature(make).parameters)


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
