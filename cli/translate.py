"""nblstm translate: what a translator writes for each line."""

from __future__ import annotations

import itertools
from typing import Any

import click
from nblstm.cli.classify import lines_of
from nblstm.cli.models import model_of_task
from nblstm.cli.options import ENCODING, echo_json, filter_options, given, json_option, model_option, setting
from nblstm.cli.shown import echo, shown

from nblstm.tasks.translation.config import TranslateConfig

LINES_AT_ONCE = 512


@click.command("translate")
@click.argument("file", default="-", metavar="[FILE]")
@model_option
@setting(TranslateConfig, "beam", "Hypotheses kept at every step; 1 takes the most likely token at each.")
@setting(TranslateConfig, "num_samples", "Translations of each line, the best first, tabs between them.")
@setting(TranslateConfig, "n", "Most tokens of a translation; without it twice those of its line and ten more.", "-n")
@setting(TranslateConfig, "length_penalty", "0 favours short translations, 1 is about the mean per token.")
@setting(TranslateConfig, "coverage_penalty", "What nobody has looked at of a line costs so much.")
@setting(TranslateConfig, "replace_unknown", "Put the line's own word in the place of <unk>, or never write that.")
@setting(TranslateConfig, "temperature", "Draw translations instead of searching for the best; 1 as they are probable.")
@filter_options(TranslateConfig)
@setting(TranslateConfig, "seed", "Of drawing; without it a fresh one.")
@setting(TranslateConfig, "backend", "What computes: NumPy, compiled kernels, or whichever is done first.")
@click.option("--threads", type=click.IntRange(0, 4096), default=0, help="Threads; 0 means every core.")
@click.option("--encoding", type=ENCODING, default="utf-8", show_default=True, help="Encoding of the file.")
@json_option
def command(file: str, model: str, json: bool, encoding: str, threads: int, **how: Any) -> None:
    """Print the translation of every line of a file (or of standard input, -).

    There is a line of output for each line of input, an empty one for an empty one. With --json it is a JSON object:
    the text, its log probability and score, the tokens of both sides, and how much each of the one looked at each of
    the other (attention).
    """
    loaded, asked = model_of_task(model, "translation"), given(how)
    TranslateConfig(**asked)  # ConfigError before anything is read
    remaining, number = lines_of(file, encoding), 0
    while some := list(itertools.islice(remaining, LINES_AT_ONCE)):
        sources = [line for line in some if line.strip()]
        found = iter(loaded.translations(sources, threads=threads, **asked))
        for line in some:
            number += 1
            translations = next(found) if line.strip() else []
            if json:
                echo_json({"line": number, "translations": [_facts(one) for one in translations]}, indent=None)
            else:
                echo("\t".join(shown(one.text) for one in translations))


def _facts(translation: Any) -> dict[str, Any]:
    """Return a translation as JSON values."""
    facts = {name: value for name, value in vars(translation).items() if name != "attention"}
    looked = translation.attention
    rows = None if looked is None else [[round(float(a), 4) for a in row] for row in looked]
    return {**facts, "attention": rows}
