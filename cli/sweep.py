"""nblstm sweep: a run for every combination of settings -> a table of their losses, and their curves."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem
from nblstm.cli import train
from nblstm.cli.options import FILE, echo_json, given, json_option
from nblstm.cli.outputs import check_replaceable, write
from nblstm.cli.shown import say
from nblstm.cli.signals import exit_code
from nblstm.cli.spelling import in_options
from nblstm.cli.train_shown import RunShown, doubts

from nblstm.errors import ConfigError
from nblstm.tasks.registry import RUNS, settings_of

LINE = "nblstm.line"  # in a context's meta: the command as it was typed
SVG = (("<svg", "<?xml"), "an SVG")
CHART = "loss.svg"  # in the folder
CURVES = 8  # that have colours of their own
WHOLE = {  # options that are one value, commas and all
    "valid", "source", "target", "valid_source", "valid_target", "vectors", "token_weights", "class_weights", "buckets",
    "include", "encoding", "text_column", "label_column", "context_column",
}  # fmt: skip


class _Values(click.ParamType):
    """Values with commas between them, as a tuple. one: the type of each."""

    def __init__(self, one: click.ParamType) -> None:
        self.one, self.name = one, f"{one.name},..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in value.split(",")]
        if "" in words:
            self.fail(f"{value!r} lacks a value beside a comma; write it as in 1,2,3.", param, ctx)
        return tuple(self.one.convert(word, param, ctx) for word in words)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        found = self.one.shell_complete(ctx, param, last)
        return [CompletionItem(before + comma + item.value, type=item.type) for item in found]


class _Sweep(train.TrainCommand):
    """The command, with the settings of train; it knows the line that it was given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[LINE] = shlex.join(["nblstm", "sweep", *args])
        return super().parse_args(ctx, args)


def _settings() -> list[click.Option]:
    """Make the options: train's settings, those that are no WHOLE taking several values."""
    names = {name for task in RUNS for name in settings_of(task).names()} | {"task"}
    options = [param for param in train.command.params if isinstance(param, click.Option) and param.name in names]
    return [option if option.name in WHOLE | {"task"} else _swept(option) for option in options]


def _swept(option: click.Option) -> click.Option:
    """Make an option of several values of one of train's; a switch becomes one of yes and no."""
    one = click.BOOL if option.is_flag else option.type
    if option.is_flag:
        metavar = "[yes|no],..."
    elif isinstance(one, click.Choice):
        metavar = f"[{'|'.join(map(str, one.choices))}],..."
    else:
        metavar = f"{option.metavar or one.name.upper()},..."
    return click.Option([str(option.name), *option.opts], type=_Values(one), metavar=metavar, help=option.help)


@click.command("sweep", cls=_Sweep)
@click.argument("corpus", nargs=-1, metavar="CORPUS...", type=FILE)
@click.option(
    "-o", "--output", default="sweep", show_default=True, metavar="FOLDER", type=FILE, help="Folder of the runs."
)
@click.option("-q", "--quiet", is_flag=True, help="Print the table and errors only.")
@json_option
def command(
    corpus: tuple[str, ...], output: str, task: str | None, valid: tuple[str, ...], quiet: bool, json: bool,
    **settings: Any,
) -> int:  # fmt: skip
    """Train a model for every combination of settings, one after the other, and compare their validation losses.

    Settings are those of train; several values stand with commas between them. The same command again goes on where it
    was stopped: runs that are done are not repeated.

    \b
    nblstm sweep corpus.txt --hidden-size 128,256 --dropout 0.2,0.4 --minutes 3
    """
    from nblstm.cli.progress import Progress

    from nblstm.tasks.sweep import Sweep

    asked, context = given(settings), click.get_current_context()
    if not corpus and "source" not in asked:
        raise ConfigError("name the text to train on.")
    vary = {name: values for name, values in asked.items() if name not in WHOLE and len(values) > 1}
    fixed = {name: value if name in WHOLE else value[0] for name, value in asked.items() if name not in vary}
    sweep = Sweep(corpus, output, vary, valid=valid, task=task, **fixed)
    if sweep.folder.exists():
        check_replaceable(str(sweep.folder / CHART), *SVG)
    progress = Progress(sys.stderr, quiet)
    shown = _SweepShown(sweep, progress)
    stopped = False
    try:
        sweep.run(
            shown.begin, shown.start, shown.report, shown.end,
            lambda message: progress.line(in_options(message, context.command)), shown.stop,
        )  # fmt: skip
    except KeyboardInterrupt:
        stopped = True
    finally:
        shown.close()
    _conclude(sweep, quiet, json)
    if stopped:
        progress.line(f"stopped with {len(sweep.done())} of {len(sweep.runs)} runs done; go on with:")
        progress.line(context.meta[LINE])
        return exit_code()
    return 0


