"""Word vectors in files, as word2vec and GloVe write them: a word and its numbers on each line.

    the 0.418 0.24968 -0.41242 ...

word2vec's files begin with a line of two numbers, how many words there are and how many numbers each has. Files are read
line by line, unpacked if their name ends in .gz; only vectors of words that are wanted are kept.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any, NamedTuple

import numpy as np

from nblstm import checks
from nblstm.errors import ConfigError, TextError
from nblstm.text.lines import lines, unsplit
from nblstm.text.reading import read_each
from nblstm.text.vocabulary import Vocabulary

HEADER = re.compile(r"\d+ (\d+)\s*")  # of word2vec


class WordVectors(NamedTuple):
    """The vectors (tokens, D) float32 of some tokens of a vocabulary, by their ids (tokens,) int64."""

    ids: np.ndarray
    vectors: np.ndarray

    @property
    def size(self) -> int:
        """D: how many numbers a vector has."""
        return self.vectors.shape[1]


def read_vectors(path: Any, vocabulary: Vocabulary, encoding: str = "utf-8") -> WordVectors:
    """Read the vectors of a vocabulary's words; of a word that is there twice the first one.

    Words are compared without blanks around them; one that the file does not have takes the vector of its lower-case form.
    ConfigError for a vocabulary of bytes. TextError names file and line of what is no vector, and the file if it has none
    of the words.
    """
    path = checks.path("vectors", path)
    if vocabulary.level == "byte":
        raise ConfigError("vectors are for words or characters, and level byte has neither; choose another level.")
    words = [token.strip() for token in vocabulary.tokens]
    found = _found(path, {*words, *map(str.lower, words)} - {""}, encoding)
    places = {id: found.get(word, found.get(word.lower())) for id, word in enumerate(words)}
    kept = {id: vector for id, vector in places.items() if vector is not None}
    if not kept:
        raise TextError(f"{path} has none of the {len(vocabulary):,} tokens; name another file of vectors.")
    return WordVectors(np.array(list(kept)), np.array(list(kept.values()), np.float32))


def _found(path: str, wanted: Container[str], encoding: str) -> dict[str, np.ndarray]:
    """Read the vectors of the words that are wanted."""
    found: dict[str, np.ndarray] = {}
    size = 0
    for name, pieces in read_each(path, "char", encoding):
        for number, line in enumerate(lines(unsplit(pieces)), 1):
            if not line.strip():
                continue
            if not size:
                header = HEADER.fullmatch(line)
                size = int(header[1]) if header else len(line.split()) - 1
                if header:
                    continue
            word, *numbers = line.strip(" \t").replace("\t", " ").rsplit(" ", max(size, 1))
            if len(numbers) != size or not size:
                rule = f"a word and {size:,} numbers" if size else "a word and its numbers"
                raise TextError(f"{name}, line {number}: there must be {rule}, got {line[:40]!r}.")
            if word in wanted and word not in found:
                found[word] = _vector(name, number, numbers)
    return found


def _vector(name: str, line: int, numbers: list[str]) -> np.ndarray:
    """Return the numbers of a line. TextError unless all are finite."""
    try:
        with checks.quiet():
            vector = np.array(numbers, np.float32)
    except (ValueError, OverflowError):
        vector = np.array([np.nan])
    if not np.isfinite(vector).all():
        raise TextError(
            f"{name}, line {line}: the numbers behind the word must be finite, got {' '.join(numbers)[:40]!r}."
        )
    return vector


def place_vectors(embedding: np.ndarray, found: WordVectors) -> None:
    """Put vectors in the rows of an embedding (tokens, D), in place."""
    embedding[found.ids] = found.vectors
