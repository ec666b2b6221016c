"""nblstm eval: how probable a model finds a text."""

from __future__ import annotations

from typing import Any

import click

from nblstm.cli.options import ENCODING, echo_json, json_option, model_option
from nblstm.config import BACKENDS
from nblstm.errors import TextError

PROTOCOL = "one stream per file, state carried from its first token to its last, the first token given"


@click.command("eval")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@model_option
@click.option("--encoding", type=ENCODING, default="utf-8", show_default=True, help="Encoding of the files.")
@click.option(
    "--backend", type=click.Choice(BACKENDS), default="auto", show_default=True,
    help="What computes: NumPy, compiled kernels, or the fastest there is.",
)  # fmt: skip
@json_option
def command(files: tuple[str, ...], model: str, encoding: str, backend: str, json: bool) -> None:
    """Loss, perplexity and bits per character of a model on text files (- is standard input)."""
    from nblstm.language_model import load
    from nblstm.text.corpus import read

    loaded = load(model)
    level = loaded.vocabulary.level
    rows = []
    for file in files:
        score = loaded.score(read([file], level, encoding), backend)
        if score.tokens == 0:
            raise TextError(f"{file} has fewer than 2 tokens; the first is given, so there is nothing to score.")
        rows.append({"file": file, **_figures(score)})
    if json:
        echo_json({"model": model, "protocol": PROTOCOL, "files": rows})
        return
    click.echo(f"protocol: {PROTOCOL}", err=True)
    _table(rows, {"char": "character", "word": "word", "byte": "byte"}[level])


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
