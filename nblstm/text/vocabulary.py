"""Vocabulary: text to token ids and back, by character, byte, word or sub-word.

| level | a token is                                  | `<unk>` | decode(encode(text)) == text            |
|-------|---------------------------------------------|---------|-----------------------------------------|
| char  | a Unicode code point                        | id 0    | if every character is known             |
| byte  | a byte of the UTF-8 encoding                | none    | always (a lone surrogate is replaced)   |
| word  | a match of the tokenizer's pattern          | id 0    | if every word is known, and, with the   |
|       |                                             |         | whitespace tokenizer, if it is canonical |
| subword | bytes of a word that often stand together | none    | as at byte level, see `nblstm.text.subwords` |

Both word tokenizers cut the text into matches of a pattern. `default` loses nothing: a word or a punctuation mark
takes one blank before it along, any other white space is a token of its own. `whitespace` is for text that is
tokenised already, such as WikiText: what stands between blanks is a word, a newline is a word too. It normalises:
a run of blanks (tabs and carriage returns are blanks) becomes one space, blanks next to a newline or at an end of
the text go. Text without any of those is canonical.

A vocabulary for documents (`ends`) has one token more, `<end>`: id 1 behind <unk>, or 256 behind the bytes.
It stands between documents, read first and predicted last. No text encodes to it, and it decodes to nothing.

Where `newline` is "lf", every line end of a text is "\\n" before it is cut into tokens; see `nblstm.text.lines`.
"""

from __future__ import annotations

import math
import re
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nblstm import checks
from nblstm.config.vocabulary import LEVELS, NEWLINES, TOKENIZERS
from nblstm.errors import ConfigError, ModelFileError, NblstmError
from nblstm.text.decoders import SpacingDecoder, TokenDecoder, Utf8Decoder
from nblstm.text.lines import normalized, translated
from nblstm.text.strings import checked, code_points, num_items, utf8

if TYPE_CHECKING:
    from nblstm.text.counting import TokenCounter

UNK = "<unk>"
END = "<end>"
PATTERNS = {
    "default": re.compile(r" ?\w+(?:['’]\w+)*| ?[^\w\s]|\s"),  # every character belongs to exactly one match
    "whitespace": re.compile(r"\S+|\n"),
}
NUM_CODE_POINTS = 0x110000


