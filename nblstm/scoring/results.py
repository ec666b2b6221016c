"""Results of scoring: how probable a text is, summed up or token by token."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nblstm.text.strings import num_characters, num_words, utf8
from nblstm.text.vocabulary import Vocabulary

Text = str | bytes
OnProgress = Callable[
    [int, float], None
]  # called now and then with the tokens and bytes of text done since the last call


def no_progress(tokens: int, size: float) -> None:
    """Take progress and tell nobody: the default callback."""


@dataclass(frozen=True)
class Score:
    """The probability of a text, summed up. A token that is given is read, not scored."""

    nats: float  # -log probability of the scored tokens, natural logarithm
    tokens: int  # scored tokens, an end token among them
    characters: int  # characters they stand for, see `num_characters`; an end token stands for none
    bytes: int  # UTF-8 bytes they stand for
    unknown: int  # scored tokens that the vocabulary does not have
    words: int = 0  # words and line ends they stand for, see `num_words`, and end tokens

    def __repr__(self) -> str:
        return (
            f"<Score: {self.loss:.4f} nats per token, perplexity {figure_text(self.perplexity, 2)}, "
            f"{self.bits_per_character:.4f} bits per character; {self.tokens:,} tokens, {self.unknown:,} unknown>"
        )

    def __add__(self, other: Score) -> Score:
        """Add up the scores of two texts."""
        return Score(*(a + b for a, b in zip(vars(self).values(), vars(other).values())))

    @property
    def loss(self) -> float:
        """Nats per token; nan if nothing was scored"""
        return self.nats / self.tokens if self.tokens else math.nan

    @property
    def perplexity(self) -> float:
        """Exponential of the loss; inf where that overflows"""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_character(self) -> float:
        """Bits (nats / ln 2) per character; comparable between tokenizations"""
        return self.nats / math.log(2) / self.characters if self.characters else math.nan

    @property
    def bits_per_byte(self) -> float:
        """Bits (nats / ln 2) per UTF-8 byte"""
        return self.nats / math.log(2) / self.bytes if self.bytes else math.nan

    @property
    def perplexity_per_word(self) -> float:
        """Exponential of nats per word and line end; comparable between tokenizations, and with those of papers"""
        per_word = self.nats / self.words if self.words else math.nan
        return math.exp(per_word) if not per_word >= 700 else math.inf


NOTHING = Score(0.0, 0, 0, 0, 0)


def figure_text(value: float, digits: int) -> str:
    """Write a figure with so many digits behind its point; from a million on, which no table has room for, in all."""
    return f"{value:.{digits}g}" if value >= 1e6 else f"{value:.{digits}f}"


@dataclass(frozen=True)
class Surprisals:
    """A text, or a piece of one, token by token.

    text: what the scored tokens stand for. ids (M,) int32: the scored tokens. nats (M,): -log p of each.
    vocabulary: the one the ids belong to. inside: whether the piece before it ends in a word.
    """

    text: Text
    ids: np.ndarray
    nats: np.ndarray
    vocabulary: Vocabulary
    inside: bool = False

    @property
    def bits(self) -> np.ndarray:
        """Bits of each token, -log2 p (M,)"""
        return self.nats / self.nats.dtype.type(math.log(2))

    @property
    def tokens(self) -> list[str]:
        """The tokens as strings, as they stand in the text even where the vocabulary does not know them."""
        tokens = [] if self.vocabulary.by_bytes else list(self.vocabulary.split(self.text))
        return tokens + [self.vocabulary.tokens[id] for id in self.ids[len(tokens) :]]  # an end token has no text

    @property
    def unknown(self) -> np.ndarray:
        """Mask of tokens that the vocabulary does not have, (M,) bool."""
        return self.ids == (-1 if self.vocabulary.unk_id is None else self.vocabulary.unk_id)

    @property
    def score(self) -> Score:
        """The sum."""
        nats, unknown = float(self.nats.sum(dtype=np.float64)), int(np.count_nonzero(self.unknown))
        ends = 0 if self.vocabulary.end_id is None else int(np.count_nonzero(self.ids == self.vocabulary.end_id))
        words = num_words(self.text, self.inside) + ends
        return Score(nats, len(self.ids), num_characters(self.text), len(utf8(self.text)), unknown, words)


def worse_than_guessing(loss: float | None, vocab_size: int) -> str | None:
    """Say, without a full stop, that a loss (nats per token) is above that of a uniform guess; None where it is not."""
    uniform = math.log(vocab_size)
    if loss is None or not loss > uniform:
        return None
    return f"{loss:.4f} nats per token are worse than a uniform guess among its {vocab_size:,} tokens, {uniform:.4f}"
