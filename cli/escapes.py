r"""Escapes: texts on a command line, in which \n stands for a line end. Not every shell has a way to type one."""

from __future__ import annotations

import re
from typing import Any

import click

from nblstm.errors import ConfigError

LETTERS = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
ESCAPE = r"(?s)\\(?:([ntr\\])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.{0,5}))"
RULE = r"\n, \t, \r, \\, \xNN, \uNNNN and \UNNNNNNNN are known"


def escape_option(command: Any) -> Any:
    """Add --escape/--no-escape: whether `unescaped` reads the texts of other options."""
    text = r"Read \n, \t, \r, \\, \xNN and \uNNNN in the texts given here as the characters they stand for."
    return click.option("--escape/--no-escape", default=True, show_default=True, help=text)(command)


def unescaped(text: str, flag: str) -> str:
    r"""Put the characters in place that escapes in an option's text stand for: \x and \u name code points.

    ConfigError for an escape that is not whole, or stands for nothing. flag: the option, as the message names it.
    """

    def character(found: re.Match[str]) -> str:
        letter, *numbers, _ = found.groups()
        if letter is not None:
            return LETTERS[letter]
        code = int(next(filter(None, numbers), "-1"), 16)
        if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:  # half of a pair is no character
            raise ConfigError(
                rf"{flag} has {found[0]}, which is no escape: {RULE}; write \\ for a backslash, or add --no-escape."
            )
        return chr(code)

    return re.sub(ESCAPE, character, text)
