"""State: what a network remembers between two calls, as one value that is passed and returned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nblstm.config import ModelConfig


@dataclass(frozen=True)
class State:
    """The hidden and cell state of every layer: h, c (L, N, H)."""

    h: np.ndarray
    c: np.ndarray

    @classmethod
    def zeros(cls, config: ModelConfig, batch_size: int = 1) -> State:
        """The state before the first token of `batch_size` texts."""
        shape = (config.num_layers, batch_size, config.hidden_size)
        return cls(np.zeros(shape, config.dtype), np.zeros(shape, config.dtype))

    def before(self, chunk: Any) -> State:
        """The state from which a chunk (`nblstm.text.batches.Chunk`) is read, this one being where the last ended."""
        if not chunk.fresh:
            return self.first(chunk.num_texts)
        layers, _, units = self.h.shape
        return State(*(np.zeros((layers, chunk.num_texts, units), self.h.dtype) for _ in "hc"))

    def first(self, num_texts: int) -> State:
        """The state of the first num_texts texts, sharing memory with this one."""
        return State(self.h[:, :num_texts], self.c[:, :num_texts])

    def copy(self) -> State:
        """A state that shares no memory with this one."""
        return State(self.h.copy(), self.c.copy())
