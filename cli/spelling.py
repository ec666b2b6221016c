"""Spelling: the library's messages name settings, a person at a terminal types options."""

from __future__ import annotations

import re

import click

ALTERNATIVE = r', or [^,;]*?\b(?P<name>[a-z_]+)="[^"]*"[^,;.]*'


def in_options(message: str, command: click.Command) -> str:
    """Spell the settings in a message as the options of a command.

    hidden_size becomes --hidden-size, resume=True --resume and level="byte" --level byte. A name of one word, such as
    clip, is an option where it has a value, or where the message begins with it ("clip must be ..."); elsewhere it is a
    word like others. An alternative at the end of a sentence (`, or read raw bytes with level="byte"`) is left out where
    the command has no such option.
    """
    names = {option.name for option in command.params}
    message = re.sub(ALTERNATIVE, lambda found: found[0] if found["name"] in names else "", message)
    message = re.sub(r"nblstm\.train\((\w+)=True\)", r"nblstm train --\1", message)
    for option in command.params:
        if not isinstance(option, click.Option) or not option.name:
            continue
        name, flag = rf"(?<![\w./-]){option.name}", _flag(option)
        message = re.sub(rf"{name}=True\b", flag, message)
        message = re.sub(rf'{name}="?([^\s",;]+)"?', rf"{flag} \1", message)
        alone = rf"{name}(?![\w/=-]|\.\w)" if "_" in option.name else rf"^{name}(?= (must|is|needs|comes) )"
        message = re.sub(alone, flag, message)
    return message


def _flag(option: click.Option) -> str:
    """Choose the flag of an option that is its name, else its longest."""
    own = "--" + (option.name or "").replace("_", "-")
    return own if own in option.opts else max(option.opts, key=len)
