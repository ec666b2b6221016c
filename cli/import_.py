"""nblstm import: the weights of another program -> a model file."""

from __future__ import annotations

import os

import click
from nblstm.cli.options import MODEL
from nblstm.cli.shown import say

from nblstm.config import LEVELS, NONLINEARITIES, TOKENIZERS
from nblstm.errors import ConfigError


@click.command("import")
@click.argument("weights", metavar="WEIGHTS")
@click.option(
    "--vocabulary",
    required=True,
    metavar="FILE",
    help="Its tokens in the order of their ids: a JSON list, a JSON object, or a token on each line.",
)
@click.option("-o", "--output", default=MODEL, show_default=True, metavar="FILE", help="Model file to write.")
@click.option(
    "--level", type=click.Choice(LEVELS), help="What a token is.  [default: char where each is one, else word]"
)
@click.option(
    "--tokenizer", type=click.Choice(TOKENIZERS), default="whitespace", show_default=True, help="How words are cut."
)
@click.option("--nonlinearity", type=click.Choice(NONLINEARITIES), default="tanh", show_default=True, help="Of an RNN.")
@click.option(
    "--map", "names", multiple=True, metavar="THEIRS=OURS", help="A tensor's name and ours; OURS may be empty."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
def command(
    weights: str, vocabulary: str, output: str, level: str | None, tokenizer: str, nonlinearity: str,
    names: tuple[str, ...], overwrite: bool,
) -> None:  # fmt: skip
    """Make a model of a PyTorch state dict (.safetensors or .pt) or a .keras file; neither program is needed or run.

    A .keras file takes h5py: pip install "nblstm[keras]".
    """
    from nblstm.convert.weights import import_weights

    if os.path.exists(output) and not overwrite:
        raise ConfigError(f"{output} exists; name another -o, or replace it with --overwrite.")
    if not all("=" in pair for pair in names):
        raise ConfigError("--map needs THEIRS=OURS, a tensor's name and one of ours.")
    chosen = dict(pair.split("=", 1) for pair in names)
    model = import_weights(
        weights, vocabulary, level=level, tokenizer=tokenizer, nonlinearity=nonlinearity, names=chosen
    )
    model.save(output)
    say(f"saved       {output}: {model.config.description}, {len(model.vocabulary):,} tokens")
