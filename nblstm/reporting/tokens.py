"""Tokens as a reader sees them: the text each one adds, and a label that shows blanks and line ends."""

from __future__ import annotations

import unicodedata

import numpy as np

from nblstm.text.vocabulary import Vocabulary

END_LABEL = "⟨end⟩"
MARKS = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}


def pieces(vocabulary: Vocabulary, ids: np.ndarray) -> list[str]:
    """Return the text that each id (T,) adds to the decoded text.

    A byte that is not ASCII shows as its number, \\xe2, and the end of a document as a line of its own.
    """
    decoder = vocabulary.decoder()
    add = _byte if vocabulary.level == "byte" else decoder.feed
    return [END_LABEL + "\n" if id == vocabulary.end_id else add(id) for id in ids.tolist()]


def _byte(id: int) -> str:
    return chr(id) if id < 0x80 else f"\\x{id:02x}"


def label(vocabulary: Vocabulary, id: int) -> str:
    """Return a token by itself, in a few visible letters."""
    if id == vocabulary.end_id:
        return END_LABEL
    piece = vocabulary.tokens[id]
    if vocabulary.by_bytes:
        piece = vocabulary.token_bytes(id).decode("utf-8", "backslashreplace")
    return "".join(MARKS.get(letter, letter) for letter in printable(piece[:40]))


def printable(text: str) -> str:
    """Return the text with U+FFFD for what a page must not hold: controls other than white space, and half characters.

    Marks that turn the direction of writing are controls too: they would turn the page around them.
    """
    bad = ("Cc", "Cs", "Cn", "Co")
    return "".join(
        letter if letter in "\t\n\r" or not (unicodedata.category(letter) in bad or _turns(letter)) else "\ufffd"
        for letter in text
    )


def _turns(letter: str) -> bool:
    return "\u202a" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069" or letter in "\u200e\u200f"
