"""A terminal as a screen: keys come in, rows go out, and its settings are put back whatever happens."""

from __future__ import annotations

import codecs
import os
import re
import select
import signal
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from nblstm.errors import ConfigError

KEYS = {
    "\t": "tab", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x03": "end", "\x04": "end",
    "\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down",
    "\x1b[C": "right", "\x1bOC": "right", "\x1b[D": "left", "\x1bOD": "left", "\x1b": "escape", "\x1a": "undo",
    "\x01": "line-start", "\x1b[H": "line-start", "\x1bOH": "line-start", "\x1b[1~": "line-start",
    "\x05": "line-end", "\x1b[F": "line-end", "\x1bOF": "line-end", "\x1b[4~": "line-end",
}  # fmt: skip
KEY = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO.|\x1b[^\[O\x1b]|\x1b(?=\x1b|$)|[^\x1b]", re.DOTALL)
UNFINISHED = re.compile(r"\x1b(\[[0-?]*[ -/]*|O)?$")  # an escape sequence of which more may come
PATIENCE = 0.05  # seconds to wait for the rest of one

ENTER = "\x1b[?1049h\x1b[?7l"  # the alternate screen; no wrapping: what does not fit is cut
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
HIDE, SHOW, HOME, ERASE_ROW, ERASE_BELOW = "\x1b[?25l", "\x1b[?25h", "\x1b[H", "\x1b[2K", "\x1b[J"


def named(text: str) -> list[str]:
    """Return the keys of what a terminal sent: a name of KEYS, or the character itself; others are left out."""
    keys = (KEYS.get(key, key) for key in KEY.findall(text))
    return [key for key in keys if key in KEYS.values() or (len(key) == 1 and visible(key) == key)]


def check() -> None:
    """Raise ConfigError unless keys can be read from standard input and rows drawn on standard error."""
    for stream, name in ((sys.stdin, "standard input"), (sys.stderr, "standard error")):
        if stream is None or stream.closed or not stream.isatty():
            raise ConfigError(f"this needs a terminal to type in, and {name} is none; nblstm sample needs none.")
    if os.environ.get("TERM") == "dumb":
        raise ConfigError("this needs a terminal that can move its cursor, and TERM is dumb; nblstm sample needs none.")


class Terminal:
    """Take the terminal over, on the alternate screen; Ctrl-C is a key there."""

    def __enter__(self) -> Terminal:
        self._keyboard = _Console() if sys.platform == "win32" else _Keyboard()
        try:
            self._keyboard.open()
            self._write(ENTER)
        except BaseException:
            self._keyboard.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            with suppress(OSError):  # the terminal is gone
                self._write(LEAVE)
        finally:
            self._keyboard.close()

    def keys(self) -> list[str]:
        """Wait for keys: names as in KEYS, or characters. None at all may come, when the window's size has changed."""
        return named(self._keyboard.read())

    def pending(self) -> bool:
        """Tell whether a key waits to be read."""
        return self._keyboard.pending()

    def size(self) -> tuple[int, int]:
        """Return (columns, rows) now; 80 x 24 where the terminal does not say."""
        try:
            columns, rows = os.get_terminal_size(sys.stderr.fileno())
        except OSError:
            columns, rows = 0, 0
        return columns or 80, rows or 24

    def draw(self, rows: Sequence[str], cursor: tuple[int, int]) -> None:
        """Show rows of text from the top, and the cursor at (row, column), from 0."""
        body = "\r\n".join(ERASE_ROW + row for row in rows)
        self._write(f"{HIDE}{HOME}{body}{ERASE_BELOW}\x1b[{cursor[0] + 1};{cursor[1] + 1}H{SHOW}")

    def _write(self, text: str) -> None:
        data = text.encode(sys.stderr.encoding or "utf-8", "replace")
        sys.stderr.flush()
        while data:
            data = data[os.write(sys.stderr.fileno(), data) :]


class _Keyboard:
    """Standard input without echo, lines or signals, on POSIX; SIGTERM and SIGHUP end in SystemExit meanwhile."""

    def __init__(self) -> None:
        import termios

        self._input = sys.stdin.fileno()
        self._decoder = codecs.getincrementaldecoder(sys.stdin.encoding or "utf-8")(errors="replace")
        self._settings = termios.tcgetattr(self._input)
        self._wake, self._woken = os.pipe()  # a signal writes to it, so that waiting for keys ends
        os.set_blocking(self._woken, False)
        self._woken_before = signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        handlers = {signal.SIGTERM: _leave, signal.SIGHUP: _leave, signal.SIGWINCH: lambda number, frame: None}
        self._handlers = {number: signal.signal(number, handler) for number, handler in handlers.items()}

    def open(self) -> None:
        import termios
        import tty

        tty.setraw(self._input, termios.TCSADRAIN)

    def pending(self) -> bool:
        return bool(select.select([self._input], [], [], 0)[0])

    def read(self) -> str:
        """Wait for typed characters and return them, or "" after a signal. The end of input is a Ctrl-D."""
        ready, _, _ = select.select([self._input, self._wake], [], [])
        if self._wake in ready:
            os.read(self._wake, 1024)
        text = ""
        while self._input in ready:
            data = b""
            with suppress(OSError):  # hung up
                data = os.read(self._input, 4096)
            text += self._decoder.decode(data) if data else "\x04"
            ready = select.select([self._input], [], [], PATIENCE)[0] if UNFINISHED.search(text) and data else []
        return text

    def close(self) -> None:
        import termios

        with suppress(termios.error):  # hung up
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._settings)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._woken_before)
        os.close(self._wake)
        os.close(self._woken)


def _leave(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


CONSOLE_KEYS = {  # the second character of a key on a console of Windows -> what a terminal sends for it
    "H": "\x1b[A", "P": "\x1b[B", "M": "\x1b[C", "K": "\x1b[D", "G": "\x1b[H", "O": "\x1b[F",
}  # fmt: skip


class _Console:
    """The console of Windows, told to understand escape sequences."""

    def __init__(self) -> None:
        import ctypes
        import msvcrt

        self._msvcrt: Any = msvcrt
        self._kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
        self._handle, self._mode = self._kernel.GetStdHandle(-12), ctypes.c_ulong()  # -12: standard error
        self._kernel.GetConsoleMode(self._handle, ctypes.byref(self._mode))

    def open(self) -> None:
        self._kernel.SetConsoleMode(self._handle, self._mode.value | 4)  # ENABLE_VIRTUAL_TERMINAL_PROCESSING

    def pending(self) -> bool:
        return bool(self._msvcrt.kbhit())

    def read(self) -> str:
        text = self._msvcrt.getwch()
        if text in ("\x00", "\xe0") and self.pending():  # a key that is no character
            return CONSOLE_KEYS.get(self._msvcrt.getwch(), "")
        return text

    def close(self) -> None:
        self._kernel.SetConsoleMode(self._handle, self._mode)


# ---------------------------------------------------------------- cells


def visible(text: str) -> str:
    """Return the text with a space or "?" for every character that would move the cursor or is none."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def cells(character: str) -> int:
    """Tell how many columns a printable character takes: 0, 1 or 2 (Unicode's East Asian Width)."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def width(text: str) -> int:
    """Tell how many columns a printable text takes."""
    return sum(map(cells, text))


def wrapped(text: str, columns: int) -> list[str]:
    """Return the printable text in rows of up to so many columns; at least one row."""
    rows, used = [""], 0
    for character in text:
        if used + cells(character) > columns and used:
            rows.append("")
            used = 0
        rows[-1] += character
        used += cells(character)
    return rows
