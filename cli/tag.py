"""nblstm tag: a tag for every word of a file in columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import click
from nblstm.cli.classify import lines_of
from nblstm.cli.models import model_of_task
from nblstm.cli.options import echo_json, json_option, model_option, run_setting, scoring_options
from nblstm.cli.shown import echo, safe_text

LINES_AT_ONCE = 1 << 16  # at least; a sentence is not parted


@click.command("tag")
@click.argument("file", default="-", metavar="[FILE]")
@model_option
@run_setting("token_column", "The column of the words, from 1 on, or from the last one, -1, backwards.")
@click.option("--sentences", is_flag=True, help="A line is a sentence, its words between blanks.")
@scoring_options
@json_option
def command(
    file: str, model: str, token_column: int | None, sentences: bool, json: bool, encoding: str, **how: Any
) -> None:
    """Print the words of a file (or of standard input, -) with their tags, in CoNLL's columns.

    A line holds a word, an empty one ends a sentence; each line comes back as it is, its tag in a column more. With
    --sentences a line of input is a sentence, and its words are printed below each other. With --json a sentence is an
    object with its words and tags.
    """
    from nblstm.tasks.tagging.settings import TaggedTextConfig

    loaded, column = (
        model_of_task(model, "tagging"),
        TaggedTextConfig(1 if token_column is None else token_column).token_column,
    )
    given = _of_lines(lines_of(file, encoding)) if sentences else _of_columns(lines_of(file, encoding), column, file)
    while some := list(itertools.islice(given, LINES_AT_ONCE)):
        some += itertools.takewhile(lambda line: line[1] is not None, given)  # up to the end of the sentence
        _write(loaded, some, json, how)


def _of_columns(lines: Iterator[str], column: int, name: str) -> Iterator[tuple[str, str | None]]:
    """Yield each line and its word; None where it has none."""
    from nblstm.tasks.tagging.reading import cell, columns_of

    for line in columns_of(lines):
        yield line.text, None if line.columns is None else cell(line, column, "word", name)


def _of_lines(lines: Iterator[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each word of sentences twice, and an empty line behind each sentence."""
    for line in lines:
        yield from ((word, word) for word in line.split())
        yield "", None


def _write(loaded: Any, given: list[tuple[str, str | None]], json: bool, how: dict[str, Any]) -> None:
    """Print lines whose words get their tags; the others as they are."""
    inside = itertools.groupby(given, lambda line: line[1] is not None)
    parts = [(has_words, list(part)) for has_words, part in inside]
    sentences = [[word for _, word in part] for has_words, part in parts if has_words]
    found, printed = iter(loaded.predict(sentences, **how)), safe_text()
    for has_words, part in parts:
        if has_words and json:
            echo_json({"words": [word for _, word in part], "tags": next(found)}, indent=None)
        elif has_words:
            for (text, _), tag in zip(part, next(found)):
                echo(printed(f"{text}{_between(text)}{tag}"))
        elif not json:
            for text, _ in part:
                echo(printed(text))


def _between(text: str) -> str:
    """Return what stands between the columns of a line."""
    return "\t" if "\t" in text else " "
