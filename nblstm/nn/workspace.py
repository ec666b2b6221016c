"""Workspace: the scratch arrays of one pass. Weights are shared between callers, scratch never is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

RETAINED = 4  # workspaces that wait for the next caller; those of more callers at once are thrown away


class Backend(NamedTuple):
    """What the parts of a network compute with."""

    kernels: ModuleType  # see nblstm.kernels
    threads: int
    dtype: np.dtype  # of parameters, sums and gradients
    stored: np.dtype  # of activations: float16 in half precision, else dtype


class Workspace:
    """Arrays, and the kernels' works, kept between passes under their names; they grow as they must."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._arrays: dict[str, np.ndarray] = {}
        self._works: dict[str, tuple[tuple[int, ...], Any]] = {}

    def array(self, name: str, *shape: int, dtype: Any = None) -> np.ndarray:
        """An uninitialised array; of the backend's dtype unless another is named, always the same one for a name."""
        size, kept = int(np.prod(shape)), self._arrays.get(name)
        if kept is None or kept.size < size:
            kept = self._arrays[name] = self.backend.kernels.empty((size,), dtype or self.backend.dtype)
        return kept[:size].reshape(shape)

    def work(self, name: str, make: Callable[..., Any], *sizes: int) -> Any:
        """What `make(*sizes)` gives, made anew where it is too small for these sizes."""
        room, work = self._works.get(name, (sizes, None))
        if work is None or any(size > held for size, held in zip(sizes, room)):
            self._works.pop(name, None)
            room = tuple(map(max, zip(sizes, room)))
            work = make(*room)
            self._works[name] = room, work
        return work


class Workspaces:
    """Those of a network that wait for a caller: every pass borrows one, and no two passes have the same."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._waiting: list[Workspace] = []  # the last one given back is taken first: it is still in the cache

    @contextmanager
    def borrowed(self) -> Iterator[Workspace]:
        """A workspace for the block. No lock is held: append and pop of a list are atomic."""
        try:
            workspace = self._waiting.pop()
        except IndexError:
            workspace = Workspace(self.backend)
        try:
            yield workspace
        finally:
            if len(self._waiting) < RETAINED:
                self._waiting.append(workspace)
