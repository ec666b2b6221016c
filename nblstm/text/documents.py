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
