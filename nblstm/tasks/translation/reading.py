"""Pairs of texts in files: both on a line, or line by line in two files.

| files                   | a pair is                                                                         |
|-------------------------|-----------------------------------------------------------------------------------|
| one, `pairs.tsv`        | `source TAB target` on a line; further columns (Tatoeba's, Anki's) are not read   |
| two, `a.en` and `a.de`  | a line of the one and the same line of the other                                  |

Empty lines are left out, of two files where both are empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from nblstm import checks
from nblstm.errors import TextError
from nblstm.text.lines import lines, unsplit
from nblstm.text.reading import read_each


def read_pairs(paths: Any, encoding: str = "utf-8") -> tuple[list[str], list[str]]:
    """Read sources and targets of files with both on a line, a tab between, as `Translator.fit` takes them.

    paths: a file, folder or .gz, a list of such, "-" for standard input. TextError names file and line of what is no pair.
    """
    sources, targets = [], []
    for name, number, line in _lines(paths, encoding):
        if not line.strip():
            continue
        source, tab, rest = line.partition("\t")
        target = rest.partition("\t")[0]
        if not tab:
            raise TextError(f"{name}, line {number}: there must be a tab between source and target.")
        _check_both(f"{name}, line {number}", source, target)
        sources.append(source)
        targets.append(target)
    return sources, targets


def read_parallel(source: Any, target: Any, encoding: str = "utf-8") -> tuple[list[str], list[str]]:
    """Read sources and targets of files that correspond line by line, as `Translator.fit` takes them.

    source, target: a file or .gz, or a list of such. TextError if they have not as many lines, or names the line of what
    is no pair.
    """
    sources, targets = [], []
    for left, right in zip_longest(_lines(source, encoding), _lines(target, encoding)):
        if left is None or right is None:
            longer, number, _ = left or right
            raise TextError(
                f"{longer}, line {number}: the other side has no such line; both must have as many, each beside its own."
            )
        if left[2].strip() or right[2].strip():
            _check_both(f"{left[0]} and {right[0]}, line {left[1]}", left[2], right[2])
            sources.append(left[2])
            targets.append(right[2])
    return sources, targets


def _lines(paths: Any, encoding: str) -> Iterator[tuple[str, int, str]]:
    """Yield (file, line, text) of every line; what stands behind the last line end is one where it is not empty."""
    for name, pieces in read_each(checks.paths("paths", paths), "word", encoding):
        held: tuple[str, int, str] | None = None
        for number, line in enumerate(lines(unsplit(pieces)), 1):
            if held is not None:
                yield held
            held = name, number, line
        if held is not None and held[2]:
            yield held


def _check_both(place: str, source: str, target: str) -> None:
    """Raise TextError unless both sides say something."""
    if not source.strip() or not target.strip():
        raise TextError(f"{place}: there is no {'target' if source.strip() else 'source'}; add it, or remove the pair.")
