"""Compiling ahead: while an update compiles its kernels from the first on, a fork compiles them from the last on.

numba and LLVM each hold a lock, so that the threads of a process compile one after the other. The fork goes through the
update's calls without making them, lists their kernels with the types of their arguments, and compiles these into the
cache, from which the update loads what is there when it comes to it. That is help, and no more: however the fork ends, the
update compiles what is missing. There is one where a second core is, and no other thread that may hold a lock.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from nblstm.interrupts import held
from nblstm.kernels.cpu.kernel_cache import KernelCache
from nblstm.kernels.threads import available, listing


@contextlib.contextmanager
def compiled_ahead(rehearse: Callable[[], None], threads: int) -> Iterator[None]:
    """Help a block that compiles, for the first time in this process or ever, what `rehearse` calls, on so many threads.

    rehearse: makes the calls, without any other effect; it may raise.
    """
    fork = 0
    try:
        if sys.platform == "linux" and min(threads, available()) > 1 and threading.active_count() == 1:
            if _is_missing(rehearse):
                with held():
                    fork = _forked(rehearse)
        yield
    finally:
        if fork:
            with held():
                _end(fork)


class _Found(Exception):
    """The first kernel is found: a kernel and the types of its arguments."""


def _is_missing(rehearse: Callable[[], None]) -> bool:
    """Whether the cache lacks the first kernel."""

    def found(kernel: Any, kinds: tuple[Any, ...]) -> None:
        raise _Found(kernel, kinds)

    try:
        _list(rehearse, found)
    except _Found as first:
        kernel, kinds = first.args
        return kinds not in kernel.overloads and kernel._cache.lacks(kinds, kernel.targetctx)
    except Exception:
        pass
    return False


def _list(rehearse: Callable[[], None], found: Callable[[Any, tuple[Any, ...]], None]) -> None:
    """Call `found` for every call that `rehearse` makes of a kernel that has a cache, and make none of them."""

    def listed(kernel: Any, args: tuple[Any, ...]) -> None:
        if isinstance(getattr(kernel, "_cache", None), KernelCache):
            found(kernel, tuple(map(kernel.typeof_pyval, args)))

    with listing(listed):
        rehearse()


def _forked(rehearse: Callable[[], None]) -> int:
    """The process that compiles ahead, 0 where there can be none."""
    parent = os.getpid()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: those of libraries, which see to it
            fork = os.fork()
    except OSError:  # no memory, or too many processes
        return 0
    if fork == 0:
        try:
            _compile(rehearse, parent)
        finally:
            os._exit(0)
    return fork


def _compile(rehearse: Callable[[], None], parent: int) -> None:
    """Compile what `rehearse` calls from the last kernel on, as long as the parent lives; say nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(silence, stream)
    KernelCache.on_compile = None
    calls: dict[tuple[Any, tuple[Any, ...]], None] = {}
    with contextlib.suppress(Exception):
        _list(rehearse, lambda *call: calls.setdefault(call))
    for kernel, kinds in reversed(calls):
        if os.getppid() != parent:
            break
        kernel.compile(kinds)


def _end(fork: int) -> None:
    """End the fork, if it has not ended, and let it go."""
    with contextlib.suppress(ChildProcessError, ProcessLookupError):
        if os.waitpid(fork, os.WNOHANG) == (0, 0):
            os.kill(fork, signal.SIGKILL)
            os.waitpid(fork, 0)
