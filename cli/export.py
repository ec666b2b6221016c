"""nblstm export: a model file -> a file for a machine without nblstm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
@click.option(
    "--check", metavar="TEXT",
    help="Say the loss on this text file, a classifier's accuracy on its labelled lines or a tagger's F1 on its tagged words, "
    "before and after rounding.",
)  # fmt: skip
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
    from nblstm.tasks.classification.model import TextClassifier
    from nblstm.tasks.registry import load
    from nblstm.tasks.tagging.model import Tagger

    loaded = load(model)
    measure = None if check is None else _measure(loaded, check, encoding)
    made = export(loaded, output, format=format, weights=weights, name=name)
    say(f"saved       {output} ({_size(made.file_bytes)}): {made.weights}, {_size(made.weight_bytes)} of weights")
    if measure is not None:
        before, after = (measure(each) for each in (loaded, made.model))
        what, unit = {TextClassifier: ("accuracy", ""), Tagger: ("F1", "")}.get(
            type(loaded), ("loss", " nats per token")
        )
        say(f"{what:<9}   {before:.4f}{unit} before, {after:.4f} after")


def _measure(model: Any, path: str, encoding: str) -> Callable[[Any], float]:
    """What says how good a model of this kind is on a file, which is read here."""
    from nblstm.tasks.classification.model import TextClassifier
    from nblstm.tasks.classification.reading import read_labelled
    from nblstm.tasks.tagging.model import Tagger
    from nblstm.tasks.tagging.reading import read_tagged
    from nblstm.text.reading import read_text

    if isinstance(model, Tagger):
        sentences, tags = read_tagged(path, encoding=encoding)
        return lambda each: each.score(sentences, tags)
    if isinstance(model, TextClassifier):
        texts, names = read_labelled(path, encoding=encoding)
        known = dict(zip(model.config.labels, model.config.classes))
        return lambda each: each.score(texts, [known.get(name, name) for name in names])
    text = "".join(read_text((path,), encoding))
    return lambda each: each.score(text).loss


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
