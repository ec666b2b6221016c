"""Progress lines: in place on a terminal, now and then elsewhere, and never in the way of the work."""

import errno
import io
import math
import os
import time

import pytest
from nblstm.cli.progress import Progress
from support.cases import each

from nblstm.reporting.durations import size_text

ERASE = "\r\x1b[K"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


class Clock:
    """Time that moves when told to."""

    now = 0.0

    def __call__(self):
        return self.now


def on(stream, columns=80, **options):
    """A Progress on the stream, and its clock."""
    clock = Clock()
    return Progress(stream, clock=clock, columns=lambda: columns, **options), clock


@pytest.fixture(autouse=True)
def an_able_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")


def screen(written):
    """The lines a terminal shows after it was sent `written`."""
    lines = [""]
    for part in written.replace(ERASE, "\0").replace("\n", "\n\0\0").split("\0"):
        if part.endswith("\n"):
            lines[-1] = part[:-1]
            lines.append("")
        else:
            lines[-1] = part
    return lines


# ------------------------------------------------------------------------------------------------ on a terminal


def test_the_line_on_a_terminal():
    """Epoch, a bar of the right fill, share, loss, speed and time left, in one line."""
    stream = Terminal()
    progress, _ = on(stream)
    progress.update(0.41, 3, 20, 1.62, 45_200, 151)
    assert stream.getvalue() == ERASE + "epoch 3/20 [====>     ] 41 %  loss 1.62  45.2k tok/s  2:31 left"


def test_the_line_is_redrawn_in_place():
    """Every redraw goes back to the line's start and erases it; closing takes it away, so that nothing stays behind."""
    stream = Terminal()
    progress, clock = on(stream)
    for step in range(3):
        progress.update(step / 2, 1, 1, 2.0)
        clock.now += 1
    progress.close()
    assert stream.getvalue().count(ERASE) == 4 and "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("100 %  loss 2.00" + ERASE)


def test_at_most_ten_redraws_a_second():
    """A thousand updates in a second draw at most eleven lines."""
    stream = Terminal()
    progress, clock = on(stream)
    for step in range(1000):
        clock.now = step / 1000
        progress.update(step / 1000, 1)
    assert 9 <= stream.getvalue().count(ERASE) <= 11


@each("columns", [1, 10, 20, 40, 51, 52, 63, 64, 80, 200])
def test_the_line_fits_the_terminal(columns):
    """No width wraps the line: first the bar goes, then the end is cut."""
    stream = Terminal()
    progress, _ = on(stream, columns)
    progress.update(0.5, 3, 20, 1.62, 45_200, 151)
    text = stream.getvalue().removeprefix(ERASE)
    assert len(text) <= columns - 1
    assert text.startswith("epoch 3/20"[: columns - 1])
    assert ("[" in text) == (columns >= 64)


@each(
    "done, bar",
    [
        (0, "[>         ] 0 %"),
        (0.5, "[=====>    ] 50 %"),
        (0.999, "[=========>] 99 %"),
        (1, "[==========] 100 %"),
        (-1, "[>         ] 0 %"),
        (2, "[==========] 100 %"),
    ],
)
def test_the_bar(done, bar):
    """Empty at the start, full at the end and not before, and never more than that."""
    stream = Terminal()
    on(stream)[0].update(done, 1)
    assert bar in stream.getvalue()


def test_a_permanent_line_stands_above_the_bar():
    """The screen shows the lines in order, then the newest status."""
    stream = Terminal()
    progress, _ = on(stream)
    progress.line("before")
    progress.update(0.1, 1, 2)
    progress.line("epoch 1: loss 1.5")
    progress.update(0.2, 1, 2)
    progress.line("epoch 2: loss 1.4")
    lines = screen(stream.getvalue())
    assert lines[:3] == ["before", "epoch 1: loss 1.5", "epoch 2: loss 1.4"]
    assert len(lines) == 4 and lines[3].endswith("20 %")


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    """Where the cursor cannot move, no escape sequence is sent."""
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    progress, _ = on(stream)
    progress.update(0.5, 1)
    progress.close()
    assert stream.getvalue() == "epoch 1  50 %\n"


# ---------------------------------------------------------------------------------------------------- elsewhere