@dataclass(frozen=True)
class Vocabulary(ABC):
    """A list of distinct tokens; a token's id is its place in it. Made by `build` or `from_dict`.

    tokens: the tokens in id order. At byte level chr(0) .. chr(255).
    tokenizer: "default" or "whitespace"; means nothing but at word level.
    ends: whether one of the tokens is <end>.
    newline: "keep", or "lf" where CRLF and CR are read as LF.
    unk_id: id of every token that is not in the list; None at byte level, where there is no such token.
    """

    tokens: tuple[str, ...] = field(repr=False)
    tokenizer: str = "default"
    ends: bool = False
    newline: str = "keep"

    def __new__(cls, *args: Any, **kwargs: Any) -> Vocabulary:
        if cls is Vocabulary:
            raise ConfigError("Vocabulary.build and Vocabulary.from_dict make vocabularies; call one of them.")
        return super().__new__(cls)

    _ids: ClassVar[dict[str, int]]  # of each vocabulary, see `__post_init__`
    _texts: ClassVar[tuple[str, ...]]
    level: ClassVar[str]
    unk_id: ClassVar[int | None] = 0
    by_bytes: ClassVar[bool] = False  # whether a token may be less than a character
    END_PLACE: ClassVar[int] = 1  # the id of <end>, if it is there

    def __post_init__(self) -> None:
        """Raise ConfigError unless the tokens can be a vocabulary of this level.

        The tables are made now, as threads may share a vocabulary. `_ids`: token -> id, of all tokens that can stand in
        a text. `_texts`: what each id decodes to.
        """
        tokens = list(checks.a(tuple, "tokens", self.tokens))
        try:
            self._check(tokens, checks.a(bool, "ends", self.ends))
        except (ModelFileError, TypeError) as error:
            raise ConfigError(f"tokens must be a vocabulary's: {error}") from None
        checks.choice("tokenizer", self.tokenizer, TOKENIZERS)
        checks.choice("newline", self.newline, NEWLINES)
        if len(set(tokens)) != len(tokens):
            raise ConfigError("tokens must be distinct, and one of them is there twice.")
        ids = {token: id for id, token in enumerate(self.tokens) if id != self.end_id}
        texts = (*self.tokens[: self.END_PLACE], "", *self.tokens[self.END_PLACE + 1 :]) if self.ends else self.tokens
        vars(self).update(_ids=ids, _texts=texts)

    @staticmethod
    def build(
        chunks: Iterable[str],
        level: str,
        tokenizer: str = "default",
        min_count: int = 1,
        max_vocab: int | None = None,
        ends: bool = False,
    ) -> Vocabulary:
        """Build the vocabulary of a text given in chunks (cut where no token spans), read once, one at a time.

        Tokens seen fewer than min_count times are left out, and so are the rarest ones beyond a vocabulary of
        max_vocab tokens (<unk> and <end> included). Characters are ordered by code point, words by falling count and
        then by code point. At byte level the chunks are not read. Sub-words are learned as `nblstm.text.subwords` says,
        DEFAULT_SUBWORDS of them unless max_vocab says it. ends: for documents, with a token <end>.
        Raises ConfigError if an argument is out of its range.
        """
        counter = Vocabulary.counter(level, tokenizer, min_count, max_vocab, ends)
        checks.items("chunks", chunks)
        if isinstance(counter, Vocabulary):
            return counter
        for chunk in chunks:
            counter.count(chunk)
        return counter.vocabulary()

    @staticmethod
    def counter(
        level: str, tokenizer: str = "default", min_count: int = 1, max_vocab: int | None = None, ends: bool = False
    ) -> TokenCounter | Vocabulary:
        """Make the counter that encodes a text while its vocabulary is being built, as `build` builds it.

        At byte level that is the vocabulary itself, which nothing is counted for. ConfigError as `build`.
        """
        from nblstm.text.counting import COUNTERS

        _check_choices(level, tokenizer, ConfigError)
        specials = (UNK, END) if checks.a(bool, "ends", ends) else (UNK,)
        if not checks.is_whole(min_count, 1, sys.maxsize):
            raise ConfigError(f"min_count must be at least 1, got {min_count!r:.40}.")
        if max_vocab is not None and not checks.is_whole(max_vocab, len(specials) + 1, math.inf):
            rule = f"at least {len(specials) + 1} ({', '.join(specials)} and one token)"
            raise ConfigError(f"max_vocab must be {rule}, got {max_vocab!r:.40}.")
        if level == "byte":
            return Bytes((*Bytes.TOKENS, *specials[1:]), tokenizer, ends)  # there is no <unk>
        if level == "subword":
            from nblstm.text.subwords import SubwordLearner

            return SubwordLearner(tokenizer, min_count, max_vocab, ends)
        return COUNTERS[level](tokenizer, min_count, max_vocab, ends)

    @abstractmethod
    def split(self, text: Any) -> Sequence[str]:
        """Split the text into its tokens, known or not."""

    def read(self, text: Any) -> Any:
        """Return the text, str or bytes, with the line ends that are read. TextError if it is none."""
        text = checked(text)
        return normalized(text) if self.newline == "lf" else text

    def read_pieces(self, pieces: Iterable[Any]) -> Iterable[Any]:
        """Return as `read` the text that is given in pieces, which then split no line end."""
        pieces = map(checked, checks.items("pieces", pieces))
        return translated(pieces) if self.newline == "lf" else pieces

    def canonical(self, text: str) -> str:
        """Return the text as the vocabulary would write it if it knew every token."""
        return text

    @abstractmethod
    def decoder(self) -> TokenDecoder:
        """Make a streaming decoder. To continue a prompt, feed it the prompt's ids first."""

    @property
    def end_id(self) -> int | None:
        """Id of the token that stands between documents; None where texts have no ends."""
        return self.END_PLACE if self.ends else None

    @property
    def start_id(self) -> int:
        """The token that is read where a text begins: <end>, else a line end.

        That is a newline, but for a model of texts whose lines end with a carriage return alone.
        """
        if self.end_id is not None:
            return self.end_id
        known = [end for end in ("\n", "\r") if self.split(end) and not self.unknown(end)]
        return int(self.encode(known[0] if known else "\n")[0])

    @property
    def never_written(self) -> list[int]:
        """The ids that generated text never holds: <unk>, unless there is nothing else."""
        return [] if self.unk_id is None or len(self) == 1 else [self.unk_id]

    def token_bytes(self, id: int) -> bytes:
        """Return the UTF-8 of a token by itself. ConfigError for an id that there is not."""
        return self._bytes_of(checks.whole("id", id, 0, len(self) - 1))

    def _bytes_of(self, id: int) -> bytes:
        return utf8(self.tokens[id])

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned integer type that holds every id."""
        return np.min_scalar_type(len(self) - 1)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: Any) -> np.ndarray:
        """Encode a text as token ids, (tokens,) of `dtype`; a token that is not known becomes unk_id."""
        tokens = self.split(text)
        return np.fromiter(map(self._ids.get, tokens, repeat(self.unk_id)), self.dtype, count=len(tokens))

    def ids_of(self, tokens: Sequence[str]) -> np.ndarray:
        """Find the ids of tokens that are cut already, (tokens,) int32; of one that is not known unk_id."""
        strings = [checked(token, str) for token in checks.items("tokens", tokens)]
        unknown = 0 if self.unk_id is None else self.unk_id
        return np.fromiter(map(self._ids.get, strings, repeat(unknown)), np.int32, count=len(strings))

    def encode_all(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encode several texts: ids one text after the other, (tokens,) of `dtype`, and their lengths, (texts,) int64."""
        encoded = [self.encode(text) for text in checks.items("texts", texts)]
        return np.concatenate([np.empty(0, self.dtype), *encoded]), num_items(encoded)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Decode ids, (tokens,) integers below len(self), else ConfigError; unk_id becomes "<unk>"."""
        decoder, ids = self.decoder(), checks.ids("ids", ids, len(self), (-1,))
        return "".join(map(decoder.feed, ids.tolist())) + decoder.flush()

    def unknown(self, text: str) -> list[str]:
        """Find the text's distinct tokens that are not in the vocabulary, in order of first appearance."""
        return [token for token in dict.fromkeys(self.split(text)) if token not in self._ids]

    def to_dict(self) -> dict[str, Any]:
        """Return the vocabulary as JSON values."""
        end = {"end_id": self.end_id} if self.ends else {}
        newline = {"newline": self.newline} if self.newline != "keep" else {}  # as files were before there was a choice
        return {"level": self.level, "tokenizer": self.tokenizer, "tokens": list(self.tokens), **end, **newline}

    @staticmethod
    def from_dict(fields: Any) -> Vocabulary:
        """Make the vocabulary that a `to_dict` came from. ModelFileError if any part is not as it left: nothing is trusted."""
        if not isinstance(fields, Mapping) or set(fields) - {"end_id", "newline"} != {"level", "tokenizer", "tokens"}:
            raise ModelFileError(
                "the vocabulary must hold level, tokenizer and tokens, an end_id if texts have ends, newline if it is not "
                "keep, and nothing else."
            )
        level, tokenizer, tokens = fields["level"], fields["tokenizer"], fields["tokens"]
        _check_choices(level, tokenizer, ModelFileError)
        newline = fields.get("newline", "keep")
        checks.choice("newline", newline, NEWLINES, ModelFileError)
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise ModelFileError("the vocabulary's tokens must be a list of strings.")
        if len(set(tokens)) != len(tokens):
            twice = next(token for token, count in Counter(tokens).items() if count > 1)
            raise ModelFileError(f"the vocabulary's tokens must be distinct, but {twice[:40]!r} is there twice.")
        kind, ends = _kind(level), "end_id" in fields
        if ends:
            _check_end(fields["end_id"], kind.END_PLACE, tokens)
        kind._check(tokens, ends)
        return kind(tuple(tokens), tokenizer, ends, newline)

    @staticmethod
    def _check(tokens: list[str], ends: bool) -> None:
        """Raise ModelFileError unless distinct tokens, <end> in its place, can be a vocabulary of this level."""
        if tokens[:1] != [UNK]:
            raise ModelFileError(f"the vocabulary's first token must be {UNK}, got {', '.join(tokens[:1])[:40]!r}.")
        if "" in tokens:
            raise ModelFileError("the vocabulary's tokens must not be empty strings.")


