"""Ranks: the processes that train one model together, each on some of the texts of every batch.

All of them hold the same parameters and make the same calls in the same order. A rank reads the texts rank, rank + size,
rank + 2 size, ... of a chunk; the gradients are summed, and from there on everything is a function of numbers that all
have: clipping, schedule, optimizer. What depends on a clock follows that of rank 0, which alone writes files.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from nblstm.arrays import from_bfloat16, to_bfloat16
from nblstm.errors import DivergenceError, NblstmError
from nblstm.interrupts import held
from nblstm.nn.network import Network
from nblstm.nn.noise import RANK, dropout_key
from nblstm.nn.state import State
from nblstm.text.batches import Chunk

_T = TypeVar("_T")


class ProcessGroup:
    """Base of those that train together: the one process that trains a model by itself.

    rank: the number of this one, from 0; size: how many there are. broken: whether this one has left the others by an
    error that they do not know of: they wait for it, so all must be ended.
    """

    rank, size = 0, 1
    broken = False

    # ------------------------------------------------------------ what all agree on

    def sum(self, flat: np.ndarray) -> None:
        """Replace flat (numbers,) by its sum over all ranks, which has the same bits everywhere."""

    def sum_in_bfloat16(self, flat: np.ndarray) -> None:
        """Replace flat (numbers,) by about its sum over all ranks: what is sent is rounded to bfloat16, the sum is not."""

    def exchange(self, value: Any = None, error: NblstmError | None = None) -> list[Any]:
        """Return the values of all ranks, in their order. If any of them brings an error, all raise the first one."""
        if error is not None:
            raise error
        return [value]

    def agree(self, value: _T) -> _T:
        """Return the value that rank 0 has."""
        return self.exchange(value if self.rank == 0 else None)[0]

    def totals(self, *numbers: float) -> list[float]:
        """Add up each of some numbers over all ranks, in their order."""
        return list(map(sum, zip(*self.exchange(numbers))))

    def lead(self, work: Callable[[], Any]) -> Any:
        """Let rank 0 do some work and return its result, elsewhere None. What goes wrong, all raise."""
        result, error = None, None
        if self.rank == 0:
            try:
                result = work()
            except NblstmError as found:
                error = found
        self.exchange(None, error)
        return result

    def once_per_machine(self, work: Callable[[], _T]) -> _T:
        """Return what some work makes that need not be done by every rank of a machine."""
        return work()

    # ------------------------------------------------------------ errors and signals

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Let all raise the errors of any, in a block in which they exchange what they have found."""
        yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold signals back, in a block in which all train, until `agreed` asks for them."""
        yield

    def agreed(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        """Return a `stop` that says yes everywhere if one rank does; if one hears a signal, all raise KeyboardInterrupt."""
        return stop

    def all_know(self, error: BaseException) -> bool:
        """Tell whether an error is raised by all ranks alike."""
        return True

    # ------------------------------------------------------------ texts

    def part(self, network: Network, chunk: Chunk) -> Chunk | None:
        """Return this rank's texts of a chunk, whose gradient is their share of that of the mean loss; None without any."""
        return chunk

    def seed(self, seed: int) -> int:
        """Return the seed of this rank's dropout: every rank has masks of its own."""
        return seed

    def own_state(self, state: State) -> State:
        """Copy the state of this rank's texts, of the state of all."""
        return state.copy()

    def whole_state(self, state: State) -> State:
        """Return the state of all texts, of those that each rank has."""
        return state


ALONE = ProcessGroup()


class SeveralProcesses(ProcessGroup):
    """Several that train together. A subclass says how values get from one to the others."""

    _agreed: BaseException | None = None  # the error that all raise
    _deliver: Callable[[], None] | None = None  # lets this process hear the signals that have come

    @abstractmethod
    def sum(self, flat: np.ndarray) -> None:
        """Replace flat (numbers,) by its sum over all ranks, which has the same bits everywhere."""

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order."""

    def sum_in_bfloat16(self, flat: np.ndarray) -> None:
        sent = np.zeros((self.size, -(-len(flat) // self.size)), np.uint16)
        sent.reshape(-1)[: len(flat)] = to_bfloat16(flat)
        mine = np.add.reduce(from_bfloat16(self.swap(sent)), axis=0)  # each rank adds up a part of the numbers
        flat[...] = from_bfloat16(self.collect(to_bfloat16(mine))).reshape(-1)[: len(flat)]

    def swap(self, parts: np.ndarray) -> np.ndarray:
        """Return what every rank has for this one: row r of parts (size, numbers) is for rank r."""
        return np.stack([found[self.rank] for found in self.gather(parts)])

    def collect(self, part: np.ndarray) -> np.ndarray:
        """Return the parts (numbers,) of all ranks, (size, numbers)."""
        return np.stack(self.gather(part))

    def exchange(self, value: Any = None, error: NblstmError | None = None) -> list[Any]:
        found = self.gather((value, error))
        errors = [(rank, error) for rank, (_, error) in enumerate(found) if error is not None]
        if errors:
            rank, first = errors[0]
            self._agreed = first if rank == 0 else type(first)(f"process {rank} of {self.size}: {first}")
            raise self._agreed
        return [value for value, _ in found]

    # ------------------------------------------------------------ errors and signals

    @contextmanager
    def beginning(self) -> Iterator[None]:
        with self._noticing():
            try:
                yield
                self.exchange()
            except NblstmError as error:
                if error is not self._agreed:
                    self.exchange(None, error)
                raise

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._noticing(), held() as self._deliver:
            try:
                yield
            finally:
                self._deliver = None

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Notice what ends a block here alone."""
        try:
            yield
        except BaseException as error:
            self.broken = not self.all_know(error)
            raise

    def all_know(self, error: BaseException) -> bool:
        return error is self._agreed or isinstance(error, DivergenceError)  # of numbers that all have

    def agreed(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        def stopped() -> bool:
            asked, interrupt = False, None
            try:
                if self._deliver is not None:
                    self._deliver()
                asked = stop()
            except BaseException as error:
                interrupt = error
            found = self.exchange((asked, interrupt is not None))
            if any(interrupted for _, interrupted in found):
                self._agreed = interrupt or KeyboardInterrupt()
                raise self._agreed
            return any(asked for asked, _ in found)

        return stopped

    # ------------------------------------------------------------ texts

    def part(self, network: Network, chunk: Chunk) -> Chunk | None:
        part = chunk.part(self.rank, self.size)
        return None if part is None else network.share(part, chunk)

    def seed(self, seed: int) -> int:
        return seed if self.rank == 0 else dropout_key(seed, self.rank, RANK)

    def own_state(self, state: State) -> State:
        return state.take(np.arange(self.rank, state.num_texts, self.size))

    def whole_state(self, state: State) -> State:
        parts = self.exchange((state.h, state.c, state.features))
        return State(*(_interleaved(arrays, axis) for arrays, axis in zip(zip(*parts), (1, 1, 0))))


def _interleaved(arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Put the texts of rank r at places r, r + size, r + 2 size, ... along an axis."""
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    whole = np.empty(shape, arrays[0].dtype)
    for rank, array in enumerate(arrays):
        np.moveaxis(whole, axis, 0)[rank :: len(arrays)] = np.moveaxis(array, axis, 0)
    return whole
