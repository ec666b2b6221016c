"""The border: values from outside are checked once, before anything computes with them.

What holds the right numbers in another form (strided, big-endian, read-only, ids of another width) is brought into
form, by a copy where need be. What holds other numbers (another precision, a wrong shape, ids that are none, NaN) is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from nblstm.arrays import is_masked_array
from nblstm.errors import ConfigError, NblstmError, NonFiniteError

SAME = 0.8  # how alike two names of settings are, at least, of which one is taken for the other


def is_whole(number: Any, low: float, high: float) -> bool:
    """Tell whether it is a whole number from low to high, of Python or NumPy; True and False are none."""
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool) and bool(low <= number <= high)


def whole(name: str, number: Any, low: int, high: int) -> int:
    """Return the number as an int. ConfigError unless it is a whole one from low to high."""
    if not is_whole(number, low, high):
        raise ConfigError(f"{name} must be a whole number from {low:,} to {high:,}, got {_shown(number)}.")
    return int(number)


def a(kind: type | tuple[type, ...], name: str, value: Any) -> Any:
    """Return the value. ConfigError unless it is of this kind."""
    if not isinstance(value, kind):
        kinds = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise ConfigError(f"{name} must be a {kinds}, got {type(value).__name__}.")
    return value


def items(name: str, value: Any) -> Any:
    """Return the value. ConfigError unless it can be iterated over."""
    try:
        iter(value)
    except TypeError:
        raise ConfigError(f"{name} must be a list or the like, got {_shown(value)}.") from None
    return value


def choice(name: str, value: Any, choices: tuple[str, ...], error: type[NblstmError] = ConfigError) -> None:
    """Raise the error unless the value is one of these words."""
    if not isinstance(value, str) or value not in choices:
        raise error(f"{name} must be one of {', '.join(choices)}, got {_shown(value)}.")


def no_setting(name: str, known: Iterable[str], whose: str = "") -> ConfigError:
    """Return the error of a setting that does not exist, with the one of almost the same name where there is one."""
    from difflib import get_close_matches  # what settings that are spelt right need not import

    close = get_close_matches(name, known, 1, SAME)
    return ConfigError(f"there is no setting {name!r}{whose}" + (f"; did you mean {close[0]}?" if close else "."))


def path(name: str, value: Any) -> str:
    """Return the path as a string. ConfigError unless it is one: an open file's number is none."""
    try:
        found = os.fspath(value)
        if os.fsencode(found) and b"\0" not in os.fsencode(found):
            return os.fsdecode(found)
    except (TypeError, ValueError):  # no path at all; what no file system can spell
        pass
    raise ConfigError(f"{name} must be the path of a file, got {_shown(value)}.")


def paths(name: str, value: Any) -> list[str]:
    """Return one or several paths as strings. ConfigError for what is none."""
    several = [value] if isinstance(value, (str, os.PathLike)) else items(name, value)
    return [path(name, each) for each in several]


