"""MPI: the processes that mpiexec or srun has started, as ranks. The only file that knows mpi4py."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable
from typing import Any

import numpy as np

from nblstm.errors import DeviceError
from nblstm.kernels import threads
from nblstm.launched import launched_rank
from nblstm.training.ranks import ALONE, ProcessGroup, SeveralProcesses

_world: list[ProcessGroup] = []  # once it is known


def world() -> ProcessGroup:
    """Return the ranks that this process is one of; ALONE unless MPI has started several. DeviceError without mpi4py."""
    if not _world:
        _world.append(ALONE if launched_rank() is None else _started())
    return _world[0]


def is_begun() -> bool:
    """Tell whether `world` is known."""
    return bool(_world)


def end_others(code: int) -> None:
    """End all ranks at once, this one included, if it has left the others by an error that they do not know of."""
    ranks = world()
    if isinstance(ranks, MpiRanks) and ranks.broken:
        ranks.abort(code)


def _started() -> ProcessGroup:
    """Begin with MPI, and share the cores of a machine among its ranks."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise DeviceError(
            f"several processes were started by MPI, and mpi4py cannot be used here ({str(error).splitlines()[0]}); "
            "install nblstm[mpi], or start one process."
        ) from None
    if MPI.COMM_WORLD.size == 1:
        return ALONE
    ranks = MpiRanks(MPI)
    threads.share_cores(ranks.neighbours())
    return ranks


class MpiRanks(SeveralProcesses):
    """All processes of MPI's world."""

    def __init__(self, mpi: Any) -> None:
        """mpi: the module mpi4py.MPI."""
        self._mpi, self._comm = mpi, mpi.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.rank, self._comm.size
        hosts = self._comm.allgather(socket.gethostname())
        self._machine = self._comm.Split(hosts.index(hosts[self.rank]), self.rank)  # the ranks of this one

    def sum(self, flat: np.ndarray) -> None:
        """Replace flat (numbers,) by its sum over all ranks."""
        self._comm.Allreduce(self._mpi.IN_PLACE, flat)

    def swap(self, parts: np.ndarray) -> np.ndarray:
        """Return what every rank has for this one: row r of parts (size, numbers) is for rank r."""
        found = np.empty_like(parts)
        self._comm.Alltoall(parts, found)
        return found

    def collect(self, part: np.ndarray) -> np.ndarray:
        """Return the parts (numbers,) of all ranks, (size, numbers)."""
        found = np.empty((self.size, len(part)), part.dtype)
        self._comm.Allgather(part, found)
        return found

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order."""
        return self._comm.allgather(value)

    def once_per_machine(self, work: Callable[[], Any]) -> Any:
        """Let the first rank of each machine do some work, and send what it makes to the others there.

        What refers to its process, and cannot be looked into from another, those make themselves. An error all raise.
        """
        found = work() if self._machine.rank == 0 else None
        self.exchange()
        sent = self._machine.bcast(pickle.dumps(found) if self._machine.rank == 0 else None)
        if self._machine.rank == 0:
            return found
        try:
            return pickle.loads(sent)
        except OSError:
            return work()

    def neighbours(self) -> int:
        """Count the ranks, this one included, that run on cores of this one."""
        mine = threads.cores()
        return sum(not mine.isdisjoint(cores) for cores in self._machine.allgather(mine))

    def abort(self, code: int) -> None:
        """End all ranks at once, this one included."""
        self._comm.Abort(code)
