"""Cutting: where a text may be cut, so that no token is, and how it is cut there into chunks, or in two."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any

from nblstm.text import sources
from nblstm.text.subwords import PIECE
from nblstm.text.vocabulary import PATTERNS

BEFORE_LAST_BLANK = re.compile(r".*(?=\s)", re.DOTALL)


def cut_at_tokens(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the same text in chunks of about CHUNK characters, each ending where no token spans."""
    held: list[str] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= sources.CHUNK:
            text = "".join(held)
            end = _token_border(text)
            yield text[:end]
            held, size = [text[end:]], len(text) - end
    yield "".join(held)


def gathered(documents: Iterable) -> Iterator[list]:
    """Put the documents in lists of about CHUNK characters (or bytes), or a single longer one."""
    held: list = []
    size = 0
    for document in documents:
        held.append(document)
        size += len(document)
        if size >= sources.CHUNK:
            yield held
            held, size = [], 0
    yield held


def cut_in_two(chunks: Iterator, position: int, border: Callable[[Any, int], int]) -> tuple[Iterator, Iterator]:
    """Cut a text in two that is read once: the chunks of the first part, and those behind it, to be taken after them.

    position: in characters (or bytes, or documents). border: the last place up to `place` where a chunk may be cut.
    """
    tail: list = []  # of the chunk that is cut, once it has come

    def first() -> Iterator:
        left = position
        for chunk in chunks:
            if len(chunk) >= left:
                place = border(chunk, left)
                tail.append(chunk[place:])
                yield chunk[:place]
                return
            left -= len(chunk)
            yield chunk

    return first(), chain(tail, chunks)


def border_of(level: str, tokenizer: str, split_at: str) -> Callable[[Any, int], int]:
    """Choose where a chunk of a stream may be cut: for words at a "token" or a "line"."""
    if level not in ("word", "subword"):
        return anywhere
    if split_at == "line":
        return lambda chunk, place: _token_border(chunk[:place])
    return partial(_last_token_border, pattern=PIECE if level == "subword" else PATTERNS[tokenizer])


def anywhere(chunk: Any, place: int) -> int:
    """Return the place itself."""
    return place


def _token_border(text: str) -> int:
    """Find the last place, above 0, that no token spans: after a newline, else before white space, else the end."""
    return text.rfind("\n") + 1 or _before_last_blank(text) or len(text)


def _last_token_border(chunk: str, place: int, pattern: re.Pattern[str]) -> int:
    """Find the last place up to `place` that splits no token, and no line end, of a chunk that begins with a token."""
    if chunk[place - 1 : place + 1] == "\r\n":
        return place - 1
    for token in pattern.finditer(chunk, _before_last_blank(chunk[:place])):
        if token.end() >= place:
            return token.start() if token.start() < place < token.end() else place
    return place


def _before_last_blank(text: str) -> int:
    """Find the place of the last white space of a text; 0 where there is none."""
    found = BEFORE_LAST_BLANK.match(text)
    return found.end() if found else 0
