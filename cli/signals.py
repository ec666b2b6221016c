"""Signals of a command: SIGINT and SIGTERM end it wherever it is, and its exit code says which.

An update, a file and a compilation are made whole first: there `nblstm.interrupts.held` keeps them waiting.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

RAISED = 2  # one that ends the command, and one that ends its last words; who sends more wants it to be gone
INTERRUPTED = 128 + signal.SIGINT
_received: list[int] = []  # signals that came while the present command ran


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, unless they are ignored; the third ends the process at once."""
    _received.clear()
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        handlers = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
    try:
        for number in handlers:
            signal.signal(number, _receive)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _receive(number: int, frame: object) -> None:
    _received.append(number)
    if len(_received) > RAISED:
        os._exit(exit_code())
    raise KeyboardInterrupt


def exit_code() -> int:
    """Return the code of a command that a signal has ended: 130 or 143, after the first that came."""
    return 128 + _received[0] if _received else INTERRUPTED


def check() -> bool:
    """Raise KeyboardInterrupt if a signal has come: one that was lost where C code calls Python. False otherwise."""
    if _received:
        raise KeyboardInterrupt
    return False
