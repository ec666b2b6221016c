"""Vocabulary: text to token ids and back, by character, byte or word.

| level | a token is                                  | `<unk>` | decode(encode(text)) == text            |
|-------|---------------------------------------------|---------|-----------------------------------------|
| char  | a Unicode code point                        | id 0    | if every character is known             |
| byte  | a byte of the UTF-8 encoding                | none    | always (a lone surrogate is replaced)   |
| word  | a match of the tokenizer's pattern          | id 0    | if every word is known, and, with the   |
|       |                                             |         | whitespace tokenizer, if it is canonical |

Both word tokenizers cut the text into matches of a pattern. `default` loses nothing: a word or a punctuation mark
takes one blank before it along, any other white space is a token of its own. `whitespace` is for text that is
tokenised already, such as WikiText: what stands between blanks is a word, a newline is a word too. It normalises:
a run of blanks (tabs and carriage returns are blanks) becomes one space, blanks next to a newline or at an end of
the text go. Text without any of those is canonical.
"""

from __future__ import annotations

import codecs
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import Any, ClassVar

import numpy as np

from nblstm.errors import ConfigError, ModelFileError

UNK = "<unk>"
PATTERNS = {
    "default": re.compile(r" ?\w+(?:['’]\w+)*| ?[^\w\s]|\s"),  # every character belongs to exactly one match
    "whitespace": re.compile(r"\S+|\n"),
}
TOKENIZERS = tuple(PATTERNS)
NUM_CODE_POINTS = 0x110000


@dataclass(frozen=True)
class Vocabulary(ABC):
    """A list of distinct tokens; a token's id is its place in it. Made by `build` or `from_dict`.

    tokens: the tokens in id order. At byte level chr(0) .. chr(255).
    tokenizer: "default" or "whitespace"; means nothing but at word level.
    unk_id: id of every token that is not in the list; None at byte level, where there is no such token.
    end_id: id of the token that stands between documents: read first, predicted last; None where texts have no ends.
    """

    tokens: tuple[str, ...] = field(repr=False)
    tokenizer: str = "default"

    level: ClassVar[str]
    unk_id: ClassVar[int | None] = 0
    end_id: ClassVar[int | None] = None

    @staticmethod
    def build(
        chunks: Iterable[str],
        level: str,
        tokenizer: str = "default",
        min_count: int = 1,
        max_vocab: int | None = None,
    ) -> Vocabulary:
        """The vocabulary of a text given in chunks (cut where no token spans), read once, one at a time.

        Tokens seen fewer than min_count times are left out, and so are the rarest ones beyond a vocabulary of
        max_vocab tokens (<unk> included). Characters are ordered by code point, words by falling count and then
        by code point. At byte level the chunks are not read.
        Raises ConfigError if an argument is out of its range.
        """
        _check_choices(level, tokenizer, ConfigError)
        if min_count < 1:
            raise ConfigError(f"min_count must be at least 1, got {min_count}.")
        if max_vocab is not None and max_vocab < 2:
            raise ConfigError(f"max_vocab must be at least 2 (<unk> and one token), got {max_vocab}.")
        kind = _KINDS[level]
        return kind(kind._choose(chunks, tokenizer, min_count, max_vocab), tokenizer)

    @staticmethod
    @abstractmethod
    def _choose(chunks: Iterable[str], tokenizer: str, min_count: int, max_vocab: int | None) -> tuple[str, ...]:
        """The tokens of a new vocabulary, in id order; see `build`."""

    @abstractmethod
    def split(self, text: str) -> Sequence[str]:
        """The text's tokens as strings, known or not."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """A fresh streaming decoder. To continue a prompt, feed it the prompt's ids first."""

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned integer type that holds every id."""
        return np.min_scalar_type(len(self) - 1)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: id for id, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> np.ndarray:
        """The text's token ids, (tokens,) of `dtype`; a token that is not known becomes unk_id."""
        tokens = self.split(text)
        return np.fromiter(map(self._ids.get, tokens, repeat(self.unk_id)), self.dtype, count=len(tokens))

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of the ids, (tokens,) integers below len(self); unk_id becomes "<unk>"."""
        decoder = self.decoder()
        return "".join(map(decoder.feed, np.asarray(ids).tolist())) + decoder.flush()

    def unknown(self, text: str) -> list[str]:
        """The text's distinct tokens that are not in the vocabulary, in order of first appearance."""
        return [token for token in dict.fromkeys(self.split(text)) if token not in self._ids]

    def to_dict(self) -> dict[str, Any]:
        """The vocabulary as JSON values."""
        return {"level": self.level, "tokenizer": self.tokenizer, "tokens": list(self.tokens)}

    @staticmethod
    def from_dict(fields: Any) -> Vocabulary:
        """The vocabulary a `to_dict` came from. Trusts nothing: raises ModelFileError if any part is not as it left."""
        if not isinstance(fields, Mapping) or set(fields) != {"level", "tokenizer", "tokens"}:
            raise ModelFileError("the vocabulary must hold level, tokenizer and tokens, and nothing else.")
        level, tokenizer, tokens = fields["level"], fields["tokenizer"], fields["tokens"]
        _check_choices(level, tokenizer, ModelFileError)
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise ModelFileError("the vocabulary's tokens must be a list of strings.")
        if len(set(tokens)) != len(tokens):
            twice = next(token for token, count in Counter(tokens).items() if count > 1)
            raise ModelFileError(f"the vocabulary's tokens must be distinct, but {twice[:40]!r} is there twice.")
        _KINDS[level]._check(tokens)
        return _KINDS[level](tuple(tokens), tokenizer)

    @staticmethod
    def _check(tokens: list[str]) -> None:
        """Raise ModelFileError unless distinct tokens can be a vocabulary of this level."""
        if tokens[:1] != [UNK]:
            raise ModelFileError(f"the vocabulary's first token must be {UNK}, got {', '.join(tokens[:1])[:40]!r}.")
        if "" in tokens:
            raise ModelFileError("the vocabulary's tokens must not be empty strings.")