def test_plain_lines_come_now_and_then():
    """In a log: one line every ten seconds, the last state at the end, and no control characters."""
    stream = io.StringIO()
    progress, clock = on(stream)
    for second in range(26):
        clock.now = second
        progress.update(second / 25, 1, 1, 2.0, 950, 25 - second)
    progress.close()
    assert stream.getvalue().splitlines() == [
        "epoch 1/1  0 %  loss 2.00  950 tok/s  0:25 left",
        "epoch 1/1  40 %  loss 2.00  950 tok/s  0:15 left",
        "epoch 1/1  80 %  loss 2.00  950 tok/s  0:05 left",
        "epoch 1/1  100 %  loss 2.00  950 tok/s  0:00 left",
    ]


def test_a_line_that_stays_is_newer_than_the_updates_before_it():
    """Elsewhere than on a terminal the last update is not written behind the line of its epoch, nor one for each epoch."""
    stream = io.StringIO()
    progress, _ = on(stream)
    for epoch in (1, 1, 2, 2, 3):
        progress.update(0.0, epoch)
    progress.line("saved")
    progress.close()
    assert stream.getvalue().splitlines() == ["epoch 1  0 %", "saved"]


@each(
    "seconds, text",
    [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (93_784, "26:03:04"), (-1, "0:00")],
)
def test_time_left(seconds, text):
    """Minutes and seconds, from an hour on with hours."""
    stream = io.StringIO()
    on(stream)[0].update(0.5, 1, seconds_left=seconds)
    assert stream.getvalue() == f"epoch 1  50 %  {text} left\n"


@each("speed, text", [(0, "0"), (999, "999"), (1000, "1.0k"), (45_249, "45.2k"), (2.5e6, "2.5M")])
def test_speed(speed, text):
    """Thousands and millions are shortened."""
    stream = io.StringIO()
    on(stream)[0].update(0.5, 1, tokens_per_second=speed)
    assert stream.getvalue() == f"epoch 1  50 %  {text} tok/s\n"


def test_what_is_not_known_is_left_out():
    """An unknown or unbounded time or speed is not shown; a loss that is not a number is."""
    stream = io.StringIO()
    on(stream)[0].update(0.5, 1, None, math.nan, math.inf, math.inf)
    assert stream.getvalue() == "epoch 1  50 %  loss nan\n"


def test_seconds_are_counted_while_something_is_waited_for():
    """On a terminal the line counts on by itself, and is gone with the next news; elsewhere it is a line."""
    stream = Terminal()
    progress = Progress(stream, columns=lambda: 40)
    progress.wait("compiling")
    deadline = time.monotonic() + 30
    while "compiling  1 s" not in stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.02)
    progress.update(0.5, 1)
    seen = stream.getvalue()
    assert "compiling  0 s" in seen and "compiling  1 s" in seen and seen.split(ERASE)[-1].startswith("epoch 1 [")
    progress.wait("compiling")
    progress.close()
    assert stream.getvalue().endswith(ERASE)
    plain = io.StringIO()
    Progress(plain).wait("compiling")
    assert plain.getvalue() == "compiling\n"


# ---------------------------------------------------------------------------------------------- never in the way


def work(progress):
    progress.update(0.5, 1)
    progress.line("text")
    progress.update(1.0, 2)
    progress.close()
    progress.close()


def test_quiet_writes_nothing():
    """quiet silences bars and lines alike."""
    stream = Terminal()
    work(Progress(stream, quiet=True))
    assert stream.getvalue() == ""


def test_nothing_at_all_is_written_for_no_work():
    """Closing what never had an update leaves no empty line."""
    stream = Terminal()
    Progress(stream).close()
    assert stream.getvalue() == ""


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_closed_stream_does_not_stop_the_work(kind):
    """Closed before or after the start, a stream is given up in silence."""
    stream = kind()
    progress = Progress(stream)
    stream.close()
    work(progress)
    work(Progress(stream))
    work(Progress(None))


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_a_broken_stream_does_not_stop_the_work(number):
    """A pipe without a reader, a terminal that has gone or a full disk is tried once."""

    class Broken(Terminal):
        tries = 0

        def write(self, text):
            self.tries += 1
            raise OSError(number, os.strerror(number))

    stream = Broken()
    work(Progress(stream))
    assert stream.tries == 1


@each(
    "count, text",
    [(0, "0.0 kB"), (26_328, "26.3 kB"), (999_900, "999.9 kB"), (1_000_000, "1.0 MB"), (20_500_000, "20.5 MB")],
)
def test_sizes(count, text):
    """A small model's file is no 0.0 MB."""
    assert size_text(count) == text
