"""Work split over threads: kernels release the GIL, so plain Python threads run them at the same time.

numba's own `parallel=True` compiles several times slower, and its fallback layer aborts when two Python
threads call it at once; a thread pool does neither. Parts of a compiled kernel that wait for nobody are handed over
without Python (`cpu.team`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

WORKERS = 4096  # at most; they are started as they are needed
COUNTER = 4  # words of a barrier's counter
OPEN = 1 << 62  # a barrier's counter that everyone passes: more arrivals than any round waits for
LONG_WAITS = 0.1  # share of a call spent in long waits at barriers: more means that the machine has other work
ALONE = 20.0  # times what a call has taken that had to wait for cores: so long calls stay on one thread
_crowd = threading.Lock()  # never waited for
_alone_until = 0.0
NO_COUNTER = np.zeros(COUNTER, np.int64)  # of shares that wait for nobody


class Share(NamedTuple):
    """The share of the work that a kernel does: its last argument, as a plain tuple.

    Plain, because numba takes 0.6 us a call to find the type of a named one; `Share(*share)` names it again for free.
    """

    part: int  # number of the share, from 0
    start: int  # of range(total): from start to before stop
    stop: int
    parts: int  # that share all of it and wait for each other at barriers; 1: nobody to wait for
    counter: np.ndarray  # of the barrier


_pools: list[ThreadPoolExecutor] = []  # the process's pool, once one is needed


def _pool() -> ThreadPoolExecutor:
    """The pool, which has a thread for every call: those that wait for each other (`run_cooperatively`) must all run."""
    if not _pools:
        from concurrent.futures import ThreadPoolExecutor

        _pools.append(ThreadPoolExecutor(WORKERS, thread_name_prefix="nblstm"))
    return _pools[0]  # the first one, if two threads made it


_sharers = 1  # processes that share the cores of this one


def cores() -> frozenset[int]:
    """The numbers of the cores this process may run on."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except AttributeError:
        return frozenset(range(os.cpu_count() or 1))


def share_cores(processes: int) -> None:
    """Leave to this process its part of the cores that so many processes run on."""
    global _sharers
    _sharers = processes


def available() -> int:
    """How many cores this process may use."""
    return max(1, len(cores()) // _sharers)


def parallel_for(threads: int, kernel: Callable[..., Any], total: int, *args: Any) -> None:
    """Call kernel(*args, share) for up to `threads` equal parts of range(total), all at once.

    Part numbers count from 0; no part is empty. Returns when all are done.
    """
    run_ranges(kernel, equal(total, threads), *args)


@lru_cache(maxsize=1024)  # a training step asks for the same ones again and again
def equal(total: int, threads: int) -> tuple[int, ...]:
    """Where to cut range(total) into up to `threads` equal parts, none empty: rising numbers from 0 to total."""
    parts = max(1, min(threads, total))
    return tuple(total * part // parts for part in range(parts + 1))


def run_ranges(kernel: Callable[..., Any], edges: Sequence[int], *args: Any) -> None:
    """Call kernel(*args, share) for every part, from edges[part] to edges[part + 1], all at once."""
    if _listing:
        _listing[0](kernel, (*args, (0, edges[0], edges[1], 1, NO_COUNTER)))
    elif len(edges) == 2:
        kernel(*args, (0, edges[0], edges[1], 1, NO_COUNTER))
    elif hasattr(kernel, "team"):
        kernel.team(kernel, edges, args)
    else:
        parts = enumerate(zip(edges, edges[1:]))
        _run(kernel, [(*args, (part, start, stop, 1, NO_COUNTER)) for part, (start, stop) in parts])


def run_cooperatively(threads: int, kernel: Callable[..., Any], total: int, *args: Any) -> None:
    """Call kernel(*args, share) on `threads` threads that share all of the work and wait for each other.

    They wait at `barrier(share.counter, share.parts, ...)`. All parts must run at once, so one caller at a time gets
    several threads; for the others parts is 1, as it is for a while after a call that had to wait for cores. A part that
    fails, or that an interrupt keeps from starting, lets the others pass all barriers: they end, with results that
    nobody will see, and the error goes on its way.
    """
    global _alone_until
    counter, started = np.zeros(COUNTER, np.int64), time.monotonic()
    crowd = _crowd
    alone = threads == 1 or started < _alone_until or not crowd.acquire(blocking=False)
    try:
        parts = 1 if alone else threads
        calls = [(*args, (part, 0, total, parts, counter)) for part in range(parts)]
        _run(kernel, calls, lambda: counter.fill(OPEN))
        seconds = time.monotonic() - started
        if counter[2] or counter[1] * 1e-9 > LONG_WAITS * seconds + 0.002:
            _alone_until = started + ALONE * seconds
    finally:
        if not alone:
            crowd.release()


Told = Callable[[Callable[..., Any], tuple[Any, ...]], None]  # of a call: the kernel, and its arguments
_listing: list[Told] = []  # what is told of calls instead of making them


@contextmanager
def listing(found: Told) -> Iterator[None]:
    """Make no calls in a block, and tell `found` of each: the kernel, and a tuple of its arguments. For one thread alone."""
    _listing.append(found)
    try:
        yield
    finally:
        _listing.clear()


def _run(
    kernel: Callable[..., Any], calls: list[tuple[Any, ...]], on_failure: Callable[[], None] = lambda: None
) -> None:
    """The kernel with each tuple of arguments: the first in this thread, the others beside it.

    on_failure: called as soon as one of them has failed or will not be started; an interrupt is a failure.
    """
    if _listing:
        return _listing[0](kernel, calls[0])
    others: list[Future[Any]] = []
    try:
        for args in calls[1:]:
            others.append(_pool().submit(kernel, *args))
            others[-1].add_done_callback(lambda done: on_failure() if done.exception() else None)
        kernel(*calls[0])
    except BaseException:
        on_failure()
        raise
    finally:
        for other in others:
            other.result()


# ---------------------------------------------------------------- forks
#
# A fork copies one thread and all locks. NumPy's BLAS has some around its products, and a thread pool behind them: a fork
# that meets one of its products hangs for ever, in the parent or in the child. So a fork waits for the end of those that
# run, and new ones for the end of the fork; nobody else waits, and nothing is locked.

FORK_WAIT = 0.0005  # seconds between two looks
_computing: dict[int, int] = {}  # thread -> how many guarded calls it is in
_forking: list[int] = []  # threads that want to fork


def not_while_forking(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which multiplies with NumPy, guarded from the forks of other threads."""

    @wraps(function)
    def guarded(*args: Any, **keywords: Any) -> Any:
        me = threading.get_ident()
        depth = _computing.get(me, 0)
        try:
            _computing[me] = depth + 1  # told first, looked at then: one of two threads always sees the other
            while depth == 0 and _forking:
                del _computing[me]
                time.sleep(FORK_WAIT)
                _computing[me] = 1
            return function(*args, **keywords)
        finally:
            if depth:
                _computing[me] = depth
            else:
                _computing.pop(me, None)

    return guarded


def _before_fork() -> None:
    """Wait until no other thread is in a guarded call."""
    me = threading.get_ident()
    _forking.append(me)
    while set(_computing) - {me}:
        time.sleep(FORK_WAIT)


def _in_parent() -> None:
    _forking.remove(threading.get_ident())


def _in_child() -> None:
    """A child has none of the other threads: let it start its own."""
    global _crowd
    _crowd = threading.Lock()
    _pools.clear()
    _forking.clear()
    for thread in set(_computing) - {threading.get_ident()}:
        del _computing[thread]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
