"""State: what a network remembers between two calls, as one value that is passed and returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nblstm.config import ModelConfig


@dataclass(frozen=True)
class State:
    """What is remembered of N texts.

    h (L, N, H), c (L, N, H or 0): of every layer; L counts both directions of a layer. top (N, F): what the head saw
    last, from which the next token is drawn.
    """

    h: np.ndarray
    c: np.ndarray
    top: np.ndarray

    @classmethod
    def zeros(cls, config: ModelConfig, batch_size: int = 1) -> State:
        """The state of `batch_size` texts of which nothing has been read, if it is not learned."""
        L, cell, N = len(config.cells), config.cells[0], batch_size
        shapes = (L, N, cell.output_size), (L, N, cell.memory_size), (N, config.head_size)
        return cls(*(np.zeros(shape, config.dtype) for shape in shapes))

    def first(self, num_texts: int) -> State:
        """The state of the first num_texts texts, sharing memory with this one."""
        return State(self.h[:, :num_texts], self.c[:, :num_texts], self.top[:num_texts])

    def take(self, texts: Sequence[int] | np.ndarray) -> State:
        """A state of its own for the texts named, each as often as it is named. C-contiguous, unlike h[:, texts]."""
        return State(self.h.take(texts, axis=1), self.c.take(texts, axis=1), self.top.take(texts, axis=0))

    def copy(self) -> State:
        """A state that shares no memory with this one."""
        return State(self.h.copy(), self.c.copy(), self.top.copy())