class Characters(Vocabulary):
    """Every Unicode code point is a token."""

    level = "char"
    _table: ClassVar[np.ndarray]  # of each vocabulary

    def split(self, text: str) -> Sequence[str]:
        return self.read(checked(text, str))

    def __post_init__(self) -> None:
        """Make `_table`: code point -> id, (NUM_CODE_POINTS,) of `dtype`."""
        super().__post_init__()
        table, characters = np.zeros(NUM_CODE_POINTS, self.dtype), self.tokens[2 if self.ends else 1 :]
        table[code_points("".join(characters))] = np.arange(len(self) - len(characters), len(self))
        vars(self).update(_table=table)

    def encode(self, text: str) -> np.ndarray:
        return self._table[code_points(self.read(checked(text, str)))]

    def encode_all(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        texts = [self.read(checked(text, str)) for text in checks.items("texts", texts)]
        return self.encode("".join(texts)), num_items(texts)

    def decoder(self) -> TokenDecoder:
        return TokenDecoder(self._texts)

    @staticmethod
    def _check(tokens: list[str], ends: bool) -> None:
        Vocabulary._check(tokens, ends)
        for token in tokens[2 if ends else 1 :]:
            if len(token) != 1:
                raise ModelFileError(f"a char vocabulary's tokens must be single characters, got {token[:40]!r}.")


class Bytes(Vocabulary):
    """Every byte is a token, and its value its id."""

    level = "byte"
    unk_id = None
    by_bytes = True
    TOKENS = tuple(map(chr, range(256)))
    BYTES = (*(bytes((byte,)) for byte in range(256)), b"")  # of each id; <end> has none
    END_PLACE = len(TOKENS)

    def split(self, text: str | bytes) -> Sequence[str]:
        return utf8(self.read(text)).decode("latin-1")

    def encode(self, text: str | bytes) -> np.ndarray:
        """Return the bytes of the text's UTF-8 encoding, or the bytes given, (tokens,) of `dtype`."""
        return np.frombuffer(utf8(self.read(text)), np.uint8).astype(self.dtype)

    def _bytes_of(self, id: int) -> bytes:
        return self.BYTES[id] or super()._bytes_of(id)

    def decoder(self) -> TokenDecoder:
        return Utf8Decoder(self.BYTES)

    @staticmethod
    def _check(tokens: list[str], ends: bool) -> None:
        if tuple(tokens) != (Bytes.TOKENS + (END,) if ends else Bytes.TOKENS):
            raise ModelFileError("a byte vocabulary's tokens must be the 256 bytes in order.")


class Words(Vocabulary):
    """Every match of the tokenizer's pattern is a token."""

    level = "word"

    def split(self, text: str) -> Sequence[str]:
        return PATTERNS[self.tokenizer].findall(self.read(checked(text, str)))

    def canonical(self, text: str) -> str:
        if self.tokenizer != "whitespace":
            return text
        return "\n".join(" ".join(line.split()) for line in text.split("\n"))

    def decoder(self) -> TokenDecoder:
        return SpacingDecoder(self._texts) if self.tokenizer == "whitespace" else TokenDecoder(self._texts)


def _kind(level: str) -> type[Vocabulary]:
    """Return the vocabularies of a level."""
    if level == "subword":
        from nblstm.text.subwords import Subwords

        return Subwords
    return next(kind for kind in (Characters, Words, Bytes) if kind.level == level)


def _check_choices(level: Any, tokenizer: Any, error: type[NblstmError]) -> None:
    """Raise the error unless level and tokenizer are names that exist."""
    checks.choice("level", level, LEVELS, error)
    checks.choice("tokenizer", tokenizer, TOKENIZERS, error)


def _check_end(end_id: Any, place: int, tokens: list[str]) -> None:
    """Raise ModelFileError unless <end> is the token of end_id, and that is its place."""
    if type(end_id) is not int or end_id != place or tokens[place : place + 1] != [END]:
        found = ", ".join(tokens[place : place + 1])
        raise ModelFileError(
            f"the vocabulary's end_id must be {place}, that of {END}, got {end_id!r:.40}, and {found[:40]!r} is there."
        )


def check_vocabulary(kind: type, config: Any, vocabulary: Any) -> Any:
    """Return the config. ConfigError unless it is of this kind, and of a network for this vocabulary."""
    checks.a(kind, "config", config)
    if len(checks.a(Vocabulary, "vocabulary", vocabulary)) != config.vocab_size:
        raise ConfigError(f"vocab_size is {config.vocab_size}, but the vocabulary has {len(vocabulary)} tokens.")
    config.check_level(vocabulary.level)
    return config
