"""Tagged words in files: CoNLL's columns, a word a line, an empty line between sentences.

    -DOCSTART- -X- O O

    EU NNP I-NP I-ORG
    rejects VBZ I-VP O

Columns stand between tabs where a line has one, else between blanks. Lines that begin with # before a sentence are
comments, unless they have the columns of a word; -DOCSTART- begins a document and is no word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from nblstm import checks
from nblstm.config.checks import said
from nblstm.errors import ConfigError, TextError
from nblstm.tasks.tagging.settings import TaggedTextConfig
from nblstm.text.lines import lines, unsplit
from nblstm.text.reading import read_each

DOCUMENT = "-DOCSTART-"
COMMENT = re.compile(r"#\s*[^\s=]+\s*=")  # of CoNLL-U: "# text = ..."
SEVERAL = re.compile(r"\d+[-.]\d+")  # the number of a line of CoNLL-U that stands for several words, or for none
UNIVERSAL = 10  # columns of CoNLL-U


class Line(NamedTuple):
    """A line of a file; columns: those of a word, None where it has none."""

    number: int
    text: str
    columns: list[str] | None


class TaggedLines(NamedTuple):
    """Sentences, their tags, and where each word stands: (file, line)."""

    sentences: list[list[str]]
    tags: list[list[str]]
    places: list[list[tuple[str, int]]]


def read_tagged(
    paths: Any, token_column: int = 1, tag_column: int = -1, encoding: str = "utf-8"
) -> tuple[list[list[str]], list[list[str]]]:
    """Read sentences and their tags, lists of strings, as `Tagger.fit` takes them.

    paths: a file, folder or .gz, a list of such, "-" for standard input. token_column, tag_column: numbers of columns,
    1 the first and -1 the last. TextError names file and line of a word without a tag.
    """
    reading = TaggedTextConfig(token_column, tag_column, encoding=encoding)
    found = tagged_in(checks.paths("paths", paths), reading)
    return found.sentences, found.tags


def tagged_in(paths: Sequence[str], reading: TaggedTextConfig) -> TaggedLines:
    """Read sentences, tags and where they stand, as `read_tagged` does."""
    if reading.token_column == reading.tag_column:
        raise ConfigError(f"token_column and tag_column must be two columns, got {reading.tag_column} for both.")
    found = TaggedLines([], [], [])
    everything: tuple[list[Any], ...] = found
    for name, pieces in read_each(paths, "word", reading.encoding):
        is_open = False
        for line in columns_of(lines(unsplit(pieces))):
            if line.columns is None:
                is_open = False
                continue
            word, tag = (
                cell(line, column, what, name)
                for column, what in ((reading.token_column, "word"), (reading.tag_column, "tag"))
            )
            if not is_open:
                for parts in everything:
                    parts.append([])
            is_open = True
            found.sentences[-1].append(word)
            found.tags[-1].append(tag)
            found.places[-1].append((name, line.number))
    return found


def columns_of(given: Iterable[str]) -> Iterator[Line]:
    """Yield each line with its columns, None where it ends a sentence: empty, a comment, the begin of a document."""
    width, inside = None, False
    for number, text in enumerate(given, 1):
        columns: list[str] | None = [part.strip() for part in text.split("\t")] if "\t" in text else text.split()
        assert columns is not None
        comment = text.startswith("#") and not inside and (len(columns) != width or COMMENT.match(text))
        if comment or not text.strip() or columns[0] == DOCUMENT:
            columns = None
        elif len(columns) == UNIVERSAL and SEVERAL.fullmatch(columns[0]):
            continue
        inside = columns is not None
        width = width if columns is None else len(columns)
        yield Line(number, text, columns)


def cell(line: Line, column: int, what: str, name: str) -> str:
    """Return what stands in a column, from 1 on or from -1 backwards. TextError names file and line where nothing does."""
    columns = line.columns or []
    if len(columns) < max(abs(column), 1 + (what == "tag")):
        raise TextError(
            f"{name}, line {line.number}: there is no {what} in column {column}, got {len(columns)} of "
            f"{said(line.text)}; add it, or remove the line."
        )
    found = columns[column - 1 if column > 0 else column]
    if not found:
        raise TextError(f"{name}, line {line.number}: the {what} in column {column} is empty; add it.")
    return found