class _SweepShown:
    """Shows the runs, each as train does, below a line that names it."""

    def __init__(self, sweep: Any, progress: Any) -> None:
        self.sweep, self.progress, self.run = sweep, progress, RunShown(progress)
        if done := len(sweep.done()):
            progress.line(f"{done} of {len(sweep.runs)} runs are done")

    def begin(self, number: int, one: Any) -> None:
        """Name the run that begins."""
        values = ", ".join(f"{head} {value}" for head, value in _varied(one).items())
        self.progress.line(f"run {number} of {len(self.sweep.runs)}: {values}")
        self.run = RunShown(self.progress)

    def start(self, session: Any) -> None:
        """Tell what is trained on what."""
        self.run.start(session)

    def report(self, report: Any) -> None:
        """Show a report."""
        self.run.render(report)

    def end(self, session: Any) -> None:
        """Tell how good the model has become, and what speaks against it."""
        self.run.end()
        if session.trainer.best_measures:
            self.progress.line(f"best    valid {session.task.best(session.trainer.best_measures)}")
        for warning in doubts(session, False):
            self.progress.line(f"warning {warning}")

    def stop(self) -> bool:
        """Stop for a signal, as train does."""
        return self.run.stop()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self.run.end()


def _varied(one: Any) -> dict[str, str]:
    """Return the values in which a run differs from the others, by option, as they are typed."""
    from nblstm.tasks.sweep import swept_value

    return {name.replace("_", "-"): swept_value(value) for name, value in one.varied.items()}


def _conclude(sweep: Any, quiet: bool, json: bool) -> None:
    """Print the table of the runs that are done, and draw the curves of the best of them."""
    done = sweep.done()
    if json:
        echo_json({"asked": len(sweep.runs), "runs": [_facts(one, sweep.records[one.name]) for one in done]})
    elif done:
        _table(sweep, done)
    measured = [one for one in done if sweep.records[one.name]["measures"]]
    if measured:
        _draw(sweep, measured, quiet)


def _draw(sweep: Any, measured: Sequence[Any], quiet: bool) -> None:
    """Draw the curves of the best of these runs."""
    from nblstm.reporting.charts import standalone
    from nblstm.reporting.curves import loss_chart
    from nblstm.reporting.metrics import read_metrics
    from nblstm.tasks.outputs import metrics_path

    runs = [read_metrics(metrics_path(one.output)) for one in measured[:CURVES]]
    title = f"the best {len(runs)} of {len(measured)} runs" if len(runs) < len(measured) else ""
    write(str(sweep.folder / CHART), standalone(loss_chart(runs, title=title, unit=sweep.kind.UNIT)), quiet)


def _facts(one: Any, record: dict[str, Any]) -> dict[str, Any]:
    """Return what a run has come to, for programs."""
    return {
        "settings": one.varied, "valid_loss": record["measures"].get("loss"), "measures": record["measures"],
        "epochs": record["epochs"], "steps": record["steps"], "seconds": record["seconds"], "state": record["state"],
        "file": str(one.output),
    }  # fmt: skip


def _table(sweep: Any, done: Sequence[Any]) -> None:
    """Print the runs, the best first: numbers below their columns, to the right, and files behind them."""
    measures = sweep.kind.MEASURES
    heads = [*_varied(done[0]), "valid loss", *(name.replace("_", " ") for name in measures), "epochs", "seconds"]
    rows = []
    for one in done:
        record = sweep.records[one.name]
        found = record["measures"]
        rows.append([
            *_varied(one).values(), f"{found['loss']:.4f}" if "loss" in found else record["state"],
            *(said(found[name]) if name in found else "" for name, said in measures.items()),
            f"{record['epochs']:.2f}", f"{record['seconds']:.1f}",
        ])  # fmt: skip
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    for cells, file in zip([heads, *rows], ["file", *(one.output for one in done)]):
        say("  ".join([*(f"{cell:>{width}}" for cell, width in zip(cells, widths)), str(file)]))


command.params += _settings()