class Characters(Vocabulary):
    """Every Unicode code point is a token."""

    level = "char"

    @staticmethod
    def _choose(chunks: Iterable[str], tokenizer: str, min_count: int, max_vocab: int | None) -> tuple[str, ...]:
        counts = np.zeros(NUM_CODE_POINTS, np.int64)
        for chunk in chunks:
            found = np.bincount(_code_points(chunk).astype(np.intp))
            counts[: len(found)] += found
        characters = {chr(code): int(counts[code]) for code in np.flatnonzero(counts)}
        return (UNK, *sorted(_most_frequent(characters, min_count, max_vocab)))

    def split(self, text: str) -> Sequence[str]:
        return text

    @cached_property
    def _table(self) -> np.ndarray:
        """Code point -> id, (NUM_CODE_POINTS,) of `dtype`."""
        table = np.zeros(NUM_CODE_POINTS, self.dtype)
        table[_code_points("".join(self.tokens[1:]))] = np.arange(1, len(self))
        return table

    def encode(self, text: str) -> np.ndarray:
        return self._table[_code_points(text)]

    def decoder(self) -> Decoder:
        return Decoder(self.tokens)

    @staticmethod
    def _check(tokens: list[str]) -> None:
        Vocabulary._check(tokens)
        for token in tokens[1:]:
            if len(token) != 1:
                raise ModelFileError(f"a char vocabulary's tokens must be single characters, got {token[:40]!r}.")


class Bytes(Vocabulary):
    """Every byte is a token, and its value its id."""

    level = "byte"
    unk_id = None
    TOKENS = tuple(map(chr, range(256)))

    @staticmethod
    def _choose(chunks: Iterable[str], tokenizer: str, min_count: int, max_vocab: int | None) -> tuple[str, ...]:
        return Bytes.TOKENS

    def split(self, text: str) -> Sequence[str]:
        return self.encode(text).tobytes().decode("latin-1")

    def encode(self, text: str | bytes) -> np.ndarray:
        """The bytes of the text's UTF-8 encoding, or the bytes given, (tokens,) uint8."""
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        return np.frombuffer(data, np.uint8).copy()

    def decoder(self) -> Decoder:
        return Utf8Decoder(self.tokens)

    @staticmethod
    def _check(tokens: list[str]) -> None:
        if tuple(tokens) != Bytes.TOKENS:
            raise ModelFileError("a byte vocabulary's tokens must be the 256 bytes in order.")


class Words(Vocabulary):
    """Every match of the tokenizer's pattern is a token."""

    level = "word"

    @staticmethod
    def _choose(chunks: Iterable[str], tokenizer: str, min_count: int, max_vocab: int | None) -> tuple[str, ...]:
        counts: Counter[str] = Counter()
        for chunk in chunks:
            counts.update(PATTERNS[tokenizer].findall(chunk))
        counts.pop(UNK, None)  # WikiText spells its unknown words so
        return (UNK, *_most_frequent(counts, min_count, max_vocab))

    def split(self, text: str) -> Sequence[str]:
        return PATTERNS[self.tokenizer].findall(text)

    def decoder(self) -> Decoder:
        return SpacingDecoder(self.tokens) if self.tokenizer == "whitespace" else Decoder(self.tokens)


_KINDS: dict[str, type[Vocabulary]] = {kind.level: kind for kind in (Characters, Words, Bytes)}
LEVELS = tuple(_KINDS)


class Decoder:
    """Ids in, text out, one at a time: the joined results of every `feed` and the last `flush` are the decoded text."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens

    def feed(self, id: int) -> str:
        """The text that is certain now that this id has come; it may be empty."""
        return self._tokens[id]

    def flush(self) -> str:
        """The text still held back; the stream ends here."""
        return ""


class SpacingDecoder(Decoder):
    """Puts one space between two words, none next to a newline."""

    _before = "\n"

    def feed(self, id: int) -> str:
        before, self._before = self._before, self._tokens[id]
        return self._before if "\n" in (before, self._before) else " " + self._before


class Utf8Decoder(Decoder):
    """Holds back the bytes of an unfinished character; bytes that are not UTF-8 become U+FFFD."""

    def __init__(self, tokens: Sequence[str]) -> None:
        super().__init__(tokens)
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, id: int) -> str:
        return self._utf8.decode(bytes((id,)))

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


def _check_choices(level: Any, tokenizer: Any, error: type[Exception]) -> None:
    """Raise the error unless level and tokenizer are names that exist."""
    if level not in LEVELS:
        raise error(f"level must be one of {', '.join(LEVELS)}, got {level!r}.")
    if tokenizer not in TOKENIZERS:
        raise error(f"tokenizer must be one of {', '.join(TOKENIZERS)}, got {tokenizer!r}.")


def _most_frequent(counts: Mapping[str, int], min_count: int, max_vocab: int | None) -> list[str]:
    """The tokens that a vocabulary keeps beside <unk>, by falling count, then by code point."""
    kept = sorted((-count, token) for token, count in counts.items() if count >= min_count)
    return [token for _, token in kept[: None if max_vocab is None else max_vocab - 1]]


def _code_points(text: str) -> np.ndarray:
    """The text's code points, (len(text),) uint32; lone surrogates included."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))
