"""nblstm adapt-prepare: a model file -> the same with gradient statistics, to learn while it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
from nblstm.cli.figures import Reading, check_adapts
from nblstm.cli.models import text_model
from nblstm.cli.names import Command
from nblstm.cli.options import ENCODING, FILE, MODEL
from nblstm.cli.shown import say

MOST_CHARACTERS = 1 << 24  # of the corpus that are read


@click.command("adapt-prepare", cls=Command)
@click.argument("corpus", nargs=-1, required=True, metavar="CORPUS...", type=FILE)
@click.option("-m", "--model", default=MODEL, metavar="FILE", type=FILE, help=f"Model file.  [default: {MODEL}]")
@click.option("-o", "--output", metavar="FILE", type=FILE, help="File to write.  [default: the model file itself]")
@click.option("--valid", metavar="FILE", type=FILE, help="Choose the rate of learning on this text, and keep it.")
@click.option("--encoding", type=ENCODING, default="utf-8", show_default=True, help="Encoding of the files.")
def command(corpus: Sequence[str], model: str, output: str | None, valid: str | None, encoding: str) -> None:
    """Add gradient statistics to a model, by which eval --adapt and score --adapt learn better while they read.

    CORPUS is the text that the model was trained on. The model's weights stay as they are; its file grows twofold.
    """
    from nblstm.adapting import RATES

    loaded = text_model(model)
    check_adapts([loaded])
    with Reading([*corpus, *([valid] if valid else [])]) as reading:
        prepared = loaded.prepared("".join(_beginning(corpus, encoding)), on_progress=reading.tokens_done)
        if valid is not None:
            text = "".join(_beginning([valid], encoding))
            prepared, losses = prepared.with_best_rate(text, on_progress=reading.tokens_done)
    if valid is not None:
        say(f"static      {loaded.score(text).loss:.4f} nats per token of {valid}")
        for rate, loss in zip(RATES, losses):
            chosen = "  chosen" if rate == prepared.training["adapt"]["rate"] else ""
            say(f"rate {rate:<7g}{loss:.4f}{chosen}")
    prepared.save(output or model)
    say(f"saved       {output or model}")


def _beginning(paths: Sequence[str], encoding: str) -> Iterator[str]:
    """Yield the text of files up to MOST_CHARACTERS."""
    from nblstm.text.reading import read_text

    left = MOST_CHARACTERS
    for piece in read_text(tuple(paths), encoding):
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return
