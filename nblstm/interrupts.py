"""Signals held back: SIGINT and SIGTERM wait while something must become whole, or while C code would swallow them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def held() -> Iterator[Callable[[], None]]:
    """Hold SIGINT and SIGTERM back until the block ends: their handlers, unchanged, hear of them then.

    The block is given a function that lets them hear now. Blocks may be nested, the outermost decides. Signals that
    Python does not handle (ignored, or left to the system) go on as ever. Outside of the main thread, which alone
    runs handlers, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    with _Held(signal.SIGINT) as interrupt, _Held(signal.SIGTERM) as termination:

        def deliver() -> None:
            interrupt.deliver()
            termination.deliver()

        yield deliver


class _Held:
    """One signal, held back by a handler that notes it; several of a kind become one, as in the system itself."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.came: list[Any] = []  # the frame it came in

    def __enter__(self) -> _Held:
        self.handler: Any = signal.getsignal(self.number)
        if callable(self.handler):
            signal.signal(self.number, lambda number, frame: self.came.append(frame))
        return self

    def __exit__(self, *error: object) -> None:
        if callable(self.handler):
            signal.signal(self.number, self.handler)
        self.deliver()

    def deliver(self) -> None:
        """Call the handler if the signal came; it usually raises."""
        if self.came:
            frame = self.came[0]
            self.came.clear()
            self.handler(self.number, frame)
