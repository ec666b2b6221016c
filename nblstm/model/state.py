"""State: what a network remembers between two calls, as one value that is passed and returned."""

from __future__ import annotations

from dataclasses import dataclass

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

    def copy(self) -> State:
        """A state that shares no memory with this one."""
        return State(self.h.copy(), self.c.copy())
