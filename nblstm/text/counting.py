"""Counting: a text encoded before its vocabulary is known, so that it is read once for both.

Every token gets a provisional id where it first occurs, behind those of <unk> and <end>. Once all have been counted the
vocabulary is chosen, and a table takes the provisional ids to its own. (What is counted may be more than a token: the
pieces that sub-words are learned from are, and each becomes several ids.)
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain, compress, count, repeat
from typing import ClassVar

import numpy as np

from nblstm.kernels.packed import indices
from nblstm.text.strings import checked, code_points, num_items
from nblstm.text.vocabulary import END, NUM_CODE_POINTS, PATTERNS, UNK, Characters, Vocabulary, Words


class TokenCounter(ABC):
    """Encodes and counts the tokens of a text as they come; `vocabulary()` chooses among them. Made by `token_counter`.

    end_id: the provisional id of <end>, None where texts have no ends. dtype: the smallest unsigned integer type that
    holds every provisional id so far. one_to_one: whether each becomes one id of the vocabulary.
    """

    unk_id = 0
    one_to_one: ClassVar[bool] = True

    def __init__(self, tokenizer: str, min_count: int, max_vocab: int | None, ends: bool) -> None:
        self.tokenizer, self.min_count, self.max_vocab, self.ends = tokenizer, min_count, max_vocab, ends
        self.specials: tuple[str, ...] = (UNK, END) if ends else (UNK,)
        self.end_id = Vocabulary.END_PLACE if ends else None
        self._counts = np.zeros(len(self.specials), np.int64)  # of each provisional id

    @abstractmethod
    def __len__(self) -> int:
        """Tell how many provisional ids there are."""

    @property
    def dtype(self) -> np.dtype:
        return np.min_scalar_type(len(self) - 1)

    def encode(self, text: str) -> np.ndarray:
        """Count a text's tokens and return their provisional ids, (tokens,) of `dtype`."""
        return self.encode_all([text])[0]

    def count(self, text: str) -> None:
        """Count a text's tokens."""
        self.encode_all([text])

    def encode_all(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Count several texts: (their ids one after the other, (tokens,) of `dtype`; their lengths (texts,) int64)."""
        ids, lengths = self._encode_all([checked(text, str) for text in texts])
        counts = np.bincount(indices(ids), minlength=len(self._counts))
        counts[: len(self._counts)] += self._counts
        self._counts = counts
        return ids, lengths

    @abstractmethod
    def _encode_all(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encode without counting; see `encode_all`."""

    @abstractmethod
    def vocabulary(self) -> Vocabulary:
        """Choose the vocabulary of what has been counted; see `Vocabulary.build`."""

    def final_ids(self, vocabulary: Vocabulary) -> Callable[[np.ndarray], np.ndarray]:
        """Return what takes provisional ids (ids,) to those in a vocabulary that has been chosen, of its dtype."""
        table, first = np.zeros(len(self), vocabulary.dtype), len(self.specials)  # what was not chosen is <unk>, 0
        places = self._places(vocabulary.tokens[first:])
        table[places] = np.arange(first, len(vocabulary))
        table[:first] = np.arange(first)  # where tokens of the vocabulary that were not counted have gone, too
        return table.__getitem__

    @abstractmethod
    def _places(self, tokens: Sequence[str]) -> np.ndarray:
        """Find the provisional ids of tokens, (tokens,) integers; 0 for those that have none."""

    def _most_frequent(self, tokens: Sequence[str]) -> list[str]:
        """Select by min_count and max_vocab, by falling count, then by code point.

        tokens: those behind the specials, by provisional id.
        """
        counts = self._counts[len(self.specials) :]
        room = len(tokens) if self.max_vocab is None else self.max_vocab - len(self.specials)
        # of very many only the kept ones are sorted: all above the count of the last one, and the first with that count
        last = int(np.partition(counts, -room)[-room]) if room < len(tokens) else 0
        often = (counts >= max(last + 1, self.min_count)).tolist()
        above = [token for _, token in sorted(zip(compress(-counts, often), compress(tokens, often)))]
        alike = compress(tokens, (counts == last).tolist()) if last >= self.min_count else ()
        return above + sorted(alike)[: room - len(above)]


class CharacterCounter(TokenCounter):
    """Counts code points."""

    def __init__(self, tokenizer: str, min_count: int, max_vocab: int | None, ends: bool) -> None:
        super().__init__(tokenizer, min_count, max_vocab, ends)
        self._codes = np.empty(0, np.int64)  # of every provisional id behind the specials
        self._ids = np.zeros(NUM_CODE_POINTS, self.dtype)  # code point -> provisional id; 0 where it has none

    def __len__(self) -> int:
        return len(self.specials) + len(self._codes)

    def _encode_all(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        codes = code_points("".join(texts))
        ids = self._ids[codes]
        if not ids.all():
            self._add(np.flatnonzero(np.bincount(indices(codes[ids == 0]))))
            ids = self._ids[codes]
        return ids, num_items(texts)

    def _add(self, codes: np.ndarray) -> None:
        """Give code points (codes,) that have none a provisional id."""
        first = len(self)
        self._codes = np.concatenate([self._codes, codes])
        self._ids = self._ids.astype(self.dtype, copy=False)
        self._ids[codes] = np.arange(first, len(self))

    def vocabulary(self) -> Vocabulary:
        kept = sorted(self._most_frequent(list(map(chr, self._codes.tolist()))))
        return Characters((*self.specials, *kept), self.tokenizer, self.ends)

    def _places(self, tokens: Sequence[str]) -> np.ndarray:
        return indices(self._ids[code_points("".join(tokens))])


class WordCounter(TokenCounter):
    """Counts the matches of a pattern: words, by the tokenizer's."""

    def __init__(
        self, tokenizer: str, min_count: int, max_vocab: int | None, ends: bool, pattern: re.Pattern[str] | None = None
    ) -> None:
        super().__init__(tokenizer, min_count, max_vocab, ends)
        self._pattern = pattern or PATTERNS[tokenizer]
        # word -> provisional id, given when it is first asked for
        self._ids: defaultdict[str, int] = defaultdict(count(len(self.specials)).__next__)
        self._ids.update(dict.fromkeys(self.specials, self.unk_id))  # WikiText spells its unknown words so

    def __len__(self) -> int:
        return len(self._ids)

    def _encode_all(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        words = list(map(self._pattern.findall, texts))
        lengths = num_items(words)
        ids = np.fromiter(map(self._ids.__getitem__, chain.from_iterable(words)), np.int64, count=int(lengths.sum()))
        return ids.astype(self.dtype), lengths

    def _words(self) -> list[str]:
        """List what has been counted, by provisional id, without the specials."""
        return list(self._ids)[len(self.specials) :]

    def vocabulary(self) -> Vocabulary:
        kept = self._most_frequent(self._words())
        return Words((*self.specials, *kept), self.tokenizer, self.ends)

    def _places(self, tokens: Sequence[str]) -> np.ndarray:
        return np.fromiter(map(self._ids.get, tokens, repeat(0)), np.intp, count=len(tokens))


COUNTERS: dict[str, type[TokenCounter]] = {"char": CharacterCounter, "word": WordCounter}
