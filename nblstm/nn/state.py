"""State: a network's memory between two calls, as one value that is passed and returned."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config import StackConfig
from nblstm.config.checks import MAX_SIZE
from nblstm.errors import ConfigError
from nblstm.kernels.packed import indices


@dataclass(frozen=True)
class State:
    """The memory of N texts.

    h (L, N, H), c (L, N, H or 0): of every layer; L counts both directions of a layer. features (N, F): what the head saw
    last, from which the next token is drawn. ConfigError unless these are arrays of N texts.
    """

    h: np.ndarray
    c: np.ndarray
    features: np.ndarray

    def __post_init__(self) -> None:
        shapes = [
            tuple(getattr(array, "shape", ())) for array in (self.h, self.c, self.features)
        ]  # a card's arrays have one
        sizes = list(map(len, shapes))
        if sizes != [3, 3, 2] or shapes[0][:2] != shapes[1][:2] or shapes[0][1] != shapes[2][0]:
            raise ConfigError(f"a state must be arrays h (L, N, H), c (L, N, C) and features (N, F), got {shapes}.")

    @classmethod
    def zeros(cls, config: StackConfig, batch_size: int = 1) -> State:
        """Return the state of `batch_size` texts of which nothing has been read, if it is not learned."""
        checks.a(StackConfig, "config", config)
        checks.whole("batch_size", batch_size, 0, MAX_SIZE)
        return cls(*(np.zeros(shape, config.dtype) for shape in state_shapes(config, batch_size)))

    def first(self, num_texts: int) -> State:
        """Return the state of the first num_texts texts, a view of this one. ConfigError if there are fewer."""
        checks.whole("num_texts", num_texts, 0, self.num_texts)
        return State(self.h[:, :num_texts], self.c[:, :num_texts], self.features[:num_texts])

    def take(self, texts: Sequence[int] | np.ndarray) -> State:
        """Copy the state of the texts named, each as often as it is named. C-contiguous, unlike h[:, texts].

        texts: whole numbers from 0 to N - 1, else ConfigError.
        """
        texts = indices(checks.ids("texts", texts, self.num_texts))
        return State(self.h.take(texts, axis=1), self.c.take(texts, axis=1), self.features.take(texts, axis=0))

    def copy(self) -> State:
        """Copy the state: the copy shares no memory with this one."""
        return State(self.h.copy(), self.c.copy(), self.features.copy())

    @property
    def top(self) -> np.ndarray:
        """The features, by the name that they had before; it works for one more version."""
        warnings.warn("State.top is now State.features", DeprecationWarning, stacklevel=2)
        return self.features

    @property
    def num_texts(self) -> int:
        """N."""
        return self.features.shape[0]

    def of(self, config: StackConfig, num_texts: int | None = None) -> State:
        """Return the state as a network's kernels read it, see `checks.in_form`. ConfigError for another network's.

        num_texts: of how many texts it must be; None for as many as there are.
        """
        shapes = state_shapes(config, self.num_texts if num_texts is None else num_texts)
        formed = {
            name: array
            if hasattr(array, "copy_to_host")
            else checks.in_form(f"state.{name}", array, shape, config.dtype)
            for (name, array), shape in zip(vars(self).items(), shapes)
        }
        return self if all(formed[name] is array for name, array in vars(self).items()) else State(**formed)

    def check_in_place(self, config: StackConfig, num_texts: int) -> None:
        """Raise ConfigError unless the kernels of such a network can write to the state of so many texts."""
        for (name, array), shape in zip(vars(self).items(), state_shapes(config, num_texts)):
            checks.in_place(f"state.{name}", array, shape, config.dtype)

    def check_finite(self) -> None:
        """Raise ConfigError for NaN or infinity."""
        for name, array in vars(self).items():
            checks.finite(f"state.{name}", array)


def state_shapes(config: StackConfig, num_texts: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of h, c and features of so many texts."""
    L, cell, N = len(config.cells), config.cells[0], num_texts
    return (L, N, cell.output_size), (L, N, cell.memory_size), (N, config.head_size)


class Stateless:
    """A body that carries nothing from batch to batch: its state is empty arrays. config: its `dtype` is theirs."""

    config: Any

    def initial_state(self, batch_size: int = 1) -> State:
        """Return a state that holds nothing."""
        shapes = (0, batch_size, 0), (0, batch_size, 0), (batch_size, 0)
        return State(*(np.zeros(shape, self.config.dtype) for shape in shapes))

    def carried(self, state: State) -> State:
        """Return the state itself."""
        return state

    def checked(self, state: State, batch_size: int) -> State:
        """Return the state itself, which holds nothing."""
        return state
