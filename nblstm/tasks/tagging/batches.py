"""Sentences of like length side by side: each form of a word once, with its spelling, and the tags of all words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nblstm.config import DEFAULT_BUCKETS
from nblstm.kernels.packed import indices
from nblstm.nn.spelling import SpelledTokens
from nblstm.scoring import batch_size
from nblstm.tasks.tagging.config import TaggerConfig
from nblstm.tasks.tagging.settings import TaggedTextConfig
from nblstm.text.batches import Chunk
from nblstm.text.buckets import Buckets, best_boundaries, rows_of
from nblstm.text.strings import code_points, num_items
from nblstm.text.vocabulary import Vocabulary

DIGIT = re.compile(r"\d")


def looked_up(word: str, config: TaggerConfig | TaggedTextConfig) -> str:
    """Return a word as the vocabulary has it."""
    word = word.lower() if config.lowercase else word
    return DIGIT.sub("0", word) if config.zero_digits else word


@dataclass(frozen=True)
class SpelledForms:
    """Distinct words as they are written: of each its word in the vocabulary, and its characters.

    words (F,) int32. characters: those of all forms one behind the other, int32; starts, lengths (F,) int64: of each.
    """

    words: np.ndarray
    characters: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, forms: Sequence[str], vocabulary: Vocabulary, config: TaggerConfig) -> SpelledForms:
        """Look up forms, which are not empty."""
        short = [form[: config.max_characters] for form in forms]
        points, known = code_points("".join(short)), code_points(config.characters)
        order = np.argsort(known)  # 0 is an unknown character, k + 1 the k-th known one
        places = np.minimum(np.searchsorted(known[order], points), max(0, len(known) - 1))
        found = known[order][places] == points if len(known) else np.zeros(len(points), bool)
        ids = np.where(found, order[places] + 1 if len(known) else 0, 0).astype(np.int32)
        lengths = num_items(short)
        words = vocabulary.ids_of([looked_up(form, config) for form in forms])
        return cls(words, ids, np.cumsum(lengths) - lengths, lengths)

    def tokens(self, rows: np.ndarray, spelled: bool) -> SpelledTokens:
        """Return the tokens whose forms these rows (M,) name; spelled: whether with their characters."""
        forms, inverse = np.unique(rows, return_inverse=True)
        if not spelled:
            return SpelledTokens(inverse.astype(np.int32), self.words[forms])
        order = np.argsort(-self.lengths[forms], kind="stable")
        place = np.empty(len(forms), np.int32)
        place[order] = np.arange(len(forms), dtype=np.int32)
        forms = forms[order]
        characters, offsets = rows_of(self.starts[forms], self.lengths[forms])
        return SpelledTokens(place[inverse], self.words[forms], self.characters[characters], offsets)


class TaggedSentences(Buckets):
    """Sentences in buckets, each read whole: a source of training, and with seed None of validation.

    sentences: lists of words, at least one, none of them empty. tags (words of all,) int32. Sentences longer than
    config.max_length are so many as it takes to hold them.
    """

    def __init__(
        self, sentences: Sequence[Sequence[str]], tags: np.ndarray, vocabulary: Vocabulary, config: TaggerConfig,
        batch_size: int, seed: int | None = None,
    ) -> None:  # fmt: skip
        places: dict[str, int] = {}
        forms = [places.setdefault(word, len(places)) for sentence in sentences for word in sentence]
        lengths = _cut(num_items(sentences), config.max_length)
        boundaries = best_boundaries(lengths, DEFAULT_BUCKETS) if seed is not None else ()
        offsets = np.cumsum(np.concatenate([[0], lengths]))
        super().__init__(np.array(forms, np.int32), offsets, boundaries, int(lengths.max()), batch_size, seed=seed)
        self.tags, self.config = tags, config
        self.forms = SpelledForms.of(list(places), vocabulary, config)

    def chunk(self, starts: np.ndarray, lengths: np.ndarray, fresh: bool) -> Chunk:
        """Return the chunk of the sentences that begin at `starts`."""
        rows, offsets = rows_of(starts, lengths)
        tokens = self.forms.tokens(self.ids[rows], self.config.char_hidden_size > 0)
        return Chunk(tokens, self.tags[rows], offsets, fresh)  # type: ignore[arg-type] # tokens that the input reads

    def in_batches(self) -> Iterator[tuple[np.ndarray, Chunk]]:
        """Yield (the places of the words, their chunk), the longest sentences first, as many at once as memory allows."""
        order = np.argsort(-self.lengths, kind="stable")
        while len(order):
            texts = order[: batch_size(self.config, int(self.lengths[order[0]]))]
            starts, lengths = self.starts[texts], self.lengths[texts]
            yield rows_of(starts, lengths)[0], self.chunk(starts, lengths, True)
            order = order[len(texts) :]


def _cut(lengths: np.ndarray, longest: int) -> np.ndarray:
    """Return the lengths of the parts that sentences are read in, none above `longest`."""
    parts = -(-lengths // longest)
    if not (parts > 1).any():
        return lengths
    cut = np.full(int(parts.sum()), longest)
    cut[np.cumsum(parts) - 1] = lengths - (parts - 1) * longest
    return cut


def occurrences(words: np.ndarray, vocab_size: int) -> np.ndarray:
    """Count the words (M,) of each id, (vocab_size,)."""
    return np.bincount(indices(words), minlength=vocab_size)
