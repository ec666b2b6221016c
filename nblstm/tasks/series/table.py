"""Tables of numbers in CSV files: columns of a series, by name or by number."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.errors import ConfigError, TextError
from nblstm.text.sources import regular

MOST_CELL = 1 << 17  # characters, the csv module's own limit


def read_columns(path: Any, columns: Sequence[str] = (), encoding: str = "utf-8-sig") -> tuple[list[str], np.ndarray]:
    """Read columns of a CSV file: (their names, their numbers (T, D) float64).

    The first row is a header if a cell of it is no number; without one columns are named by their numbers, from 1, which
    find them in any file. columns: none for all. TextError names a cell that is no finite number by its line and column;
    ConfigError a column that is not there.
    """
    rows = _rows(checks.path("path", path), encoding)
    if not rows:
        raise TextError(f"{path} has no rows; name a CSV file with numbers in it.")
    first = rows[0][1]
    has_header = any(_number(cell) is None and cell.strip() for cell in first)
    names = [cell.strip() for cell in first] if has_header else [str(k + 1) for k in range(len(first))]
    places = [_place(column, names, path) for column in columns] or list(range(len(names)))
    numbers = [
        [_checked(path, line, names[place], row[place] if place < len(row) else "") for place in places]
        for line, row in rows[has_header:]
    ]
    if not numbers:
        raise TextError(f"{path} has a header and no numbers below it; name a CSV file with some.")
    return [names[place] for place in places], np.array(numbers, np.float64)


def _rows(path: str, encoding: str) -> list[tuple[int, list[str]]]:
    """Return (line, cells) of each row that is not empty; the separator is the one of the first line."""
    try:
        with open(path, encoding=encoding, newline="", opener=regular) as file:
            begin = file.readline(MOST_CELL)
            file.seek(0)
            separator = max(",;\t", key=begin.count)
            reader = csv.reader(file, delimiter=separator)
            return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except OSError as error:
        raise TextError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (UnicodeError, csv.Error) as error:
        raise TextError(f"{path} is no CSV file: {error}; save the table as CSV in UTF-8.") from None


def _place(column: str, names: list[str], path: Any) -> int:
    """Find a column by its name, else by its number."""
    if column in names:
        return names.index(column)
    if column.isdecimal() and 1 <= int(column) <= len(names):
        return int(column) - 1
    raise ConfigError(f"column {column!r:.60} is not in {path}, which has {', '.join(names)[:200]}; name one of those.")


def _number(cell: str) -> float | None:
    """Return the finite number that a cell holds, or None."""
    try:
        found = float(cell)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _checked(path: Any, line: int, name: str, cell: str) -> float:
    found = _number(cell)
    if found is None:
        what = f"{cell.strip()!r:.40} is no finite number" if cell.strip() else "there is no number"
        raise TextError(f"{path}, line {line}, column {name}: {what}; fill it in, or leave the row out.")
    return found
