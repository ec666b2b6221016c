"""Work split over threads: kernels release the GIL, so plain Python threads run them side by side.

numba's own `parallel=True` compiles several times slower, and its fallback layer aborts when two Python
threads call it at once; a thread pool does neither.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

_pool: ThreadPoolExecutor | None = None
_crowd = threading.Lock()


def available() -> int:
    """The cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def split(threads: int, kernel: Callable[..., Any], total: int, *args: Any) -> None:
    """kernel(*args, part, start, stop) for `threads` equal parts of range(total), all at once.

    Part numbers count from 0; no part is empty. Returns when all are done.
    """
    parts = max(1, min(threads, total))
    edges = [total * part // parts for part in range(parts + 1)]
    if parts == 1:
        kernel(*args, 0, 0, total)
        return
    pool = _threads()
    others = [pool.submit(kernel, *args, part, edges[part], edges[part + 1]) for part in range(1, parts)]
    try:
        kernel(*args, 0, 0, edges[1])
    finally:
        for other in others:
            other.result()


def together(threads: int, kernel: Callable[..., Any], total: int, *args: Any) -> None:
    """As `split`, for kernels whose parts wait for each other: kernel(*args, parts, part, start, stop).

    All parts must run at once, so one caller at a time gets several threads; the others run in their own.
    """
    alone = threads == 1 or total == 1 or not _crowd.acquire(blocking=False)
    try:
        parts = 1 if alone else min(threads, total)
        split(parts, kernel, total, *args, parts)
    finally:
        if not alone:
            _crowd.release()


def _threads() -> ThreadPoolExecutor:
    """One pool for the process; kernels never wait for each other, so callers can share it."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max(32, 2 * available()), thread_name_prefix="nblstm")
    return _pool


def _forget() -> None:
    """A forked child has no threads: let it start its own."""
    global _pool, _crowd
    _pool, _crowd = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
