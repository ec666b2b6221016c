"""nblstm write: a person and a model write together."""

from __future__ import annotations

import math
import time
from typing import Any

import click
from nblstm.cli import models
from nblstm.cli.escapes import escape_option, unescaped
from nblstm.cli.names import Command
from nblstm.cli.options import given, model_option, setting
from nblstm.cli.shown import echo, safe_text
from nblstm.cli.terminal import Terminal, check, visible, width, wrapped

from nblstm.config import WriteConfig

HELP = "Tab takes it   Up/Down choose   Enter ends the line   Ctrl-D ends"
SLOW = 0.05  # seconds a person may wait for the character just typed


@click.command("write", cls=Command)
@model_option
@click.option("--prompt", default="", metavar="TEXT", help="Text to go on from.")
@escape_option
@setting(WriteConfig, "continuations", "How many continuations to show, 1 to 9.")
@setting(WriteConfig, "until", "Where a continuation ends: at the end of its first word, or of the line.")
@setting(WriteConfig, "n", "Most tokens of a continuation.", "-n")
@setting(WriteConfig, "backend", "What computes; auto is NumPy, which starts at once.")
def command(model: str, prompt: str, escape: bool, **settings: Any) -> None:
    """Write together with a model: while you type, it shows how it would go on.

    \b
    Tab         take the selected continuation
    Up, Down    select another
    Enter       end the line, which stays as context
    Backspace   take a character back
    Ctrl-D      end (as does Ctrl-C): the text goes to stdout

    The screen is drawn on stderr: nblstm write > story.txt.
    """
    from nblstm.cli.sample import checked, warn_of_unknown

    config = WriteConfig(**given(settings))
    check()
    loaded = models.writer(model)
    prompt = checked(unescaped(prompt, "--prompt") if escape else prompt)
    warn_of_unknown(loaded, prompt)
    writer = loaded.cowriter(**config.to_dict())
    writer.type(prompt)
    try:
        with Terminal() as terminal:
            _write(writer, terminal)
    except KeyboardInterrupt:
        pass  # a signal from elsewhere: Ctrl-C is a key
    finally:
        echo(safe_text()(writer.text))


def _write(writer: Any, terminal: Terminal) -> None:
    """Show the text, wait for keys and obey them, until one of them ends the writing."""
    actions = {
        "tab": writer.accept, "enter": writer.enter, "backspace": writer.backspace,
        "up": lambda: writer.choose(-1), "down": lambda: writer.choose(1),
    }  # fmt: skip
    while True:
        terminal.draw(*layout(writer, _offers(writer, terminal), *terminal.size()))
        for key in terminal.keys():  # noqa: SIM118  no dict
            if key == "end":
                return
            if key in actions:
                actions[key]()
            else:
                writer.type(key)


def _offers(writer: Any, terminal: Terminal) -> list[str]:
    """Search the continuations; none if a key comes first. Where that takes its time, the line is shown before."""
    show_at = time.monotonic() + SLOW

    def give_up() -> bool:
        nonlocal show_at
        if time.monotonic() > show_at:
            terminal.draw(*layout(writer, [], *terminal.size()))
            show_at = math.inf
        return terminal.pending()

    return writer.continuations(give_up)


def layout(writer: Any, offers: list[str], columns: int, height: int) -> tuple[list[str], tuple[int, int]]:
    """Return (rows, cursor) of a screen: the newest rows of the text, below them the continuations and the help."""
    marked = [("> " if k == writer.selected else "  ") + visible(text) for k, text in enumerate(offers)]
    below = [wrapped(row, columns)[0] for row in ["", *marked, "", HELP]][: max(0, height - 1)]
    text = [row for line in [*writer.lines, writer.line] for row in wrapped(visible(line), columns)]
    if width(text[-1]) >= columns:  # the cursor stands in the next row
        text.append("")
    text = text[-max(1, height - len(below)) :]
    return text + below, (len(text) - 1, width(text[-1]))
