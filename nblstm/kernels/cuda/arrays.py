"""Arrays on the card: made, filled, and copied there and back."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda

from nblstm.errors import DeviceError
from nblstm.kernels.cuda.device import THREADS


def array(x: np.ndarray) -> Any:
    """A copy of x (any shape) on the device. DeviceError if there is no room."""
    y = empty(x.shape, x.dtype)
    assign(y, x)
    return y


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """An uninitialised array on the device; one without elements stays on the host. DeviceError if there is no room."""
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    try:
        return cuda.device_array(shape, dtype)
    except Exception as error:  # the package's own, which the simulator does not have
        if "OUT_OF_MEMORY" not in str(error):
            raise
        size = math.prod(shape) * np.dtype(dtype).itemsize
        raise DeviceError(
            f"the card has no room for {size / 1e6:,.0f} MB more; lower batch_size or bptt, or hidden_size."
        ) from None


def zeros_like(x: Any) -> Any:
    """Zeros of the shape and type of x, on the device."""
    zeros = empty(tuple(x.shape), x.dtype)
    set_zero(zeros)
    return zeros


def assign(y: Any, x: Any) -> None:
    """y = x; either may be on the device or a NumPy array."""
    if isinstance(y, np.ndarray):
        np.copyto(y, host(x))
    else:
        y.copy_to_device(x if not isinstance(x, np.ndarray) else np.ascontiguousarray(x))


def host(x: Any) -> np.ndarray:
    """x as a NumPy array; x itself where it is one."""
    return x if isinstance(x, np.ndarray) else x.copy_to_host()


def on_card(x: Any) -> Any:
    """x on the device as (x.size,): copied there where it is a NumPy array. Making a view takes as long as a launch."""
    if isinstance(x, np.ndarray):
        return cuda.to_device(np.ascontiguousarray(x).reshape(-1))
    if x.ndim > 1 and "flat_view" not in vars(x):
        x.flat_view = x.reshape(x.size)
    return x if x.ndim == 1 else x.flat_view


def part(flat: Any, count: int) -> Any:
    """flat[:count]"""
    return flat if flat.size == count else flat[:count]


def ids_on_card(numbers: Any) -> Any:
    """Integers on the device, (size,) int64."""
    return on_card(np.asarray(numbers, np.int64) if isinstance(numbers, np.ndarray) else numbers)


def constant_on_card(x: Any) -> Any:
    """on_card of what no kernel writes to: the same numbers are copied once, which else waits for the card."""
    return _constant(x.tobytes(), x.dtype.str) if isinstance(x, np.ndarray) else on_card(x)


def constant_ids(numbers: np.ndarray) -> Any:
    """ids_on_card of what no kernel writes to and comes again, such as where the steps begin."""
    return constant_on_card(np.asarray(numbers, np.int64))


@lru_cache(maxsize=32)
def _constant(content: bytes, dtype: str) -> Any:
    return cuda.to_device(np.frombuffer(content, dtype))


def copy_back(y: Any, flat: Any) -> None:
    """Copy a result to y where that is a NumPy array; elsewhere it is already there."""
    if isinstance(y, np.ndarray):
        y[...] = flat.copy_to_host().reshape(y.shape)


def launch(kernel: Any, count: int, *args: Any) -> None:
    """Launch a kernel of one thread per element."""
    if count:
        kernel[-(-count // THREADS), THREADS](count, *args)


@cuda.jit
def fill_with(count, y, value):
    i = cuda.grid(1)
    if i < count:
        y[i] = value


@cuda.jit
def copy_as(count, y, x):
    """y = x, in the type of y"""
    i = cuda.grid(1)
    if i < count:
        y[i] = np.float32(x[i])


def set_zero(x: Any) -> None:
    if not isinstance(x, np.ndarray):
        launch(fill_with, x.size, on_card(x), np.float32(0))
    else:
        x[...] = 0


def convert(y: Any, x: Any) -> None:
    """y = x, rounded to the type of y; both on the device, of one size."""
    launch(copy_as, y.size, on_card(y), on_card(x))
