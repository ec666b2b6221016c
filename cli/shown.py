"""Output to a terminal: texts and names that come from files, with nothing in them that the terminal obeys."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import click

CONTROLS = "[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # but not the tab and the newline, which a text is made of


def shown(name: object) -> str:
    """Escape all that a terminal obeys or does not show, such as \\x1b, \\n and \\u202e: for names and single lines."""
    return "".join(c if c.isprintable() else _escape(c) for c in str(name))


def text_shown(text: str) -> str:
    """Escape the control characters of a text, which keeps its lines, its tabs and the joiners of its script."""
    return re.sub(CONTROLS, lambda found: _escape(found[0]), text)


def safe_text() -> Callable[[str], str]:
    """Choose how a text that a model writes is printed: as it is, but to a terminal with its controls escaped."""
    return text_shown if sys.stdout.isatty() else str


def echo(text: str) -> None:
    """Write a text and a line end to standard output. (click.echo drops escape sequences and has its own encoding.)"""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say(line: object, err: bool = False) -> None:
    """Print a single line, which may hold names from files, escaped."""
    if err:
        click.echo(shown(line), err=True)
    else:
        echo(shown(line))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
