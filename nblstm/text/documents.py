"""Documents: where one text of a file ends and the next begins.

| kind       | a document is                                                              |
|------------|----------------------------------------------------------------------------|
| line       | a line                                                                     |
| blank-line | lines up to one or more empty ones                                         |
| file       | a file                                                                     |
| row        | a row of a table, see `nblstm.text.tables`                                 |

The line end (see `nblstm.text.lines`) behind a document is not part of it, but of a file; those inside stay as they
are. A line of nothing but white space is empty, and an empty document is none. A document is held in memory whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from operator import itemgetter
from typing import AnyStr

from nblstm.errors import TextError
from nblstm.text.lines import after_last_end, count_ends, lines, lines_with_ends, unsplit, without_end

LONGEST_TRAINED = 1 << 28  # characters of a document: it is held in memory as text and as ids
LONGEST = 1 << 22  # of a numbered one: it is held in memory with all that is computed from it


def split(pieces: Iterable[AnyStr], kind: str, name: str = "a text") -> Iterator[AnyStr]:
    """Give the documents of one file, text or bytes in pieces cut anywhere.

    TextError if a document is longer than LONGEST_TRAINED; name: what the file is called there.
    """
    return map(itemgetter(1), _KINDS[kind](pieces, name, LONGEST_TRAINED))


def numbered(pieces: Iterable[AnyStr], kind: str, name: str) -> Iterator[tuple[int, AnyStr]]:
    """Split as `split` does, each document with the number of its first line, from 1, and none above LONGEST."""
    return _KINDS[kind](pieces, name, LONGEST)


def _by_line(pieces: Iterable[AnyStr], name: str, longest: int) -> Iterator[tuple[int, AnyStr]]:
    found = enumerate(lines(bounded(pieces, name, longest)), 1)
    return (numbered_line for numbered_line in found if numbered_line[1].strip())


def _by_blank_line(pieces: Iterable[AnyStr], name: str, longest: int) -> Iterator[tuple[int, AnyStr]]:
    found = enumerate(lines_with_ends(bounded(pieces, name, longest)), 1)
    for empty, group in groupby(found, key=lambda numbered_line: not numbered_line[1].strip()):
        if not empty:
            number, text = _joined(group, name, longest)
            yield number, without_end(text)


def _by_file(pieces: Iterable[AnyStr], name: str, longest: int) -> Iterator[tuple[int, AnyStr]]:
    held = filter(None, pieces)
    for first in held:
        yield _joined(((1, piece) for piece in chain([first], held)), name, longest)


_KINDS = {"line": _by_line, "blank-line": _by_blank_line, "file": _by_file}


def bounded(pieces: Iterable[AnyStr], name: str, longest: int) -> Iterator[AnyStr]:
    """Yield the pieces, no line end split. TextError after `longest` characters without one."""
    line, length = 1, 0
    for piece in unsplit(pieces):
        begin = after_last_end(piece)
        line, length = line + count_ends(piece), len(piece) - begin if begin else length + len(piece)
        if length > longest:
            raise _too_long(name, line, longest)
        yield piece


def _joined(parts: Iterable[tuple[int, AnyStr]], name: str, longest: int) -> tuple[int, AnyStr]:
    """Join some numbered parts, at least one: the text, and the number of the first."""
    held: list[AnyStr] = []
    first = length = 0
    for number, part in parts:
        first, length = first or number, length + len(part)
        held.append(part)
        if length > longest:
            raise _too_long(name, first, longest)
    return first, held[0][:0].join(held)


def _too_long(name: str, line: int, longest: int) -> TextError:
    return TextError(
        f"{name} has a document at line {line} that is longer than {longest:,} characters; read the file as one stream "
        "of text instead."
    )
