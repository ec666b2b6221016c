"""Output of text, plots and reports: standard output, or a file that may replace one of its kind and nothing else."""

from __future__ import annotations

import os
import stat
import sys

from nblstm.cli.shown import say

from nblstm.errors import ConfigError

STDOUT = "-"


def check_replaceable(path: str, starts: tuple[str, ...], kind: str) -> None:
    """Raise ConfigError for a path that cannot be written, or a file that begins with none of `starts` (lower case)."""
    if path == STDOUT:
        return
    if not os.path.lexists(path):
        return check_folder(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{path} is not a regular file; choose another -o.")
        with open(path, "rb") as file:
            begin = file.read(64).decode("utf-8", "replace").lower()
    except OSError as error:
        raise ConfigError(f"{path} cannot be replaced ({error.strerror or error}); choose another -o.") from None
    if begin and not begin.startswith(starts):
        raise ConfigError(f"{path} exists and is not {kind}; it is not replaced, choose another -o.")


def check_folder(path: str) -> None:
    """Raise ConfigError if a file can neither be made nor replaced at a path, as far as can be told before."""
    if os.path.lexists(path) and not os.path.isfile(path):
        raise ConfigError(f"{path} is not a regular file; name another.")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise ConfigError(f"there is no folder {folder}; make it, or name another file.")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise ConfigError(f"{path} cannot be written; name another file.")


def write(path: str, text: str, quiet: bool = False) -> None:
    """Write the text in one step and say so on stderr, unless quiet. NblstmError if it cannot be written."""
    if path == STDOUT:
        sys.stdout.write(text)
        return
    from nblstm.files.atomic import replacing

    verb = "replaced" if os.path.exists(path) else "wrote"
    data = text.encode("utf-8")
    with replacing(path) as file:
        file.write(data)
    if not quiet:
        say(f"{verb} {path} ({len(data) / 1000:.0f} kB)", err=True)
