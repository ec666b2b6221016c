"""Workspace: the scratch of one call. Workspaces: lends them, so that threads share a network and never a buffer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

RETAINED = 4  # workspaces that a network keeps for later calls, however many threads have called at once


class Workspace:
    """Arrays and works by name, kept between the calls that borrow them, and growing as they must."""

    def __init__(self, kernels: ModuleType, dtype: Any) -> None:
        """dtype: of the arrays, unless one asks for another."""
        self.kernels, self.dtype = kernels, dtype
        self._arrays: dict[str, np.ndarray] = {}
        self._works: dict[str, tuple[tuple[int, ...], Any]] = {}

    def array(self, name: str, *shape: int, dtype: Any = None) -> np.ndarray:
        """An uninitialised array of a name; what was last written under that name is lost."""
        size, kept = int(np.prod(shape)), self._arrays.get(name)
        if kept is None or kept.size < size:
            kept = self._arrays[name] = self.kernels.empty((size,), dtype or self.dtype)
        return kept[:size].reshape(shape)

    def work(self, name: str, make: Callable[..., Any], *sizes: int) -> Any:
        """What `make(*sizes)` gives, kept under its name, and made anew where it is too small."""
        room, work = self._works.get(name, (sizes, None))
        if work is None or any(size > held for size, held in zip(sizes, room)):
            self._works.pop(name, None)
            room = tuple(map(max, zip(sizes, room)))
            work = make(*room)
            self._works[name] = room, work
        return work


class Workspaces:
    """The workspaces of one network: a call borrows the one that was given back last, or a new one.

    There is no lock: a deque gives each of its items to one thread only. So nobody waits for anybody, and a forked
    process finds nothing locked.
    """

    def __init__(self, kernels: ModuleType, dtype: Any) -> None:
        self._kernels, self._dtype = kernels, dtype
        self._free: deque[Workspace] = deque(maxlen=RETAINED)

    @contextmanager
    def lend(self) -> Iterator[Workspace]:
        """A workspace for the length of one call. After an error it is dropped: threads may still be writing to it."""
        try:
            workspace = self._free.pop()
        except IndexError:
            workspace = Workspace(self._kernels, self._dtype)
        yield workspace
        self._free.append(workspace)
