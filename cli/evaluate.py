"""nblstm eval: how probable a model finds a text."""

from __future__ import annotations

import json
from typing import Any

import click

from nblstm.cli.options import model_option

PROTOCOL = "one stream per file, state carried from its first token to its last, the first token given"


@click.command("eval")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@model_option
@click.option("--encoding", default="utf-8", show_default=True, help="Encoding of the files.")
@click.option(
    "--backend", type=click.Choice(("numpy", "cpu")), default="cpu", show_default=True,
    help="What computes: NumPy or compiled kernels.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(files: tuple[str, ...], path: str, encoding: str, backend: str, as_json: bool) -> None:
    """Loss, perplexity and bits per character of a model on text files (- is standard input)."""
    from nblstm.language_model import load
    from nblstm.text.corpus import read

    model = load(path)
    rows = []
    for file in files:
        score = model.score(read([file], model.vocabulary.level, encoding), backend)
        rows.append({"file": file, **_figures(score)})
    if as_json:
        click.echo(json.dumps({"model": path, "protocol": PROTOCOL, "files": rows}, indent=2))
        return
    click.echo(f"protocol: {PROTOCOL}", err=True)
    _table(rows, {"char": "character", "word": "word", "byte": "byte"}[model.vocabulary.level])


def _figures(score: Any) -> dict[str, float]:
    return {
        "nats_per_token": score.loss,
        "perplexity": score.perplexity,
        "bits_per_character": score.bits_per_character,
        "bits_per_byte": score.bits_per_byte,
        "tokens": score.tokens,
        "unknown": score.unknown,
    }


def _table(rows: list[dict[str, Any]], token: str) -> None:
    heads = [f"nats/{token}", "perplexity", "bits/character", "bits/byte", f"{token}s", "unknown", "file"]
    click.echo("  ".join(f"{head:>{max(10, len(head))}}" for head in heads[:-1]) + "  file")
    for row in rows:
        name, *values = row.values()
        cells = [f"{value:.4f}" if isinstance(value, float) else f"{value:,}" for value in values]
        click.echo("  ".join(f"{cell:>{max(10, len(head))}}" for head, cell in zip(heads, cells)) + f"  {name}")
