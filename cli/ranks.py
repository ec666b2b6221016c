"""Ranks of a command: of several processes that train one model one speaks, unless another fails alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from nblstm.launched import launched_rank

GRACE = 0.5  # seconds that process 0, which a signal has reached as well, has for its last words
_rank: list[int] = []  # of this process, where a command is run by several together


def begin(args: Sequence[str]) -> None:
    """Note who this process is, if its command is one that several run together."""
    rank = launched_rank() if args[:1] == ["train"] else None
    _rank[:] = [] if rank is None else [rank]


def is_silent() -> bool:
    """Tell whether another process speaks for this one."""
    return any(_rank) and not has_left()


def has_left() -> bool:
    """Tell whether this process has left the others by an error that they do not know of."""
    ranks = _ranks()
    return ranks is not None and ranks.broken


def name() -> str:
    """Return what an error of this process alone begins with: "process 1 of 4: "."""
    ranks = _ranks()
    return f"process {ranks.rank} of {ranks.size}: " if has_left() else ""


def end(code: int, interrupted: bool) -> None:
    """End all processes where this one has left the others, which wait for it."""
    if has_left():
        if interrupted and any(_rank):
            time.sleep(GRACE)
        sys.modules["nblstm.training.mpi"].end_others(code)


def _ranks() -> Any:
    """Return the ranks of this process, if it has asked for them."""
    mpi = sys.modules.get("nblstm.training.mpi")
    return mpi.world() if mpi is not None and _rank and mpi.is_begun() else None
