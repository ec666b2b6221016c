"""nblstm forecast: the numbers that follow those of a CSV file."""

from __future__ import annotations

import csv
import sys
from typing import Any

import click
from nblstm.cli.names import Command
from nblstm.cli.options import ENCODING, FILE, given
from nblstm.cli.outputs import check_folder, check_replaceable, write
from nblstm.cli.progress import Progress
from nblstm.cli.shown import safe_text, say
from nblstm.cli.signals import check

from nblstm.errors import ConfigError

SVG = (("<svg", "<?xml"), "an SVG")
PLOT = "forecast.svg"


@click.command("forecast", cls=Command)
@click.argument("data", metavar="DATA.CSV", type=FILE)
@click.option(
    "--column", "columns", multiple=True, metavar="NAME", help="A column, by name or number (repeatable; all)."
)
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Rows to forecast.")
@click.option("-m", "--model", metavar="FILE", type=FILE, help="Forecast with this model instead of training one.")
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Keep the model that was trained.")
@click.option(
    "--plot", metavar="[FILE]", type=FILE, is_flag=False, flag_value=PLOT,
    help=f"Draw the series and its forecast as an SVG: {PLOT}, if no file is named.",
)  # fmt: skip
@click.option("--epochs", type=int, help="Train for so many passes over the data.")
@click.option("--minutes", type=float, help="Train for so long.")
@click.option("--hidden-size", type=int, help="Units per layer of the model that is trained.")
@click.option("--seed", type=int, help="Of its first weights.")
@click.option("--encoding", type=ENCODING, default="utf-8-sig", show_default=True, help="Encoding of the file.")
def command(
    data: str, columns: tuple[str, ...], steps: int, model: str | None, output: str | None, plot: str | None,
    encoding: str, **settings: Any,
) -> None:  # fmt: skip
    """Learn the columns of a CSV file, a row a step, and print the rows that follow, as CSV.

    \b
    nblstm forecast data.csv --column price --steps 30 --plot price.svg
    """
    from nblstm.files.safetensors import check_replaceable as check_model
    from nblstm.tasks.series.model import SeriesModel
    from nblstm.tasks.series.table import read_columns

    asked = given(settings)
    if model is not None and (output is not None or asked):
        raise ConfigError("-m forecasts with a model that is there; leave out -o and the options of training.")
    if plot is not None:
        check_replaceable(plot, *SVG)
    if output is not None:  # what is learned would be lost
        check_folder(output)
        check_model(output)
    names, values = read_columns(data, columns, encoding)
    if model is not None:
        loaded = SeriesModel.load(model)
    else:
        progress = Progress(sys.stderr)
        progress.wait(f"learning {len(values):,} rows")
        try:
            loaded = SeriesModel(**asked).fit(values, stop=check)
        finally:
            progress.close()
        loss = loaded.training["valid_loss"]
        known = "" if loss is None else f", error {loss:.4f} of the variance on the last rows"
        say(f"learned {len(values):,} rows in {loaded.training['steps']:,} updates{known}", err=True)
        if output is not None:
            loaded.save(output)
    found = loaded.forecast(values, steps)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(map(safe_text(), names))
    table.writerows([[f"{number:.6g}" for number in row] for row in found.tolist()])
    if plot is not None:
        from nblstm.reporting.charts import standalone
        from nblstm.reporting.curves import forecast_chart

        write(plot, standalone(forecast_chart(names, values, found)))
