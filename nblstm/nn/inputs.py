"""Inputs: the first part of a network. The vectors of tokens, or numbers as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nblstm import checks
from nblstm.kernels.packed import indices
from nblstm.nn.noise import EMBEDDING, INPUT
from nblstm.nn.parameters import Gradients
from nblstm.nn.tape import Inputs, Tape

SORTED = 50  # tokens of a vocabulary are walked along in the time that it takes to sort one of a batch


class _Embedded(NamedTuple):
    """Arrays that an embedding keeps of a pass."""

    ids: np.ndarray  # of the rows of x
    in_place: bool  # whether those are the batch's rows, not its unique tokens


class TokenEmbedding:
    """x[m] = weight[tokens[m]], weight (V, E).

    A batch has few unique tokens, so x holds those, and the body's first layer projects each once and gathers: a
    quarter of a two-layer character model's products disappears. Where noise makes every position differ, x has a row
    for each.
    """

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config, self.weight = config, weights["embedding.weight"]

    def checked(self, tokens: np.ndarray) -> np.ndarray:
        """Return the ids (M,) int32. ConfigError for others."""
        return checks.ids("chunk.tokens", tokens, self.config.vocab_size, (len(tokens),), np.int32)

    def forward(self, tape: Tape, tokens: np.ndarray) -> Inputs:
        """Return the vectors of tokens (M,) int."""
        c, backend = self.config, tape.backend
        in_place = tape.noise is not None and (c.input_dropout > 0 or c.variational_dropout > 0)
        ids, index = (tokens, None) if in_place else unique_tokens(tokens, c.vocab_size)
        x = tape.scratch.array("x", len(ids), c.embedding_size, dtype=backend.stored)
        backend.kernels.embedding_forward(x, ids, self.weight, backend.threads)
        tape.input_kept = _Embedded(ids, in_place)
        self._drop_tokens(tape, x, ids)
        if in_place:
            tape.dropped(x, c.input_dropout, c.variational_dropout, INPUT, into=x)
        return Inputs(x, index, c.vocab_size)

    def backward(self, tape: Tape, grads: Gradients, dx: np.ndarray) -> None:
        """Add the gradient of the embedding, from dx as `forward` gave x; only rows of tokens that occurred change."""
        c, backend, (ids, in_place) = self.config, tape.backend, tape.input_kept
        if in_place:
            tape.dropped(dx, c.input_dropout, c.variational_dropout, INPUT, into=dx)
        self._drop_tokens(tape, dx, ids)
        backend.kernels.embedding_backward(grads["embedding.weight"], dx, ids, backend.threads)

    def _drop_tokens(self, tape: Tape, x: np.ndarray, ids: np.ndarray) -> None:
        """Zero the whole vectors of some tokens, in place (Gal & Ghahramani 2016, section 4.2); its own gradient."""
        if tape.noise is not None and self.config.embedding_dropout > 0:
            kept = tape.noise.factors((self.config.vocab_size,), x.dtype, self.config.embedding_dropout, EMBEDDING)
            x *= kept[ids, None]


class Numbers:
    """x[m] = the numbers of row m, with noise in training. Nothing is trained here."""

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config = config

    def checked(self, numbers: np.ndarray) -> np.ndarray:
        """Return the numbers (M, D). ConfigError for another shape or dtype."""
        return checks.in_form("chunk.tokens", numbers, (len(numbers), self.config.input_size), self.config.dtype)

    def forward(self, tape: Tape, numbers: np.ndarray) -> Inputs:
        """Return a copy of numbers (M, D)."""
        c, x = self.config, tape.scratch.array("x", *numbers.shape)
        x[...] = numbers
        return Inputs(tape.dropped(x, c.input_dropout, c.variational_dropout, INPUT, into=x), None, 0)

    def backward(self, tape: Tape, grads: Gradients, dx: np.ndarray) -> None:
        """Turn dx into the gradient of the numbers, in place."""
        tape.dropped(dx, self.config.input_dropout, self.config.variational_dropout, INPUT, into=dx)


class TokenWindow:
    """x[m] = the tokens of window m side by side, embedded: the article's section 4.1, after Bengio et al. 2003.

    Without an embedding they are one-hot, (n V), and x is W x already: the product of a matrix (n V, H) with ones and
    zeros is a sum of n of its rows.
    """

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config, self.one_hot = config, config.embedding_size == 0
        self.name = "window.weight" if self.one_hot else "embedding.weight"
        self.weight = weights[self.name]

    def checked(self, tokens: np.ndarray) -> np.ndarray:
        """Return the windows (M, n) int32. ConfigError for one that does not hold ids."""
        return checks.ids("chunk.tokens", tokens, self.config.vocab_size, (len(tokens), self.config.window), np.int32)

    def forward(self, tape: Tape, tokens: np.ndarray) -> Inputs:
        """Return the vectors of windows (M, n): (M, n E), or (M, H) where they are one-hot."""
        (M, n), backend = tokens.shape, tape.backend
        tape.input_kept = rows = self._rows(tokens)
        vectors = tape.scratch.array("vectors", M * n, self.weight.shape[1])
        backend.kernels.embedding_forward(vectors, rows, self.weight, backend.threads)
        if not self.one_hot:
            return Inputs(vectors.reshape(M, -1), None, 0)
        return Inputs(np.sum(vectors.reshape(M, n, -1), axis=1), None, 0)

    def _rows(self, tokens: np.ndarray) -> np.ndarray:
        """Return the rows of the weight that belong to windows (M, n): (M n,)."""
        if self.one_hot:
            tokens = tokens + self.config.vocab_size * np.arange(tokens.shape[1], dtype=np.int32)
        return tokens.reshape(-1)

    def backward(self, tape: Tape, grads: Gradients, dx: np.ndarray) -> None:
        """Add the gradient of the weight, from dx as `forward` gave x."""
        backend, rows = tape.backend, tape.input_kept
        if self.one_hot:  # x = the sum of n rows
            dx = np.repeat(dx, indices(len(rows) // len(dx)), axis=0)
        d = np.ascontiguousarray(dx.reshape(len(rows), -1))
        backend.kernels.embedding_backward(grads[self.name], d, rows, backend.threads)


def unique_tokens(tokens: np.ndarray, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (unique ids in rising order, index (M,) int32 with unique[index] == tokens), in O(V + M) or by sorting."""
    if vocab_size > SORTED * len(tokens):
        unique, index = np.unique(tokens, return_inverse=True)
        return indices(unique), index.astype(np.int32)
    place = np.zeros(vocab_size, np.int32)
    place[tokens] = 1
    unique = np.flatnonzero(place)
    place[unique] = np.arange(len(unique), dtype=np.int32)
    return unique, place[tokens]
