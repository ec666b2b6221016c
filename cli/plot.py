"""nblstm plot: metrics of training runs -> a chart of their losses."""

from __future__ import annotations

import click
from nblstm.cli.names import Command
from nblstm.cli.options import FILE
from nblstm.cli.outputs import check_replaceable, write

AXES = ("step", "tokens", "seconds", "epoch")
SVG = (("<svg", "<?xml"), "an SVG")


@click.command("plot", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="METRICS.CSV...", type=FILE)
@click.option(
    "-o", "--output", default="loss.svg", show_default=True, metavar="FILE", type=FILE, help="SVG; - is stdout."
)
@click.option("--x", type=click.Choice(AXES), default="step", show_default=True, help="What the losses are drawn over.")
@click.option("--log-x", is_flag=True, help="Logarithmic x axis.")
@click.option("--log-y", is_flag=True, help="Logarithmic loss axis.")
@click.option("--whole", is_flag=True, help="Also losses far above most others, as those of the first updates are.")
@click.option("--title", default="", metavar="TEXT", help="Written above the chart.")
def command(files: tuple[str, ...], output: str, x: str, log_x: bool, log_y: bool, whole: bool, title: str) -> None:
    """Draw the training and validation losses of one or several runs as an SVG.

    Reads the .metrics.csv files that training writes beside its models, also while it is still running. An SVG that
    is at the output is replaced; any other file there is left alone.
    """
    from nblstm.reporting.charts import standalone
    from nblstm.reporting.curves import loss_chart
    from nblstm.reporting.metrics import read_metrics

    check_replaceable(output, *SVG)
    runs = [read_metrics(file) for file in files]
    write(output, standalone(loss_chart(runs, x, log_x=log_x, log_y=log_y, title=title, whole=whole)))
