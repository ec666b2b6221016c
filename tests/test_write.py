"""nblstm write: what a person sees and types, on a pseudo-terminal, and that the terminal is left as it was."""

import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from nblstm.cli import terminal
from nblstm.cli.write import HELP, layout
from support.cases import each
from support.commands import PATIENCE, environment

from nblstm import load

pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class Person:
    """Someone at a terminal on which a command runs: types keys, looks at the screen."""

    def __init__(self, command):
        """command: arguments of Python. The terminal has 60 x 12 cells."""
        self.master, self.slave = pty.openpty()
        resize(self.slave, 60, 12)
        self.settings, self.seen = termios.tcgetattr(self.slave), ""
        self.process = subprocess.Popen(
            [sys.executable, *command], stdin=self.slave, stderr=self.slave, stdout=subprocess.PIPE,
            env=environment(TERM="xterm"), start_new_session=True,
        )  # fmt: skip

    def type(self, keys):
        os.write(self.master, keys.encode())

    def resize(self, columns, rows):
        resize(self.slave, columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    def sees(self, *words, fits=lambda rows: True):
        """Waits until the newest screen shows all these words and fits: its rows."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            rows = self.screen()
            if rows and all(any(word in row for row in rows) for word in words) and fits(rows):
                return rows
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536).decode()
        pytest.fail(f"{words} never came; the screen: {self.screen()}")

    def screen(self):
        """The rows of the newest whole screen."""
        whole = self.seen.split(terminal.HOME)[1:]
        whole = [part.split(terminal.ERASE_BELOW)[0] for part in whole if terminal.SHOW in part]
        return [ESCAPES.sub("", row) for row in whole[-1].split("\r\n")] if whole else []

    def ends(self):
        """Waits for the end: (exit code, what came on standard output)."""
        out = self.process.stdout.read().decode()
        code = self.process.wait(PATIENCE)
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536).decode()
        return code, out


def resize(terminal_fd, columns, rows):
    import fcntl

    fcntl.ioctl(terminal_fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def person(*args, code=None):
    """A person in front of `nblstm write ARGS` (or Python code), on a terminal that is left as it was."""
    someone = Person(["-c", code] if code else ["-m", "nblstm", "write", *args])
    try:
        yield someone
        assert termios.tcgetattr(someone.slave) == someone.settings
        after = someone.seen.split(terminal.LEAVE)[-1].strip()
        assert terminal.LEAVE in someone.seen and (
            not after or after.startswith(("Error: ", "wrote ", "replaced ", "saved "))
        )
    finally:
        someone.process.kill()
        someone.process.stdout.close()
        someone.process.wait()
        os.close(someone.master)
        os.close(someone.slave)


# ---------------------------------------------------------------- on a terminal


def test_typing_choosing_and_accepting(folder, model):
    """Line and continuations are shown; Down, Tab, Backspace and Enter do what they say; Ctrl-D prints the text."""
    writer = model.cowriter()
    writer.type("Shall")
    offered = writer.continuations()
    with person() as someone:
        someone.sees("Tab takes it")
        someone.type("Shall")
        rows = someone.sees("Shall", offered[0].strip())
        assert rows[0] == "Shall" and rows[2] == "> " + offered[0] and rows[3] == "  " + offered[1]
        someone.type("\x1b[B")
        assert someone.sees("> " + offered[1])[2] == "  " + offered[0]
        someone.type("\t")
        someone.sees("Shall" + offered[1])
        someone.type("x\x7f\rThou\x04")
        code, out = someone.ends()
    assert (code, out) == (0, f"Shall{offered[1]}\nThou\n")


def test_a_file_is_opened_edited_and_saved(folder):
    """Arrows move the cursor, Ctrl-Z undoes, Esc hides what is offered; at the end the file has the text."""
    (folder / "story.txt").write_bytes(b"Shall I\r\nThu")
    with person("--open", "story.txt") as someone:
        someone.sees("Thu", "Esc hides", fits=lambda rows: "> " in "".join(rows))
        someone.type("\x1b[D")
        someone.type("o")
        someone.sees("Thou")
        someone.type("\x1b[H\x1b[Fx")
        someone.sees("Thoux")
        someone.type("\x1a\x1b")
        someone.sees("Thou", "Shall I", fits=lambda rows: "> " not in "".join(rows))
        someone.type("\x04")
        assert someone.ends() == (0, "")
    assert (folder / "story.txt").read_bytes() == b"Shall I\nThou"


def test_a_new_file_is_written(folder):
    """One that is not there begins empty."""
    with person("--open", "new.txt") as someone:
        someone.sees("Tab takes it")
        someone.type("Thou\x04")
        assert someone.ends() == (0, "")
    assert (folder / "new.txt").read_text() == "Thou"


def test_lines_teach_the_model_and_are_saved(folder, model):
    """With --adapt each line that ends is learned from; --save keeps it in a file of its own, and nothing else changes."""
    before = (folder / "model.safetensors").read_bytes()
    expected = model.cowriter({"rule": "sgd"})
    expected.open("Shall\nThou Thou\nx")
    with person("--prompt", "Shall", "--adapt", "sgd", "--save", "taught.safetensors") as someone:
        someone.sees("Shall", "Tab takes it")
        someone.type("\rThou Thou\rx\x04")
        code, out = someone.ends()
        assert (code, out) == (0, "Shall\nThou Thou\nx\n") and "saved taught.safetensors" in someone.seen
    taught = load("taught.safetensors")
    np.testing.assert_array_equal(taught.parameters, expected.network.parameters)
    assert not np.array_equal(taught.parameters, model.parameters)
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_model_is_not_replaced_unless_it_is_asked_for(folder, command):
    """--save names a new file, or --overwrite stands beside it; it needs --adapt. Nobody has typed anything by then."""
    for args, words in (
        (["--adapt", "--save", "model.safetensors"], "model.safetensors exists"),
        (["--save", "new.safetensors"], "needs --adapt"),
        (["--adapt-rate", "0.1"], "needs --adapt"),
        (["--adapt", "--save", "no/such/folder"], "no folder"),
    ):
        outcome = command("write", *args)
        assert outcome.code == 2 and words in outcome.err, outcome


def test_wide_characters_and_another_size(folder):
    """Rows never take more columns than there are, however wide their characters, in any size; none is lost."""
    line = "漢字" * 20 + "e\u0301é😀 end"
    with person("--prompt", "Thou") as someone:
        someone.sees("Thou")
        someone.type(line)
        for columns, height in ((60, 12), (21, 9), (60, 12), (2, 3), (50, 20)):
            someone.resize(columns, height)
            words = ("Tab takes", "end") if columns > 2 else ()
            someone.sees(*words, fits=lambda rows: len(rows) <= height and max(map(terminal.width, rows)) <= columns)
        someone.type("\x03")
        assert someone.ends() == (0, f"Thou{line}\n")


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)])
def test_a_signal_loses_no_text(folder, number, code):
    """The text is printed and the terminal put back, then the shell's exit code."""
    with person("--prompt", "Shall I") as someone:
        someone.sees("Shall I", "Tab takes")
        someone.process.send_signal(number)
        assert someone.ends() == (code, "Shall I\n")


def test_an_error_loses_no_text(folder):
    """Also where the program itself fails."""
    code = (
        "from nblstm.generation.cowriter import CoWriter; from nblstm.cli.main import main\n"
        "def fail(self): raise OSError(28, 'No space left on device')\n"
        "CoWriter.backspace = fail\nmain(['write', '--prompt', 'Shall I'])"
    )
    with person(code=code) as someone:
        someone.sees("Shall I", "Tab takes")
        someone.type("\x7f")
        assert someone.ends() == (1, "Shall I\n")
        assert "No space left on device" in someone.seen.split(terminal.LEAVE)[-1]


def test_keys_that_mean_nothing(folder):
    """Other keys' sequences leave no trace in the text, also several at once and with Escape before them."""
    with person("--prompt", "a") as someone:
        someone.sees("a")
        someone.type("\x1b[99~\x1b[1;5C\x1b\x1bx")  # keys that mean nothing here
        someone.type("b\x04")
        assert someone.ends() == (0, "ab\n")


def test_the_terminal_goes_away(folder):
    """Its window is closed: the text still comes on standard output, and the command ends."""
    someone = Person(["-m", "nblstm", "write", "--prompt", "Shall"])
    someone.sees("Tab takes")
    os.close(someone.slave)
    os.close(someone.master)
    with someone.process.stdout as out:
        assert out.read() == b"Shall\n"
    assert someone.process.wait(PATIENCE) in (0, 1, 129)


# ---------------------------------------------------------------- no terminal


def test_without_a_terminal(python, folder):
    """One line, exit code 2, and nothing on standard output."""
    outcome = python("-m", "nblstm", "write", input=b"abc")
    assert (outcome.code, outcome.out) == (2, "") and outcome.err.count("\n") == 1
    assert "needs a terminal" in outcome.err and "standard input" in outcome.err


def test_a_dumb_terminal(folder, monkeypatch):
    """TERM=dumb cannot move the cursor."""
    from nblstm.errors import ConfigError

    monkeypatch.setenv("TERM", "dumb")
    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(sys, stream, type("Tty", (), {"closed": False, "isatty": lambda self: True})())
    with pytest.raises(ConfigError, match="dumb"):
        terminal.check()


@each(
    "args",
    [["--prompt", "a", "--open", "b"], ["--continuations", 0], ["--continuations", 10], ["--until", "page"], ["-n", 0]],
)
def test_wrong_options(command, folder, args):
    """Exit code 2 before anything is read."""
    assert command("write", "-m", "no such model", *args).code == 2


# ---------------------------------------------------------------- cells and keys


def test_cells():
    """East Asian wide characters and emoji take two columns, combining marks none."""
    widths = {"": 0, "ab": 2, "漢字": 4, "e\u0301": 1, "é": 1, "😀": 2, "ﾊ": 1, "ハ": 2}
    assert {text: terminal.width(text) for text in widths} == widths


@each("columns", [1, 2, 3, 7, 80])
def test_wrapped(columns):
    """Rows fit, and joined they are the text; a wide character is never cut, not even where there is no room for it."""
    text = "ab漢字e\u0301😀 " * 5
    rows = terminal.wrapped(text, columns)
    assert "".join(rows) == text and all(terminal.width(row) <= max(2, columns) for row in rows)
    assert not any(row.startswith("\u0301") for row in rows) and terminal.wrapped("", columns) == [""]


def test_nothing_moves_the_cursor():
    """Control characters, escape sequences and lone surrogates are shown harmlessly."""
    assert terminal.visible("a\tb\x1b[2J\x07\u200b\udce9\u2028é") == "a b?[2J??? é"


def test_keys():
    """Names for the keys that do something, characters for those that are text, nothing for the others."""
    assert terminal.named("àHP") == ["à", "H", "P"]
    assert terminal.named("a\té\x1b[A\x1bOB\r\x7f\x03漢") == [
        "a", "tab", "é", "up", "down", "enter", "backspace", "end", "漢"
    ]  # fmt: skip
    assert terminal.named("\x1b[C\x1bOD\x1a\x1b\x1b[H\x05") == [
        "right", "left", "undo", "escape", "line-start", "line-end"
    ]  # fmt: skip
    assert terminal.named("\x1b[1;5C\x1b[3~\x1bx\x00\x1b[") == ["["]


class Written:
    """As much of a CoWriter as the layout asks for."""

    def __init__(self, lines, line, selected=0):
        self.lines, self.line, self.selected, self.cursor = lines, line, selected, len(line)


@each("height", [1, 2, 3, 5, 8, 30])
@each("columns", [3, 10, 80])
def test_layout(columns, height):
    """The screen is never overfull, the cursor stands behind the line, and the newest rows stay."""
    writer = Written(["first"] * 20, "the end", selected=1)
    rows, (row, column) = layout(writer, ["one", "two"], columns, height)
    assert len(rows) <= height and all(terminal.width(text) <= columns for text in rows)
    assert "the end".endswith(rows[row]) and column == len(rows[row]) < columns
    if height >= 8:
        assert rows[row + 2 : row + 4] == ["  one"[:columns], "> two"[:columns]] and rows[-1] == HELP[:columns]


def test_the_cursor_within_a_line():
    """It stands in the row of its place, which is on the screen however long the line is; a search is shown as one."""
    writer = Written(["first"], "abcdefghij" * 9)
    for place in (0, 3, 4, 41, 90):
        writer.cursor = place
        rows, (row, column) = layout(writer, None, 4, 12)
        assert column == place % 4 and rows[row].startswith(writer.line[place // 4 * 4 : place])
    assert any(row.startswith("sear") for row in rows)


def test_the_cursor_behind_a_full_row():
    """It goes to a row of its own."""
    rows, cursor = layout(Written([], "abcd"), [], 4, 10)
    assert rows[:2] == ["abcd", ""] and cursor == (1, 0)
