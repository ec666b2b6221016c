"""Compiling ahead: while an update compiles its kernels from the first on, a fork compiles them from the last on.

numba and LLVM each hold a lock, so that the threads of a process compile one after the other. The fork goes through the
update's calls without making them, lists their kernels with the types of their arguments, and compiles these into the
cache, from which the update loads what is there when it comes to it. That is help, and no more: however the fork ends, the
update compiles what is missing. There is one where nothing has been trained yet, a second core is free to be used, and
no other thread may hold a lock; on Linux alone, as other systems' libraries do not go on in a fork.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import starmap
from typing import Any

from nblstm.interrupts import held
from nblstm.kernels.cpu.kernel_cache import KernelCache
from nblstm.kernels.threads import available, listing


@contextlib.contextmanager
def compiled_ahead(first: Callable[[], Any], rehearse: Callable[[], Any], threads: int) -> Iterator[None]:
    """Help a block, which may use so many threads, to compile the kernels that `rehearse` calls, if those of `first` are new."""
    fork = 0
    try:
        possible = sys.platform == "linux" and min(threads, available()) > 1 and threading.active_count() == 1
        if possible and any(starmap(_is_new, _calls(first))):
            with held():  # until its number is known
                fork = _forked(rehearse)
        yield
    finally:
        if fork:
            with held():
                _end(fork)


def _calls(rehearse: Callable[[], Any]) -> list[tuple[Any, tuple[Any, ...]]]:
    """The kernels that are called, with the types of their arguments, each once; none is run, so results are any."""
    calls: dict[tuple[Any, tuple[Any, ...]], None] = {}

    def listed(kernel: Any, args: tuple[Any, ...]) -> None:
        if isinstance(getattr(kernel, "_cache", None), KernelCache):
            calls[kernel, tuple(map(kernel.typeof_pyval, args))] = None

    with contextlib.suppress(Exception), listing(listed):
        rehearse()
    return list(calls)


def _is_new(kernel: Any, kinds: tuple[Any, ...]) -> bool:
    """Whether a kernel is neither compiled for these types nor in the cache."""
    return kinds not in kernel.overloads and kernel._cache.lacks(kinds, kernel.targetctx)


def _forked(rehearse: Callable[[], Any]) -> int:
    """The number of a fork that compiles; 0 where there can be none."""
    parent = os.getpid()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: those of libraries, which see to it
            fork = os.fork()
    except OSError:  # too little memory, too many processes
        return 0
    if fork == 0:
        try:
            _compile(rehearse, parent)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)  # nothing of what Python does at its end, which is the parent's to do
    return fork


def _compile(rehearse: Callable[[], Any], parent: int) -> None:
    """Compile the calls of `rehearse` from the last one on, silently, while the parent lives."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(silence, stream)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # where memory ends, this process does
    KernelCache.on_compile, KernelCache.save_overload = None, _whole(KernelCache.save_overload)  # type: ignore[method-assign]
    for kernel, kinds in reversed(_calls(rehearse)):
        if os.getppid() == parent:
            kernel.compile(kinds)


def _whole(save: Callable[..., None]) -> Callable[..., None]:
    """The function, which writes files, not to be ended by `_end` in its middle."""

    def saved(*args: Any) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        save(*args)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    return saved


def _end(fork: int) -> None:
    """End a fork, if it has not ended, and let it go."""
    with contextlib.suppress(ChildProcessError, ProcessLookupError):  # someone else has let it go
        for number in (signal.SIGTERM, signal.SIGKILL):
            for turn in range(100):
                if os.waitpid(fork, os.WNOHANG) != (0, 0):
                    return
                if turn == 0:
                    os.kill(fork, number)
                time.sleep(0.002)
