"""Extent: which of the parameters an update reads and changes."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from nblstm.config import TokenStackConfig
from nblstm.kernels.packed import indices
from nblstm.nn.inputs import unique_tokens


class Extent:
    """All parameters, or all but the rows of an embedding whose tokens do not occur in a chunk.

    embedding: (V, E), which come first in a flat buffer of parameters, gradients or moments (num_parameters,); None
    where an update changes everything. rows: ids of those that occur; None for all.
    """

    def __init__(self, embedding: tuple[int, int] | None = None, rows: np.ndarray | None = None) -> None:
        self.embedding, self.rows = embedding, rows

    @classmethod
    def lazy(cls, config: TokenStackConfig) -> Extent:
        """Return the extent of all parameters, that `reading` makes smaller."""
        return cls((config.vocab_size, config.embedding_size))

    def reading(self, tokens: np.ndarray) -> Extent:
        """Return the extent of an update by a chunk of these tokens (M,)."""
        return self if self.embedding is None else Extent(self.embedding, unique_tokens(tokens, self.embedding[0])[0])

    def everything(self) -> Extent:
        """Return the extent of all parameters."""
        return self if self.rows is None else Extent(self.embedding)

    def parts(self, x: np.ndarray) -> list[np.ndarray]:
        """Return the numbers of a buffer that are inside, in flat arrays: the rows in a copy, the rest in place."""
        if self.embedding is None or self.rows is None:
            return [x]
        (V, E), size = self.embedding, self.embedding[0] * self.embedding[1]
        return [np.take(x[:size].reshape(V, E), indices(self.rows), axis=0).reshape(-1), x[size:]]

    def put(self, x: np.ndarray, parts: list[np.ndarray]) -> None:
        """Write back what `parts` has copied."""
        if self.embedding is not None and self.rows is not None:
            (V, E), size = self.embedding, self.embedding[0] * self.embedding[1]
            x[:size].reshape(V, E)[self.rows] = parts[0].reshape(-1, E)

    def clear(self, kernels: ModuleType, x: np.ndarray, threads: int) -> None:
        """Zero what is inside."""
        start = 0
        if self.embedding is not None and self.rows is not None:
            (V, E), start = self.embedding, self.embedding[0] * self.embedding[1]
            x[:start].reshape(V, E)[self.rows] = 0
        kernels.clear(x[start:], threads)

    def assign(self, kernels: ModuleType, y: np.ndarray, x: np.ndarray) -> None:
        """Copy x to y, which differ inside alone."""
        parts = self.parts(x)
        if len(parts) == 1:
            kernels.assign(y, x)
            return
        self.put(y, parts)
        y[len(y) - len(parts[1]) :] = parts[1]
