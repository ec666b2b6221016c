"""nblstm write: a person and a model write together."""

from __future__ import annotations

import functools
import math
import os
import time
from typing import Any

import click
from nblstm.cli import models
from nblstm.cli.escapes import escape_option, unescaped
from nblstm.cli.figures import Reading, check_adapts
from nblstm.cli.names import Command
from nblstm.cli.options import FILE, LEARN_LINES, adapt_options, given, model_option, setting
from nblstm.cli.outputs import check_folder, write
from nblstm.cli.shown import echo, safe_text, say
from nblstm.cli.terminal import Terminal, check, visible, width, wrapped

from nblstm.config import WriteConfig
from nblstm.errors import ConfigError, NblstmError

HELP = "Tab takes it   Up/Down choose   Esc hides   Ctrl-Z undoes   Ctrl-D ends"
SEARCHING = "searching ..."
SLOW = 0.05  # seconds a person may wait for the character just typed


@click.command("write", cls=Command)
@model_option
@click.option("--prompt", metavar="TEXT", help="Text to go on from.")
@click.option(
    "--open", "file", metavar="FILE", type=FILE, help="Go on with the text of this file, which is saved at the end."
)
@escape_option
@setting(WriteConfig, "continuations", "How many continuations to show, 1 to 9.")
@setting(WriteConfig, "until", "Where a continuation ends: at the end of its first word, or of the line.")
@setting(WriteConfig, "n", "Most tokens of a continuation.", "-n")
@setting(
    WriteConfig, "temperature", "0 shows the likeliest continuations; above, they are drawn, the higher the bolder."
)
@setting(WriteConfig, "seed", "Of what is drawn.")
@setting(
    WriteConfig, "backend", "What computes; auto is NumPy, which starts at once, or with --adapt what learns faster."
)
@functools.partial(adapt_options, text=LEARN_LINES)
@click.option(
    "--save", metavar="FILE", type=FILE, help="With --adapt: keep what was learned as this model, at the end."
)
@click.option("--overwrite", is_flag=True, help="Let --save replace an existing model.")
def command(
    model: str, prompt: str | None, file: str | None, escape: bool, adapt: dict[str, Any] | None, save: str | None,
    overwrite: bool, **settings: Any,
) -> None:  # fmt: skip
    """Write together with a model: while you type, it shows how it would go on.

    \b
    Tab           take the selected continuation
    Up, Down      select another
    Esc           show none until the next key
    Left, Right   move in the line; Home and End (Ctrl-A, Ctrl-E) to its ends
    Enter         end the line, which stays as context
    Backspace     take a character back
    Ctrl-Z        undo the last change
    Ctrl-D        end (as does Ctrl-C): the text goes to stdout, or into the opened file

    The screen is drawn on stderr: nblstm write > story.txt.
    """
    from nblstm.cli.sample import checked, warn_of_unknown

    config = WriteConfig(**given(settings))
    if prompt is not None and file is not None:
        raise ConfigError("give --prompt or --open, not both.")
    _check_save(save, adapt, overwrite)
    check()
    loaded = models.writer(model)
    if adapt is not None:
        check_adapts([loaded])
    if file is None:
        text = checked(unescaped(prompt or "", "--prompt") if escape else prompt or "")
    else:
        text = _opened(file)
    warn_of_unknown(loaded, text)
    writer = loaded.cowriter(adapt, **config.to_dict())
    with Reading([file] if file is not None and adapt is not None else []) as reading:
        writer.open(text, lambda characters: reading.update(characters, characters))
    try:
        with Terminal() as terminal:
            _write(writer, terminal)
    except KeyboardInterrupt:
        pass  # a signal from elsewhere: Ctrl-C is a key
    finally:
        _give(writer.text, file)
        if save is not None:
            loaded.taught(writer.network).save(save)
            say(f"saved {save}", err=True)


def _check_save(save: str | None, adapt: dict[str, Any] | None, overwrite: bool) -> None:
    """Raise ConfigError unless what is learned may be saved there, as far as can be told before."""
    if save is None:
        return
    if adapt is None:
        raise ConfigError("--save keeps what was learned; it needs --adapt.")
    if os.path.lexists(save) and not overwrite:
        raise ConfigError(f"{save} exists; name another file to --save, or replace it with --overwrite.")
    check_folder(save)


def _opened(file: str) -> str:
    """Return the text of a file, each line end as a newline; of one that is not there yet, nothing."""
    from nblstm.text.lines import normalized
    from nblstm.text.reading import read_text

    check_folder(file)
    return normalized("".join(read_text(file))) if os.path.exists(file) and os.path.getsize(file) else ""


def _give(text: str, file: str | None) -> None:
    """Print the text, or save it in a file; where that fails it is printed, so that nothing is lost."""
    if file is None:
        echo(safe_text()(text))
        return
    try:
        write(file, text)
    except NblstmError:
        echo(safe_text()(text))
        raise


def _write(writer: Any, terminal: Terminal) -> None:
    """Show the text, wait for keys and obey them, until one of them ends the writing."""
    actions = {
        "tab": writer.accept, "enter": writer.enter, "backspace": writer.backspace, "undo": writer.undo,
        "up": lambda: writer.choose(-1), "down": lambda: writer.choose(1), "escape": writer.dismiss,
        "left": lambda: writer.move(-1), "right": lambda: writer.move(1),
        "line-start": lambda: writer.move(-len(writer.line)), "line-end": lambda: writer.move(len(writer.line)),
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
            terminal.draw(*layout(writer, None, *terminal.size()))
            show_at = math.inf
        return terminal.pending()

    return writer.continuations(give_up)


def layout(writer: Any, offers: list[str] | None, columns: int, height: int) -> tuple[list[str], tuple[int, int]]:
    """Return (rows, cursor) of a screen: the rows of the text around the cursor, the newest where they fit, below them
    the continuations and the help. offers: None while they are searched for.
    """
    marked = [("> " if k == writer.selected else "  ") + visible(text) for k, text in enumerate(offers or [])]
    marked += [SEARCHING] * (offers is None)
    below = [wrapped(row, columns)[0] for row in ["", *marked, "", HELP]][: max(0, height - 1)]
    text = [row for line in [*writer.lines, writer.line] for row in wrapped(visible(line), columns)]
    to_cursor = wrapped(visible(writer.line[: writer.cursor]), columns)
    row = len(text) - len(wrapped(visible(writer.line), columns)) + len(to_cursor) - 1
    column = width(to_cursor[-1])
    if column >= columns:  # the cursor stands in the next row
        row, column = row + 1, 0
        text += [""] * (row == len(text))
    room = max(1, height - len(below))
    start = max(0, min(len(text) - room, row))
    return text[start : start + room] + below, (row - start, column)
