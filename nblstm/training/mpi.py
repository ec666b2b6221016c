"""MPI: the processes that mpiexec or srun has started, as ranks. The only file that knows mpi4py."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm.errors import DeviceError
from nblstm.kernels import threads
from nblstm.training.ranks import ALONE, Ranks

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # how many processes a launcher has started
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK")  # and which of them this is
_world: list[Ranks] = []  # once it is known


def launched_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the number of this process among those that a launcher of MPI has started; None where it is the only one."""
    sizes = [environment[name] for name in SIZES if environment.get(name, "").isdecimal()]
    if sizes and int(sizes[0]) < 2:
        return None
    return next((int(environment[name]) for name in RANKS if environment.get(name, "").isdecimal()), None)


def world() -> Ranks:
    """Return the ranks that this process is one of; ALONE unless MPI has started several. DeviceError without mpi4py."""
    if not _world:
        _world.append(ALONE if launched_rank() is None else _started())
    return _world[0]


def _started() -> Ranks:
    """Begin with MPI, and share the cores of a machine among its ranks."""
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise DeviceError(
            f"several processes were started by MPI, and mpi4py cannot be imported here ({error}); "
            "install it by pip install 'nblstm[mpi]', or start one process."
        ) from None
    if MPI.COMM_WORLD.size == 1:
        return ALONE
    ranks = MpiRanks(MPI)
    threads.share_cores(ranks.neighbours())
    return ranks


class MpiRanks(Ranks):
    """All processes of MPI's world."""

    def __init__(self, mpi: Any) -> None:
        """mpi: the module mpi4py.MPI."""
        self._mpi, self._comm = mpi, mpi.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.rank, self._comm.size

    def sum(self, flat: np.ndarray) -> None:
        """Replace flat (numbers,) by its sum over all ranks."""
        self._comm.Allreduce(self._mpi.IN_PLACE, flat)

    def _gather(self, value: Any) -> list[Any]:
        return self._comm.allgather(value)

    def neighbours(self) -> int:
        """Count the ranks, this one included, that run on cores of this one."""
        mine = socket.gethostname(), threads.cores()
        return sum(host == mine[0] and not mine[1].isdisjoint(cores) for host, cores in self._gather(mine))

    def abort(self, code: int) -> None:
        """End all ranks at once, this one included."""
        self._comm.Abort(code)
