"""Strings: a text as it comes, str or bytes: checked, measured, and in other forms."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any

import numpy as np

from nblstm.errors import TextError


def num_items(items: Sequence[Sized]) -> np.ndarray:
    """Count the items of each, (items,) int64."""
    return np.fromiter(map(len, items), np.int64, count=len(items))


def checked(text: Any, kind: type | tuple[type, ...] = (str, bytes)) -> Any:
    """Return the text. TextError if it is none of this kind."""
    if not isinstance(text, kind):
        raise TextError(f"a text must be a string, got {type(text).__name__}.")
    return text


def utf8(text: str | bytes) -> bytes:
    """Return the text's UTF-8 encoding, lone surrogates included; bytes as they are."""
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def num_characters(text: str | bytes) -> int:
    """Count the characters of a text: code points, of bytes those of the UTF-8 text that they are.

    Of bytes every one that does not go on with a character (0x80 to 0xBF do) counts as one, so the counts of pieces add
    up wherever they are cut; where bytes are not UTF-8, this is what is counted.
    """
    if isinstance(text, str):
        return len(text)
    return int(np.count_nonzero(np.frombuffer(text, np.int8) >= -64))  # 0x80 .. 0xBF are -128 .. -65


def num_words(text: str | bytes, inside: bool = False) -> int:
    """Count the words of a text, which white space of ASCII parts, and its line ends: the tokens of most papers.

    inside: whether the piece of text before it ends in a word (`ends_inside`), which then goes on and is counted there.
    """
    data = utf8(text)
    goes_on = inside and bool(data) and not data[:1].isspace()
    return len(data.split()) + data.count(b"\n") - goes_on


def ends_inside(text: str | bytes, before: bool = False) -> bool:
    """Tell whether a piece of text ends in a word; of an empty one what `before` says of the piece before it."""
    data = utf8(text[-1:])
    return not data.isspace() if data else before


def code_points(text: str) -> np.ndarray:
    """Return the text's code points, (len(text),) uint32; lone surrogates included."""
    return np.frombuffer(checked(text, str).encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))
