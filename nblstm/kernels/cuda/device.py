"""The card: whether there is one, how large a block's share is, and what all kernels' functions are made of."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
from numba import cuda

try:
    from numba.cuda.core import config as package_config
except ImportError:  # the target that older versions of numba bring along: good for the simulator
    from numba.core import config as package_config

from nblstm.errors import DeviceError

package_config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small networks have small grids
SIMULATED = bool(package_config.ENABLE_CUDASIM)  # kernels run as Python: no vector loads, one block at a grid's barrier
THREADS = 16 if SIMULATED else 256  # of most blocks; in the simulator everything is smaller by a fixed factor
TILE, DEPTH = (16, 8) if SIMULATED else (64, 16)  # of a product: a block's rows and columns, how far it walks at a time
UNITS, TEXTS, REACH = (4, 8, 8) if SIMULATED else (16, 32, 32)  # of a recurrent step: the same, THREADS = UNITS^2
EACH = TEXTS // UNITS  # texts of a thread, which has one unit
COLUMNS, PARTS = (4, 4) if SIMULATED else (32, 8)  # of a sum of columns: columns of a block, threads of each
ROW_THREADS, ROWS = (4, 2) if SIMULATED else (32, 4)  # of the softmax: threads of a row, rows of a block
SUM_BLOCKS = 256  # most partial sums of `squared_norm`


@cuda.jit
def _nothing():
    """do nothing"""


def require() -> None:
    """DeviceError, in one line, unless kernels can run here."""
    if SIMULATED:
        return
    if importlib.util.find_spec("numba_cuda") is None:
        raise DeviceError(
            "device cuda needs an NVIDIA card and numba's CUDA package, which is not installed: "
            'pip install "nblstm[cuda]", or choose cpu.'
        )
    if not cuda.is_available():
        raise DeviceError("device cuda found no NVIDIA card, or no driver for it, on this machine; choose cpu.")
    try:
        _nothing[1, 1]()
    except Exception as error:  # whatever the package raises where it does not fit NumPy, the compiler or the driver
        said = " ".join(str(error).split())
        raise DeviceError(
            f'device cuda cannot run a kernel here ({said:.200}): pip install --upgrade "nblstm[cuda]", or choose cpu.'
        ) from error


def describe() -> tuple[str, int | None]:
    """(the card's name, its free memory in bytes; None in the simulator)."""
    if SIMULATED:
        return "CUDA simulator", None
    name = cuda.get_current_device().name
    free = cuda.current_context().get_memory_info()[0]
    return name.decode() if isinstance(name, bytes) else str(name), int(free)


def device(function: Any) -> Any:
    """Compile a function that kernels call."""
    return cuda.jit(device=True)(function)


def large_kernel(function: Any) -> Any:
    """Compile a kernel of many variables, of which two blocks shall fit on a multiprocessor (of 65,536 registers)."""
    return cuda.jit(function) if SIMULATED else cuda.jit(max_registers=32768 // THREADS)(function)


@device
def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow; NaN where x is not finite, as in `nblstm.kernels.cpu.functions`"""
    e = np.float32(math.exp(-abs(x)))
    return (np.float32(1) if x >= 0 else e) / (np.float32(1) + e) + np.float32(x) * np.float32(0)


@device
def tanh(x):
    """tanh x in float32; NaN where x is not finite"""
    return np.float32(math.tanh(x)) + np.float32(x) * np.float32(0)


# ---------------------------------------------------------------- four numbers at once


if SIMULATED:
    import sys

    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    def _shared_array(self, shape, dtype, alignment=None):
        """one array for all threads of a block and line; numba's own may make two, where two threads ask at once"""
        caller = sys._getframe(1)
        return self._allocations.setdefault((caller.f_code, caller.f_lineno), np.empty(shape, dtype))

    FakeCUDAShared.array = _shared_array

    def load_four(array, offset):
        return array[offset], array[offset + 1], array[offset + 2], array[offset + 3]

    def store_four(array, offset, a, b, c, d):
        array[offset], array[offset + 1], array[offset + 2], array[offset + 3] = a, b, c, d

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic
    from numba.cuda.types import types as kinds

    def _address_of_four(context, builder, array_type, array, offset):
        data = context.make_array(array_type)(context, builder, array).data
        lanes = ir.VectorType(data.type.pointee, 4)
        return builder.bitcast(builder.gep(data, [offset]), lanes.as_pointer()), lanes

    @intrinsic
    def load_four(typingctx, array, offset):
        """array[offset : offset + 4] by one load; its address is a multiple of its size"""
        element, size = array.dtype, array.dtype.bitwidth // 8

        def codegen(context, builder, sig, args):
            four = builder.load(_address_of_four(context, builder, sig.args[0], *args)[0], align=4 * size)
            numbers = [builder.extract_element(four, ir.IntType(32)(k)) for k in range(4)]
            return context.make_tuple(builder, sig.return_type, numbers)

        return kinds.UniTuple(element, 4)(array, kinds.intp), codegen

    @intrinsic
    def store_four(typingctx, array, offset, a, b, c, d):
        """array[offset : offset + 4] = a, b, c, d by one store; its address is a multiple of its size"""
        size = array.dtype.bitwidth // 8

        def codegen(context, builder, sig, args):
            address, lanes = _address_of_four(context, builder, sig.args[0], *args[:2])
            four = ir.Constant(lanes, ir.Undefined)
            for k, number in enumerate(args[2:]):
                four = builder.insert_element(four, number, ir.IntType(32)(k))
            builder.store(four, address, align=4 * size)
            return context.get_dummy_value()

        return kinds.void(array, kinds.intp, *[array.dtype] * 4), codegen


@device
def _four_aligned(array, offset, count):
    """array[offset : offset + 4] as float32, or zeros where count, the elements that are there, is not positive."""
    if count > 0:
        p, q, r, s = load_four(array, offset)
        return np.float32(p), np.float32(q), np.float32(r), np.float32(s)
    return np.float32(0), np.float32(0), np.float32(0), np.float32(0)


@device
def _four_single(array, offset, count):
    """The same where addresses or counts are no multiples of four: missing elements are zeros."""
    p = np.float32(array[offset]) if count > 0 else np.float32(0)
    q = np.float32(array[offset + 1]) if count > 1 else np.float32(0)
    r = np.float32(array[offset + 2]) if count > 2 else np.float32(0)
    s = np.float32(array[offset + 3]) if count > 3 else np.float32(0)
    return p, q, r, s


LOADS = {True: _four_aligned, False: _four_single}


def is_aligned(width: int, *arrays: Any) -> bool:
    """Whether rows of `width` elements of these flat arrays can be read four at a time."""
    return width % 4 == 0 and all(_address(array) % (4 * array.dtype.itemsize) == 0 for array in arrays)


def _address(flat: Any) -> int:
    return 0 if SIMULATED else int(flat.__cuda_array_interface__["data"][0])
