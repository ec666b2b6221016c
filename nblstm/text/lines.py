"""Lines: the one rule of where a line ends, for text (str) and for its bytes.

A line ends with "\\n" (Unix), "\\r\\n" (Windows) or a "\\r" alone (old Macs), whichever come, also mixed in one text.
Documents, lines that are scored, stop strings and the search for copies all follow it. What a model reads has "\\n" for
each of them (`translated`), or keeps them as they are: its vocabulary says which (`Vocabulary.newline`), and so training,
scoring and prompts do the same. `normalized` makes them "\\n" where two texts are compared.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, AnyStr

LINE_END = re.compile(r"\r\n|\r|\n")


def normalized(text: AnyStr) -> AnyStr:
    """Make every line end of a text "\\n"."""
    if isinstance(text, str):
        return text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def place_in(text: str, place: int) -> int:
    """Find where the character at a place of `normalized(text)`, or its end, stands in the text itself."""
    for found in re.finditer("\r\n", text):
        if found.start() >= place:
            break
        place += 1
    return place


def without_end(line: AnyStr) -> AnyStr:
    """Take off the line end behind a line, if there is one."""
    newline, carriage_return = ("\n", "\r") if isinstance(line, str) else (b"\n", b"\r")
    if not line.endswith(newline):
        return line.removesuffix(carriage_return)
    return line[:-1].removesuffix(carriage_return)


def count_ends(text: AnyStr) -> int:
    """Count the line ends of a text."""
    if isinstance(text, str):
        return text.count("\n") + text.count("\r") - text.count("\r\n")
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")


def after_last_end(text: AnyStr) -> int:
    """Find the place behind the last line end of a text; 0 where there is none."""
    if isinstance(text, str):
        return max(text.rfind("\n"), text.rfind("\r")) + 1
    return max(text.rfind(b"\n"), text.rfind(b"\r")) + 1


def unsplit(pieces: Iterable[AnyStr]) -> Iterator[AnyStr]:
    """Give the same text in pieces that split no line end, from pieces cut anywhere."""
    held: AnyStr | None = None  # a "\r" that ended the piece before: a "\n" may follow
    for piece in pieces:
        piece = piece if held is None else held + piece
        held = piece[-1:] if piece.endswith("\r" if isinstance(piece, str) else b"\r") else None
        yield piece if held is None else piece[:-1]
    if held is not None:
        yield held


def translated(pieces: Iterable[AnyStr], count: Callable[[int], None] = lambda ends: None) -> Iterator[AnyStr]:
    """Give the text of pieces cut anywhere, every line end made "\\n". count: told how many of a piece were another."""
    for piece in unsplit(pieces):
        count(piece.count("\r") if isinstance(piece, str) else piece.count(b"\r"))
        yield normalized(piece)


def lines(pieces: Iterable[AnyStr]) -> Iterator[AnyStr]:
    """Cut a text, given in pieces that split no line end, into its lines, without the line ends.

    What stands behind the last line end is the last line; it may be empty.
    """
    held: list[AnyStr] = []  # the begin of a line that goes on
    for piece in pieces:
        parts: Any = normalized(piece)
        first, *others = parts.split("\n" if isinstance(piece, str) else b"\n")
        held.append(first)
        if others:
            yield first[:0].join(held)
            yield from others[:-1]
            held = others[-1:]
    if held:
        yield held[0][:0].join(held)


def lines_with_ends(pieces: Iterable[AnyStr]) -> Iterator[AnyStr]:
    """Cut as `lines` does, each line with the line end behind it as it is in the text."""
    held: list[AnyStr] = []
    for piece in pieces:
        begin = after_last_end(piece)
        if begin:
            ended: Any = _with_ends(piece[:begin])
            yield ended[0][:0].join([*held, ended[0]])
            yield from ended[1:]
            held = []
        held.append(piece[begin:])
    if held:
        yield held[0][:0].join(held)


def _with_ends(text: AnyStr) -> list[AnyStr]:
    """Split a text into its lines, each with its end. (str.splitlines knows other ends besides.)"""
    return text.splitlines(keepends=True) if isinstance(text, bytes) else list(io.StringIO(text, newline=""))
