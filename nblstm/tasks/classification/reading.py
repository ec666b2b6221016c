"""Labelled texts in files: a line each, or a row of a table.

| a line                  | is                                                              |
|-------------------------|-----------------------------------------------------------------|
| `text TAB label`        | split at its last tab                                           |
| `__label__x text`       | fastText's form                                                 |

A table is CSV, TSV or JSONL (`nblstm.text.tables`). Empty lines are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from nblstm import checks
from nblstm.errors import ConfigError, TextError
from nblstm.text.lines import lines, unsplit
from nblstm.text.reading import read_each
from nblstm.text.tables import read_rows

FASTTEXT = "__label__"


def read_labelled(
    paths: Any, text_column: str | None = None, label_column: str | None = None, encoding: str = "utf-8"
) -> tuple[list[str], list[str]]:
    """Read texts and their labels, which are strings, as `TextClassifier.fit` takes them.

    paths: a file, folder or .gz, a list of such, "-" for standard input. text_column, label_column: of a table with a
    header; None: lines, see `nblstm.tasks.classification.reading`. TextError names file and line of what is neither.
    """
    found = labelled_in(checks.paths("paths", paths), text_column, label_column, encoding)
    return found.texts, found.labels


class LabelledLines(NamedTuple):
    """Texts, their labels and where each stands: (file, line)."""

    texts: list[str]
    labels: list[str]
    places: list[tuple[str, int]]


def labelled_in(
    paths: Sequence[str], text_column: str | None, label_column: str | None, encoding: str
) -> LabelledLines:
    """Read texts, labels and where they stand, as `read_labelled` does."""
    if (text_column is None) != (label_column is None):
        raise ConfigError("text_column and label_column belong together; give both, or none.")
    for name, column in (("text_column", text_column), ("label_column", label_column)):
        if column is not None:
            checks.a(str, name, column)
    if text_column is not None and text_column == label_column:
        raise ConfigError(f"text_column and label_column must be two columns, got {text_column!r:.40} for both.")
    result = LabelledLines([], [], [])
    for name, pieces in read_each(paths, "word", encoding):
        columns = () if text_column is None or label_column is None else (text_column, label_column)
        for number, (text, label) in read_rows(name, pieces, columns) if columns else _of_lines(name, unsplit(pieces)):
            if not text.strip() or not label.strip():
                raise TextError(
                    f"{name}, line {number}: there is no {'text' if label.strip() else 'label'}; add or remove it."
                )
            result.texts.append(text)
            result.labels.append(label.strip())
            result.places.append((name, number))
    return result


def _of_lines(name: str, pieces: Iterable[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (line, (text, label)) of lines that have both."""
    for number, line in enumerate(lines(pieces), 1):
        if line.startswith(FASTTEXT):
            label, _, text = line.removeprefix(FASTTEXT).partition(" ")
            if text.startswith(FASTTEXT):
                raise TextError(
                    f"{name}, line {number}: there are several labels, and a text has one; remove the others."
                )
            yield number, (text, label)
        elif "\t" in line:
            text, _, label = line.rpartition("\t")
            yield number, (text, label)
        elif line.strip():
            raise TextError(
                f"{name}, line {number}: there must be a tab between text and label, or {FASTTEXT} before it."
            )
