"""Arrays that people give: of NumPy, pandas, torch and others, or nested lists of numbers."""

from __future__ import annotations

import array
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nblstm.errors import ConfigError

PROTOCOLS = ("__array__", "__array_interface__", "__array_struct__", "dtype")  # an array has one of these
BUFFERS = (array.array, memoryview)  # or is one of these
WITHOUT_VALUE = (str, bytes, np.datetime64, np.timedelta64)  # objects that NumPy would cast to numbers, silently


def is_array(value: Any) -> bool:
    """Tell whether a value is an array with at least one dimension: a column or a tensor, but no number and no list."""
    if not isinstance(value, BUFFERS) and not any(hasattr(value, name) for name in PROTOCOLS):
        return False
    shape = getattr(value, "shape", None)
    ndim = getattr(value, "ndim", len(shape) if isinstance(shape, tuple) else 1)
    return isinstance(ndim, int) and ndim > 0


def is_listed(values: Any) -> bool:
    """Tell whether several arrays are given: a list or tuple that holds arrays, not one of numbers or lists."""
    return isinstance(values, (list, tuple)) and not is_array(values) and any(map(is_array, values))


def is_masked_array(value: Any) -> bool:
    """Tell whether a value is an array with a mask: only a program that has imported numpy.ma, a large module, has one."""
    known = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    return known is not None and isinstance(value, known)


def refuse_masked(value: Any, name: str) -> None:
    """Raise ConfigError if an array, or a number anywhere in nested lists, is masked: a cast would drop the mask."""
    if isinstance(value, (list, tuple)):
        for item in value:
            refuse_masked(item, name)
    elif is_masked_array(value) and np.ma.is_masked(value):
        raise ConfigError(f"{name} must hold nothing masked; fill in or leave out what is missing.")


def real_numbers(value: Any, name: str, rule: str) -> np.ndarray:
    """Convert an array or nested lists of integers, booleans or floating-point numbers to float64, of the same shape.

    rule: what `name` must do, for the message: "be ..." or "hold ...". Raises ConfigError for masks, text, dates,
    records, complex numbers, and whatever cannot be converted.
    """
    refuse_masked(value, name)
    with converting(name, rule), np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite
        found = np.asarray(value)
        _check_real(found)
        return np.asarray(found, np.float64)


@contextmanager
def converting(name: str, rule: str) -> Iterator[None]:
    """Turn any error of a conversion into a ConfigError: an array of another library raises what it likes."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__
        raise ConfigError(f"{name} must {rule}; what was given cannot be read so: {reason}.") from None


def _check_real(found: np.ndarray) -> None:
    """Raise TypeError unless the elements are real numbers, or objects that may be."""
    if found.dtype.kind not in "biufO":
        raise TypeError(f"its type is {found.dtype}")
    if found.dtype.kind == "O":
        for item in found.flat:
            if isinstance(item, WITHOUT_VALUE):
                raise TypeError(f"it holds {item!r:.40}")


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Return the nearest bfloat16 of float32 numbers, as uint16; of two the even one, and of NaN NaN."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    upper = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), upper.astype(np.uint16))


def from_bfloat16(x: np.ndarray) -> np.ndarray:
    """Return the float32 numbers that bfloat16 numbers, as uint16, are: their upper halves."""
    return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)
