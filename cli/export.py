"""nblstm export: a model file -> a file for a machine without nblstm."""

from __future__ import annotations

import click
from nblstm.cli.options import ENCODING, MODEL
from nblstm.cli.shown import say

FORMATS = ("c", "py", "html", "onnx")
WEIGHTS = ("float32", "bfloat16", "int8", "int4")


@click.command("export")
@click.argument("model", default=MODEL, metavar="[MODEL]")
@click.option("-o", "--output", required=True, metavar="FILE", help="The file to write: .h, .py, .html or .onnx.")
@click.option("--format", type=click.Choice(FORMATS), help="What it is.  [default: by the file's ending]")
@click.option(
    "--weights",
    type=click.Choice(WEIGHTS),
    help="What the weights are rounded to.  [default: int8; float32 for py and onnx]",
)
@click.option("--name", default="nblstm", show_default=True, help="What all names of a C header begin with.")
@click.option(
    "--check",
    metavar="TEXT",
    help="Say the loss on this text file, a classifier's accuracy on its labelled lines or a tagger's F1 on its tagged words, "
    "before and after rounding.",
)
@click.option("--encoding", type=ENCODING, default="utf-8", show_default=True, help="Encoding of the text file.")
def command(
    model: str, output: str, format: str | None, weights: str | None, name: str, check: str | None, encoding: str
) -> None:
    """Write a model as a C header, a Python file, a web page or an ONNX graph.

    \b
    nblstm export model.safetensors -o model.h
    cc -O3 -march=native -DNBLSTM_MAIN -x c model.h -o model && ./model -n 100
    """
    from nblstm.exporting.files import export
    from nblstm.reporting.durations import size_text
    from nblstm.tasks.registry import load, run_of_model

    loaded = load(model)
    check_on = None if check is None else run_of_model(loaded).yardstick(loaded, check, encoding)
    made = export(loaded, output, format=format, weights=weights, name=name)
    say(
        f"saved       {output} ({size_text(made.file_bytes)}): {made.weights}, {size_text(made.weight_bytes)} of weights"
    )
    if check_on is not None:
        say(check_on.compare(loaded, made.model))
