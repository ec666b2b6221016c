"""What a launcher of MPI (mpiexec, srun) says to the processes that it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping

SIZE_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # how many processes there are
RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK")  # which of them this is


def launched_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the number of this process among several that were started together; None where it is the only one."""
    sizes = [environment[name] for name in SIZE_VARIABLES if environment.get(name, "").isdecimal()]
    if sizes and int(sizes[0]) < 2:
        return None
    return next((int(environment[name]) for name in RANK_VARIABLES if environment.get(name, "").isdecimal()), None)
