"""nblstm classify: which label each line has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import click
import numpy as np
from nblstm.cli.models import model_of_task
from nblstm.cli.options import echo_json, json_option, model_option, scoring_options
from nblstm.cli.shown import echo, shown

LINES_AT_ONCE = 4096


@click.command("classify")
@click.argument("file", default="-", metavar="[FILE]")
@model_option
@click.option(
    "--top", type=click.IntRange(1), default=1, show_default=True, help="The most probable labels that are printed."
)
@scoring_options
@json_option
def command(file: str, model: str, top: int, json: bool, encoding: str, **how: Any) -> None:
    """Print the label of every line of a file (or of standard input, -) and its probability, a tab between them.

    There is a line of output for each line of input, also for an empty one. With --top 3 three pairs stand on it, the
    most probable first; with --json it is a JSON object.
    """
    loaded = model_of_task(model, "classification")
    names = [str(label) for label in loaded.classes_.tolist()]
    for number, probabilities in _judged(loaded, file, encoding, how):
        best = np.argsort(-probabilities, kind="stable")[:top]
        pairs = [(names[place], float(probabilities[place])) for place in best]
        if json:
            labels = [{"label": label, "probability": probability} for label, probability in pairs]
            echo_json({"line": number, "labels": labels}, indent=None)
        else:
            echo("\t".join(f"{shown(label)}\t{probability:.4f}" for label, probability in pairs))


def _judged(loaded: Any, file: str, encoding: str, how: dict[str, Any]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (line, probabilities of the labels) of every line of a file; some are held at a time."""
    given = lines_of(file, encoding)
    number = 0
    while some := list(itertools.islice(given, LINES_AT_ONCE)):
        for probabilities in loaded.predict_proba(some, **how):
            number += 1
            yield number, probabilities


def lines_of(file: str, encoding: str) -> Iterator[str]:
    """Yield the lines of a file, or of standard input (-), without their ends."""
    from nblstm.text.lines import lines, unsplit
    from nblstm.text.reading import read_text

    return _without_last_empty(lines(unsplit(read_text([file], encoding))))


def _without_last_empty(given: Iterator[str]) -> Iterator[str]:
    """Yield lines, but not what stands behind the last line end if that is nothing."""
    held: str | None = None
    for line in given:
        if held is not None:
            yield held
        held = line
    if held:
        yield held
