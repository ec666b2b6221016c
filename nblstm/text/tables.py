"""Tables: rows of CSV, TSV and JSONL, and the columns of them that are asked for.

| a table | its first line                                         | a row                                 |
|---------|--------------------------------------------------------|---------------------------------------|
| JSONL   | is a row; it begins with `{`                           | a line, a JSON object                 |
| TSV     | names the columns, with tabs between them              | values, in quotes where that is needed |
| CSV     | names the columns, with commas, or semicolons, between | as in TSV; it may have several lines  |

Empty lines are left out. Every row of a table may be a document: its text, below a first line that is its context.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from nblstm.errors import TextError
from nblstm.text.documents import LONGEST_TRAINED, bounded
from nblstm.text.lines import lines_with_ends

NAMES_SHOWN = 80  # characters of the names of columns


@dataclass(frozen=True)
class Columns:
    """The columns of a table that make its documents. contexts: those that have been read, each one line."""

    text: str
    context: str | None = None
    contexts: set[str] = field(default_factory=set, compare=False, repr=False)


def row_documents(name: str, pieces: Iterable[str], columns: Columns) -> Iterator[str]:
    """Give a document of every row that has a text. TextError for a row that is none, or lacks its context.

    name: what the table is called there. A context stands in the first line, its white space made single blanks.
    """
    wanted = [columns.text] if columns.context is None else [columns.text, columns.context]
    for number, (text, *others) in read_rows(name, pieces, wanted):
        if not text.strip():
            continue
        if not others:
            yield text
            continue
        context = one_line(others[0])
        if not context:
            raise TextError(f"{name}, line {number}: there is no {columns.context:.40}; add it, or remove the row.")
        columns.contexts.add(context)
        yield in_context(context, text)


def one_line(context: str) -> str:
    """Return a context with its white space made single blanks."""
    return " ".join(context.split())


def in_context(context: str, text: str) -> str:
    """Return a text below a context of one line."""
    return f"{context}\n{text}"


def read_rows(name: str, pieces: Iterable[str], columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Read the table in the pieces of a file: (number of the row's first line, its values in these columns).

    TextError, which begins with the file's name, for a column that there is not, or a row that is none.
    """
    numbered = enumerate(lines_with_ends(bounded(pieces, name, LONGEST_TRAINED)), 1)
    for number, line in numbered:
        if line.strip():
            read = _objects if line.lstrip().startswith("{") else _delimited
            yield from read(name, number, line, (below for _, below in numbered), columns)


def _objects(
    name: str, number: int, first: str, given: Iterator[str], columns: Sequence[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Read JSONL from the line `first`, which has this number, on."""
    for place, line in enumerate(chain([first], given), number):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise TextError(f'{name}, line {place}: this is no row of a table, a JSON object such as {{"text": "a"}}.')
        yield place, tuple(_value(name, place, row, column) for column in columns)


def _value(name: str, place: int, row: dict[str, Any], column: str) -> str:
    """Return the value of a JSON object in a column: a string, or a number or a truth value as JSON writes it."""
    if column not in row:
        raise TextError(f"{name}, line {place}: there is no {column!r:.40}, only {', '.join(row)[:NAMES_SHOWN]!r}.")
    value = row[column]
    if isinstance(value, (dict, list)):
        raise TextError(f"{name}, line {place}: {column!r:.40} must be a string or a number, got {value!r:.40}.")
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _delimited(
    name: str, number: int, header: str, given: Iterator[str], columns: Sequence[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Read the rows below a header, which stands in the line of this number."""
    delimiter = next((mark for mark in "\t,;" if mark in header), ",")
    try:
        names = next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error as error:
        raise TextError(f"{name}, line {number}: this is no row of a table: {error}.") from None
    for column in columns:
        if names.count(column) != 1:
            found = ", ".join(names)[:NAMES_SHOWN]
            raise TextError(f"{name}: its first row must name the column {column!r:.40} once, got {found!r}.")
    places, below = [names.index(column) for column in columns], number + 1
    rows = csv.reader(given, delimiter=delimiter, strict=True)
    try:
        for row in rows:
            if row and len(row) != len(names):
                raise TextError(
                    f"{name}, line {below}: there must be {len(names)} columns, as in the first, got {len(row)}."
                )
            if row:
                yield below, tuple(row[place] for place in places)
            below = rows.line_num + number + 1
    except csv.Error as error:
        raise TextError(f"{name}, line {below}: this is no row of a table: {error}.") from None
