"""State: what a network remembers between two calls, as one value that is passed and returned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nblstm.config import ModelConfig


@dataclass(frozen=True)
class State:
    """What every layer remembers of N texts: h (L, N, H), c (L, N, H or 0); L counts both directions of a layer."""

    h: np.ndarray
    c: np.ndarray

    @classmethod
    def zeros(cls, config: ModelConfig, batch_size: int = 1) -> State:
        """The state of `batch_size` texts of which nothing has been read, if it is not learned."""
        L, cell = len(config.cells), config.cells[0]
        sizes = cell.output_size, cell.memory_size
        return cls(*(np.zeros((L, batch_size, size), config.dtype) for size in sizes))

    def first(self, num_texts: int) -> State:
        """The state of the first num_texts texts, sharing memory with this one."""
        return State(self.h[:, :num_texts], self.c[:, :num_texts])

    def copy(self) -> State:
        """A state that shares no memory with this one."""
        return State(self.h.copy(), self.c.copy())

    def take(self, texts: np.ndarray) -> State:
        """The state of the texts at these places (M,), one of which may come several times; a copy: (L, M, H)."""
        return State(self.h.take(texts, axis=1), self.c.take(texts, axis=1))
