"""Workspace: the scratch of one call. Workspaces: lends them, so that threads share a network and never a buffer."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

RETAINED = 4  # workspaces that a network keeps for later calls, however many threads have called at once


class Backend(NamedTuple):
    """The backend, threads and type that the parts of a network compute with."""

    kernels: ModuleType  # see nblstm.kernels
    threads: int
    dtype: np.dtype  # of parameters, sums and gradients
    stored: np.dtype  # of activations: float16 in half precision, else dtype


class Workspace:
    """Arrays, and the kernels' works, kept between passes under their names; they grow as they must."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._arrays: dict[str, np.ndarray] = {}
        self._views: dict[str, np.ndarray] = {}  # the last one of each name: on a card one takes long to make
        self._works: dict[str, tuple[tuple[int, ...], Any]] = {}
        self._parts: dict[str, Workspace] = {}

    def part(self, name: str) -> Workspace:
        """Return the workspace of a pass within this one, whose names are its own; the same one for a name."""
        return self._parts.setdefault(name, Workspace(self.backend))

    def array(self, name: str, *shape: int, dtype: Any = None) -> np.ndarray:
        """Return an uninitialised array, of the backend's dtype unless another is named; the same one for a name."""
        view = self._views.get(name)
        if view is not None and view.shape == shape:
            return view
        size, kept = math.prod(shape), self._arrays.get(name)
        if kept is None or kept.size < size:
            kept = self._arrays[name] = self.backend.kernels.empty((size,), dtype or self.backend.dtype)
        view = self._views[name] = kept[:size].reshape(shape)
        return view

    def work(self, name: str, make: Callable[..., Any], *sizes: int) -> Any:
        """Return the work of `make(*sizes)`, replaced by a larger one where it is too small."""
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

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._free: deque[Workspace] = deque(maxlen=RETAINED)

    @contextmanager
    def lend(self) -> Iterator[Workspace]:
        """Lend a workspace for the length of one call. After an error it is dropped: threads may still write to it."""
        try:
            workspace = self._free.pop()
        except IndexError:
            workspace = Workspace(self.backend)
        yield workspace
        self._free.append(workspace)
