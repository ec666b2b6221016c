"""Decoders: token ids to text, as they come."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TokenDecoder:
    """Ids in, text out, one at a time: the joined results of every `feed` and the last `flush` are the decoded text.

    tokens: the text of each id; that of <end> is empty.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens

    def feed(self, id: int) -> str:
        """Return the text that is certain now that this id has come; it may be empty."""
        return self._tokens[id]

    def flush(self) -> str:
        """Return the text still held back; the stream ends here."""
        return ""


class SpacingDecoder(TokenDecoder):
    """Puts one space between two words, none next to a newline or where a document begins."""

    _before = "\n"

    def feed(self, id: int) -> str:
        before, self._before = self._before, self._tokens[id] or "\n"
        if not self._tokens[id]:
            return ""
        return self._before if "\n" in (before, self._before) else " " + self._before


class Utf8Decoder(TokenDecoder):
    """Holds back the bytes of an unfinished character; bytes that are not UTF-8 become U+FFFD.

    pieces: the bytes of each id; <end> has none.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, id: int) -> str:
        piece = self._pieces[id]
        return self._utf8.decode(piece) if piece else self.flush()

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)