def in_form(name: str, array: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return the array as kernels read it: native, aligned, C-contiguous and writable; itself where it is so already.

    ConfigError unless it is a NumPy array of this shape and dtype, whatever its byte order, without a mask.
    """
    is_array = isinstance(array, np.ndarray) and not is_masked_array(array)
    if not is_array or array.shape != tuple(shape) or array.dtype.newbyteorder("=") != dtype:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        masked = ", masked" if is_masked_array(array) else ""
        raise ConfigError(f"{name} must be a NumPy array of {np.dtype(dtype)} {tuple(shape)}, got {found}{masked}.")
    return np.require(np.asarray(array), dtype, ["C", "A", "W"])


def in_place(name: str, array: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise ConfigError unless an array that will be written to is `in_form` as it stands."""
    if in_form(name, array, shape, dtype) is not array:
        raise ConfigError(f"{name} is written to, so it must be native, C-contiguous and writable; pass a .copy().")


def ids(
    name: str, numbers: Any, count: int, shape: tuple[int, ...] | None = None, dtype: Any = np.int64
) -> np.ndarray:  # fmt: skip
    """Return ids as an array of dtype, C-contiguous. ConfigError unless they are whole numbers from 0 to count - 1.

    shape: the one they must have, -1 for any size; None for any shape.
    """
    try:
        found = np.asarray(numbers)
    except (TypeError, ValueError, OverflowError):  # lists of different lengths inside, say
        found = np.empty(1, object)
    whole = found.dtype.kind in "iu" or not found.size
    whole = whole and not is_masked_array(numbers)
    if not whole or (found.size and not 0 <= found.min() <= found.max() < count):
        raise ConfigError(f"{name} must be whole numbers from 0 to {count - 1}, got {_shown(numbers)}.")
    wanted = found.shape if shape is None else shape
    if found.ndim != len(wanted) or any(size not in (-1, n) for size, n in zip(wanted, found.shape)):
        raise ConfigError(f"{name} must be of the shape {shape}, got {found.shape}.")
    return np.require(found if found.size else np.empty(found.shape, dtype), dtype, ["C", "A"])  # no casts of nothing


def weights(name: str, numbers: Any, rows: int) -> np.ndarray:
    """Return the weights of so many rows, (rows,). ConfigError unless these are finite numbers of at least 0."""
    found = np.asarray(numbers)
    if found.shape != (rows,) or found.dtype.kind not in "biuf" or not (np.isfinite(found) & (found >= 0)).all():
        raise ConfigError(f"{name} must be {rows} finite numbers of at least 0, got {_shown(numbers)}.")
    return found


def _shown(value: Any) -> str:
    return " ".join(repr(value)[:200].split())[:60]


def finite(name: str, array: np.ndarray) -> np.ndarray:
    """Return the array. ConfigError if a number in it is not finite."""
    if not np.isfinite(array).all():
        raise ConfigError(f"{name} must hold finite numbers, got {array[~np.isfinite(array)].flat[0]}.")
    return array


def offsets(name: str, array: Any, rows: int) -> np.ndarray:
    """Return offsets of packed texts, (T + 1,) int64. ConfigError unless they cut `rows` rows into shrinking steps."""
    found = ids(name, array, rows + 1)
    counts = np.diff(found) if found.ndim == 1 else found[:0]
    if not len(counts) or found[0] != 0 or found[-1] != rows or counts.min() < 1 or (counts[1:] > counts[:-1]).any():
        rule = f"must rise from 0 to {rows}, the rows, in steps that never grow"
        raise ConfigError(f"{name} {rule}, got {_shown(array)}.")
    return found


# ---------------------------------------------------------------- what a model computes


def quiet() -> np.errstate:
    """Silence warnings of numbers that overflow: results are checked for them."""
    return np.errstate(over="ignore", invalid="ignore")


def non_finite(what: str) -> NonFiniteError:
    """Return the error to raise where something is not finite."""
    return NonFiniteError(f"{what} not finite: the model's weights are damaged or far too large; take another model.")


def distributions(logits: np.ndarray, where: str) -> np.ndarray:
    """Return logits (N, V). NonFiniteError if a row is no distribution: one is NaN or inf, or all are -inf."""
    if not ((logits < np.inf).all() and (logits.max(axis=1) > -np.inf).all()):
        raise non_finite(f"the logits {where} are")
    return logits


def losses(nats: np.ndarray, ends: np.ndarray | None = None) -> np.ndarray:
    """Return -log p of tokens (M,). NonFiniteError names the first that is not finite, counted from 0.

    ends: of texts one behind the other, the number of tokens up to each; None where there is one text.
    """
    lost = np.flatnonzero(~np.isfinite(nats))
    if len(lost):
        text = 0 if ends is None else int(np.searchsorted(ends, lost[0], side="right"))
        first = 0 if ends is None or text == 0 else int(ends[text - 1])
        raise non_finite(f"the loss of token {int(lost[0]) - first}{'' if ends is None else f' of text {text}'} is")
    return nats
