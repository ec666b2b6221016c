"""Progress of long work, on stderr: one line redrawn in place on a terminal, else a plain line now and then."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from nblstm.cli.shown import shown, text_shown

from nblstm.reporting.durations import duration_text

REDRAW_SECONDS = 0.1  # on a terminal
LINE_SECONDS = 10.0  # elsewhere
BAR_CELLS = 10
ERASE = "\r\x1b[K"  # to the line's start, erase to its end
COMPILING = "compiling the kernels for this machine, once: about 5 s of work"


class Progress:
    """Shows how far a run is. A stream that is closed or breaks ends the showing, never the run."""

    def __init__(
        self,
        stream: TextIO | None,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        columns: Callable[[], int] | None = None,
    ) -> None:
        """stream: where to write (None as quiet). clock: seconds. columns: the terminal's width, asked at each draw."""
        self.stream = None if quiet else stream
        self.clock = clock
        self.columns = columns or self._terminal_columns
        self.in_place = self._is_terminal() or self._is_notebook()
        self.erase = ERASE if self._is_terminal() else f"\r{' ' * 79}\r"
        self.status: tuple[str, float, str] | None = None  # head, done, tail of the newest update
        self.shown = True  # whether the newest update has been written
        self.written_at = -math.inf
        self._waiting: _Wait | None = None

    def update(
        self,
        done: float,
        epoch: int,
        epochs: int | None = None,
        loss: float | None = None,
        tokens_per_second: float | None = None,
        seconds_left: float | None = None,
    ) -> None:
        """Tell how far the run is; cheap, most calls write nothing.

        done: share of the work in [0, 1]. epoch: the current one, from 1, of epochs (None: unlimited).
        loss: nats per token.
        """
        done = min(max(done, 0.0), 1.0)
        head = f"epoch {epoch}" + (f"/{epochs}" if epochs else "")
        self.tell(head, done, _tail(done, loss, tokens_per_second, seconds_left))

    def tell(self, head: str, done: float, tail: str = "") -> None:
        """Tell how far any work is: the text before the bar, the share in [0, 1] done, the text after the bar."""
        self._end_wait()
        self.status, self.shown = (shown(head), done, shown(tail)), False
        waited = self.clock() - self.written_at
        if waited >= (REDRAW_SECONDS if self.in_place else LINE_SECONDS):
            self._show()

    def line(self, text: str) -> None:
        """Write a line that stays, above the redrawn one."""
        self._write_above(shown(text))

    def text(self, text: str) -> None:
        """Write the lines of a text that stay, above the redrawn one."""
        self._write_above(text_shown(text))

    def wait(self, what: str) -> None:
        """Tell what is waited for: a line, in which seconds are counted on a terminal until there is something else."""
        self._end_wait()
        if self.in_place:
            self._waiting = _Wait(lambda seconds: self._draw(f"{shown(what)}  {seconds} s"))
        else:
            self.line(what)

    def _end_wait(self) -> None:
        """Count no more seconds."""
        if self._waiting is not None:
            self._waiting.end()
            self._waiting = None

    def _draw(self, text: str) -> None:
        """Redraw the line with a text, as much of it as fits."""
        self._write(self.erase + text[: max(self.columns() - 1, 0)])  # the last column would wrap

    def _write_above(self, text: str) -> None:
        """Write above the redrawn line."""
        self._end_wait()
        if not self.in_place:
            self.shown = True  # nobody misses an update that is older than a line
            self._write(text + "\n")
            return
        self._write(self.erase + text + "\n")
        if self.status:
            self._show()

    def close(self) -> None:
        """Take the redrawn line off the terminal; elsewhere write the newest update if it is still unwritten."""
        waited = self._waiting is not None
        self._end_wait()
        if (self.status or waited) and self.in_place:
            self._write(self.erase)
        elif self.status and not self.shown:
            self._show()
        self.status = None

    def _show(self) -> None:
        """Write the newest update."""
        head, done, tail = self.status  # type: ignore[misc]
        self.written_at, self.shown = self.clock(), True
        if self.in_place:
            self._write(self.erase + _fit(head, done, tail, self.columns() - 1))  # the last column would wrap
        else:
            self._write(f"{head}  {tail}".rstrip() + "\n")

    def _write(self, text: str) -> None:
        """Write and flush; give the stream up at its first error."""
        if self.stream is None:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):  # ValueError: it is closed
            self.stream = None

    def _is_terminal(self) -> bool:
        """Tell whether the stream can redraw a line."""
        try:
            return self.stream is not None and self.stream.isatty() and os.environ.get("TERM") != "dumb"
        except (OSError, ValueError):
            return False

    def _is_notebook(self) -> bool:
        """Tell whether the stream is that of a notebook, which goes back to a line's start but erases nothing."""
        return type(self.stream).__module__.startswith("ipykernel.")

    def _terminal_columns(self) -> int:
        """Return the terminal's width now; 80 where it does not say."""
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or 80  # type: ignore[union-attr]
        except (AttributeError, OSError, ValueError):
            return 80


def when_compiling(tell: Callable[[], None] | None) -> None:
    """Let `tell` be called once, before kernels are compiled; None: nobody. Where none are imported none will be."""
    cache = sys.modules.get("nblstm.kernels.cpu.kernel_cache")
    if cache is not None and hasattr(cache, "KernelCache"):
        cache.KernelCache.on_compile = tell


class _Wait:
    """Calls `show` with the seconds since it was made, now and once a second until `end`, from a thread of its own."""

    def __init__(self, show: Callable[[int], None]) -> None:
        self._show, self._ended, self._lock = show, False, threading.Condition()
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        seconds = 0
        with self._lock:
            while not self._ended:
                self._show(seconds)
                self._lock.wait(1)
                seconds += 1

    def end(self) -> None:
        """Call `show` no more: not once after this has returned."""
        with self._lock:
            self._ended = True
            self._lock.notify()


def _tail(done: float, loss: float | None, tokens_per_second: float | None, seconds_left: float | None) -> str:
    """Return `41 %  loss 1.62  45.2k tok/s  2:31 left`, without the parts that are not known."""
    parts = [f"{math.floor(100 * done)} %"]
    if loss is not None:
        parts.append(f"loss {loss:.2f}")
    if tokens_per_second is not None and math.isfinite(tokens_per_second):
        parts.append(speed(tokens_per_second))
    if seconds_left is not None and math.isfinite(seconds_left):
        parts.append(f"{duration_text(seconds_left)} left")
    return "  ".join(parts)


def _fit(head: str, done: float, tail: str, width: int) -> str:
    """Fit `head [==>  ] tail` in at most `width` characters: first the bar goes, then the end is cut."""
    bar = ("=" * math.floor(done * BAR_CELLS) + ">")[:BAR_CELLS]
    line = f"{head} [{bar:<{BAR_CELLS}}] {tail}"
    return line if len(line) <= width else f"{head}  {tail}"[: max(width, 0)]


def speed(tokens_per_second: float) -> str:
    """Format a speed in three digits or so: 950 tok/s, 45.2k tok/s, 1.3M tok/s."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if tokens_per_second >= size:
            number = tokens_per_second / size
            return f"{number:.{0 if number >= 100 else 1}f}{unit} tok/s"
    return f"{tokens_per_second:.0f} tok/s"
