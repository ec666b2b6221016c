"""The time that compiling has taken, so that whoever times work can leave it out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class _Compiled:
    """Seconds in which at least one thread compiled."""

    def __init__(self) -> None:
        self.seconds, self.under_way, self.since = 0.0, 0, 0.0
        self.lock = threading.RLock()


_COMPILED = _Compiled()


@contextmanager
def counted() -> Iterator[None]:
    """Count the time of a block as compiling; one inside another counts once."""
    with _COMPILED.lock:
        if _COMPILED.under_way == 0:
            _COMPILED.since = time.perf_counter()
        _COMPILED.under_way += 1
    try:
        yield
    finally:
        with _COMPILED.lock:
            _COMPILED.under_way -= 1
            if _COMPILED.under_way == 0:
                _COMPILED.seconds += time.perf_counter() - _COMPILED.since


def compiled_seconds() -> float:
    """Return the seconds that this process has compiled so far."""
    return _COMPILED.seconds
