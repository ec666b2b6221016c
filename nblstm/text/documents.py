"""Documents: where one text of a file ends and the next begins.

| kind       | a document is                                                              |
|------------|----------------------------------------------------------------------------|
| line       | a line                                                                     |
| blank-line | lines up to one or more empty ones                                         |
| file       | a file                                                                     |

The line end ("\\n" or "\\r\\n") behind a document is not part of it. A line of nothing but white space is empty, and an
empty document is none. A document is held in memory whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import AnyStr

from nblstm.errors import TextError


def split(pieces: Iterable[AnyStr], kind: str, newline: AnyStr) -> Iterator[AnyStr]:
    """The documents of one file, given in pieces cut anywhere. newline: "\\n", or b"\\n" where the pieces are bytes."""
    return filter(None, _SPLITTERS[kind](pieces, newline))


def _lines(pieces: Iterable[AnyStr], newline: AnyStr) -> Iterator[AnyStr]:
    """The lines, without the newlines between them."""
    held: list[AnyStr] = []
    for piece in pieces:
        first, *others = piece.split(newline)
        held.append(first)
        if others:
            yield newline[:0].join(held)
            yield from others[:-1]
            held = others[-1:]
    yield newline[:0].join(held)


def _by_line(pieces: Iterable[AnyStr], newline: AnyStr) -> Iterator[AnyStr]:
    return (_without_return(line, newline) for line in _lines(pieces, newline) if line.strip())


def _by_blank_line(pieces: Iterable[AnyStr], newline: AnyStr) -> Iterator[AnyStr]:
    for empty, lines in groupby(_lines(pieces, newline), key=lambda line: not line.strip()):
        if not empty:
            yield _without_return(newline.join(lines), newline)


def _by_file(pieces: Iterable[AnyStr], newline: AnyStr) -> Iterator[AnyStr]:
    yield newline[:0].join(pieces)


def _without_return(text: AnyStr, newline: AnyStr) -> AnyStr:
    """The text without the carriage return that belongs to the line end behind it."""
    return text.removesuffix("\r" if isinstance(newline, str) else b"\r")


_SPLITTERS = {"line": _by_line, "blank-line": _by_blank_line, "file": _by_file}


LONGEST = 1 << 22  # characters of a numbered document: it is held in memory with all that is computed from it


def numbered(pieces: Iterable[AnyStr], kind: str, newline: AnyStr, name: str) -> Iterator[tuple[int, AnyStr]]:
    """As `split` by line or blank-line, each document with the number of its first line in the file, from 1.

    TextError if a document is longer than LONGEST; name: what the file is called there.
    """
    lines = enumerate(_lines(_bounded(pieces, newline, name), newline), 1)
    for empty, group in groupby(lines, key=lambda numbered_line: not numbered_line[1].strip()):
        if empty:
            continue
        if kind == "line":
            yield from ((number, _without_return(line, newline)) for number, line in group)
        else:
            yield _joined(group, newline, name)


def _bounded(pieces: Iterable[AnyStr], newline: AnyStr, name: str) -> Iterator[AnyStr]:
    """The pieces. TextError after LONGEST characters without a newline."""
    line, length = 1, 0
    for piece in pieces:
        ends = piece.count(newline)
        line, length = line + ends, len(piece) - piece.rfind(newline) - 1 if ends else length + len(piece)
        if length > LONGEST:
            raise _too_long(name, line)
        yield piece


def _joined(lines: Iterable[tuple[int, AnyStr]], newline: AnyStr, name: str) -> tuple[int, AnyStr]:
    """The document of some numbered lines, and the number of the first."""
    held: list[AnyStr] = []
    first = length = 0
    for number, line in lines:
        first, length = first or number, length + len(line)
        held.append(line)
        if length > LONGEST:
            raise _too_long(name, first)
    return first, _without_return(newline.join(held), newline)


def _too_long(name: str, line: int) -> TextError:
    return TextError(
        f"{name} has a document at line {line} that is longer than {LONGEST:,} characters; take the whole file as one."
    )
