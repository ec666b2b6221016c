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
    "--weights", type=click.Choice(WEIGHTS),
    help="What the weights are rounded to.  [default: int8; float32 for py and onnx]",
)  # fmt: skip
@click.option("--name", default="nblstm", show_default=True, help="What all names of a C header begin with.")
@click.option("--check", metavar="TEXT", help="Say the loss on this text file before and after rounding.")
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
    from nblstm.tasks.registry import load

    loaded = load(model)
    text = None if check is None else _text(check, encoding)
    made = export(loaded, output, format=format, weights=weights, name=name)
    say(f"saved       {output} ({_size(made.file_bytes)}): {made.weights}, {_size(made.weight_bytes)} of weights")
    if text is not None:
        before, after = (each.score(text).loss for each in (loaded, made.model))
        say(f"loss        {before:.4f} nats per token before, {after:.4f} after")


def _text(path: str, encoding: str) -> str:
    """The text of a file."""
    from nblstm.text.corpus import read_text

    return "".join(read_text((path,), encoding))


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
