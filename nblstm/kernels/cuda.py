"""The GPU kernels: the functions of reference.py for NVIDIA cards. The only file that knows the CUDA package.

Arrays are on the device where `array`, `empty` and `zeros_like` made them; integers, and whatever else is a NumPy
array, are copied there for the call, and outputs that are NumPy arrays are copied back. All sums have a fixed order and
no kernel uses atomics: the same inputs give the same bits. Numbers are stored as float32 or, where a work was made for
float16, activations as that; every sum is float32 or wider.

Inside a kernel arrays are flat. Products are tiles of 64 x 64 in shared memory, of which each of 256 threads
holds 4 x 4 in registers. A recurrent step is one kernel: the product U h of a tile of texts and units, all gates of
them, and the non-linearity. Where the whole grid fits on the card at once, one launch runs all steps, with a barrier of the grid
between two; else each step is a launch.
"""

from __future__ import annotations

import importlib.util
import math
from functools import cache
from typing import Any

import numpy as np
from numba import cuda

try:
    from numba.cuda.core import config as package_config
except ImportError:  # the target that older versions of numba bring along: good for the simulator
    from numba.core import config as package_config

from nblstm.errors import DeviceError
from nblstm.kernels import LOGITS_BYTES, Net, reference
from nblstm.kernels.cells.kind import Cell, CellKind, CudaFunctions
from nblstm.kernels.packed import last_rows

package_config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small networks have small grids
SIMULATED = bool(package_config.ENABLE_CUDASIM)  # kernels run as Python: no vector loads, one block at a grid's barrier
THREADS = 16 if SIMULATED else 256  # of most blocks; in the simulator everything is smaller by a fixed factor
TILE, DEPTH = (16, 4) if SIMULATED else (64, 16)  # of a product: a block's rows and columns, how far it walks at a time
PADDED = TILE + 4  # a row of a tile in shared memory
UNITS, TEXTS, REACH = (4, 8, 8) if SIMULATED else (16, 32, 32)  # of a recurrent step: the same, THREADS = UNITS^2
EACH = TEXTS // UNITS  # texts of a thread, which has one unit
COLUMNS, PARTS = (4, 4) if SIMULATED else (32, 8)  # of a sum of columns: columns of a block, threads of each
ROW_THREADS, ROWS = (4, 2) if SIMULATED else (32, 4)  # of the softmax: threads of a row, rows of a block
SUM_BLOCKS = 256  # most partial sums of `squared_norm`


# ---------------------------------------------------------------- the device


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


def describe() -> tuple[str, int | None]:
    """(the card's name, its free memory in bytes; None in the simulator)."""
    if SIMULATED:
        return "CUDA simulator", None
    name = cuda.get_current_device().name
    free = cuda.current_context().get_memory_info()[0]
    return name.decode() if isinstance(name, bytes) else str(name), int(free)


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
    _set_zero(zeros)
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


def _flat(x: Any) -> Any:
    """x on the device as (x.size,): copied there where it is a NumPy array."""
    return (cuda.to_device(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x).reshape(x.size)


def _whole(numbers: Any) -> Any:
    """Integers on the device, (size,) int64."""
    return _flat(np.asarray(numbers, np.int64) if isinstance(numbers, (np.ndarray, list)) else numbers)


def _back(y: Any, flat: Any) -> None:
    """Copy a result to y where that is a NumPy array; elsewhere it is already there."""
    if isinstance(y, np.ndarray):
        y[...] = flat.copy_to_host().reshape(y.shape)


def _each(kernel: Any, count: int, *args: Any) -> None:
    """Launch a kernel of one thread per element."""
    if count:
        kernel[-(-count // THREADS), THREADS](count, *args)


def device(function: Any) -> Any:
    """Compile a function that kernels call."""
    return cuda.jit(device=True)(function)


# ---------------------------------------------------------------- four numbers at once

if SIMULATED:

    def _load_four(array, offset):
        return array[offset], array[offset + 1], array[offset + 2], array[offset + 3]

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic
    from numba.cuda.types import types as kinds

    @intrinsic
    def _load_four(typingctx, array, offset):
        """array[offset : offset + 4] by one load; its address is a multiple of its size"""
        element, size = array.dtype, array.dtype.bitwidth // 8

        def codegen(context, builder, sig, args):
            data = context.make_array(sig.args[0])(context, builder, args[0]).data
            lanes = ir.VectorType(data.type.pointee, 4)
            address = builder.bitcast(builder.gep(data, [args[1]]), lanes.as_pointer())
            four = builder.load(address, align=4 * size)
            numbers = [builder.extract_element(four, ir.IntType(32)(k)) for k in range(4)]
            return context.make_tuple(builder, sig.return_type, numbers)

        return kinds.UniTuple(element, 4)(array, kinds.intp), codegen


@device
def _four_aligned(array, offset, count):
    """array[offset : offset + 4] as float32, or zeros where count, the elements that are there, is not positive."""
    if count > 0:
        p, q, r, s = _load_four(array, offset)
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


def _aligned(width: int, *arrays: Any) -> bool:
    """Whether rows of `width` elements of these flat arrays can be read four at a time."""
    return width % 4 == 0 and all(_address(array) % (4 * array.dtype.itemsize) == 0 for array in arrays)


def _address(flat: Any) -> int:
    return 0 if SIMULATED else int(flat.__cuda_array_interface__["data"][0])


# ---------------------------------------------------------------- elementwise


@cuda.jit
def _fill(count, y, value):
    i = cuda.grid(1)
    if i < count:
        y[i] = value


@cuda.jit
def _copy(count, y, x):
    """y = x, in the type of y"""
    i = cuda.grid(1)
    if i < count:
        y[i] = np.float32(x[i])


def _set_zero(x: Any) -> None:
    if not isinstance(x, np.ndarray):
        _each(_fill, x.size, _flat(x), np.float32(0))
    else:
        x[...] = 0


def convert(y: Any, x: Any) -> None:
    """y = x, rounded to the type of y; both on the device, of one size."""
    _each(_copy, y.size, _flat(y), _flat(x))


@cuda.jit
def _dropout(count, y, x, threshold, keep_scale, low, high):
    i = cuda.grid(1)
    if i < count:
        most = np.uint64(0xFFFFFFFF)  # 32-bit arithmetic in 64 bits, as the specification's uint32
        bits = (np.uint64(i) + low) & most
        bits = ((bits ^ (bits >> np.uint64(16))) * np.uint64(0x7FEB352D)) & most
        bits = ((bits ^ (bits >> np.uint64(15))) + high) & most
        bits = (bits * np.uint64(0x846CA68B)) & most
        bits = bits ^ (bits >> np.uint64(16))
        y[i] = np.float32(x[i]) * keep_scale if bits >= threshold else np.float32(0)


def dropout(y, x, rate, key, threads):
    """See reference.dropout: the same mask, bit for bit."""
    out = _flat(y)
    _each(
        _dropout, x.size, out, _flat(x), np.uint64(rate * 2.0**32), np.float32(1 / (1 - rate)),
        np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32),
    )  # fmt: skip
    _back(y, out)


@cuda.jit
def _scale_texts(count, y, x, scales, texts, D):
    i = cuda.grid(1)
    if i < count:
        y[i] = np.float32(x[i]) * scales[texts[i // D] * D + i % D]


def scale_texts(y, x, scales, offsets, threads):
    """See reference.scale_texts."""
    out, texts = _flat(y), np.concatenate([np.arange(n) for n in np.diff(offsets)])
    _each(_scale_texts, x.size, out, _flat(x), _flat(scales), _whole(texts), x.shape[1])
    _back(y, out)


# ---------------------------------------------------------------- embedding


@cuda.jit
def _gather(count, y, rows, x, D):
    """y[m] = x[rows[m]]"""
    i = cuda.grid(1)
    if i < count:
        y[i] = np.float32(x[rows[i // D] * D + i % D])


def embedding_forward(y, tokens, weight, threads):
    """See reference.embedding_forward."""
    out = _flat(y)
    _each(_gather, y.size, out, _whole(tokens), _flat(weight), y.shape[1])
    _back(y, out)


@cuda.jit
def _scatter(count, y, ids, starts, places, x, D):
    """y[ids[k]] += x[places[starts[k]]] + ... + x[places[starts[k + 1] - 1]], in this order"""
    i = cuda.grid(1)
    if i < count:
        k, j, total = i // D, i % D, np.float32(0)
        for place in range(starts[k], starts[k + 1]):
            total += x[places[place] * D + j]
        y[ids[k] * D + j] += total


def embedding_backward(dweight, dy, tokens, threads):
    """See reference.embedding_backward. The places of a token are added in their order."""
    places = np.argsort(tokens, kind="stable")
    ids, starts = np.unique(tokens[places], return_index=True)
    out, D = _flat(dweight), dy.shape[1]
    where = _whole(ids), _whole(np.append(starts, len(tokens))), _whole(places)
    _each(_scatter, len(ids) * D, out, *where, _flat(dy), D)
    _back(dweight, out)


# ---------------------------------------------------------------- products


def _make_product(a_by_rows: bool, b_by_rows: bool, ending: Any, aligned: bool) -> Any:
    """A kernel for the matrix C (M, N) of sum_k A[m, k] B[n, k].

    a_by_rows: whether A is stored as (M, K), else (K, M); b_by_rows: B as (N, K), else (K, N).
    ending(c, o, sum, bias, n) stores an element of C at o. aligned: whether rows can be read four elements at a time.
    """
    four = LOADS[aligned]

    @device
    def fill(tile, x, by_rows, first, count, k0, K):
        """tile[k, m] = X[first + m, k0 + k], four elements a thread; beyond the matrix zeros"""
        t = cuda.threadIdx.x
        if by_rows:
            m, k = t // (DEPTH // 4), t % (DEPTH // 4) * 4
            p, q, r, s = four(x, (first + m) * K + k0 + k, K - k0 - k if first + m < count else 0)
            tile[k, m], tile[k + 1, m], tile[k + 2, m], tile[k + 3, m] = p, q, r, s
        else:
            k, m = t // (TILE // 4), t % (TILE // 4) * 4
            p, q, r, s = four(x, (k0 + k) * count + first + m, count - first - m if k0 + k < K else 0)
            tile[k, m], tile[k, m + 1], tile[k, m + 2], tile[k, m + 3] = p, q, r, s

    @cuda.jit
    def product(c, a, b, bias, M, N, K):
        left = cuda.shared.array((DEPTH, PADDED), np.float32)
        right = cuda.shared.array((DEPTH, PADDED), np.float32)
        sums = cuda.local.array((4, 4), np.float32)
        m0, n0 = cuda.blockIdx.y * TILE, cuda.blockIdx.x * TILE
        row, column = cuda.threadIdx.x // (TILE // 4) * 4, cuda.threadIdx.x % (TILE // 4) * 4
        for i in range(4):
            for j in range(4):
                sums[i, j] = np.float32(0)
        for k0 in range(0, K, DEPTH):
            fill(left, a, a_by_rows, m0, M, k0, K)
            fill(right, b, b_by_rows, n0, N, k0, K)
            cuda.syncthreads()
            for k in range(DEPTH):
                for i in range(4):
                    for j in range(4):
                        sums[i, j] += left[k, row + i] * right[k, column + j]
            cuda.syncthreads()
        for i in range(4):
            for j in range(4):
                m, n = m0 + row + i, n0 + column + j
                if m < M and n < N:
                    ending(c, m * N + n, sums[i, j], bias, n)

    return product


@device
def _with_bias(c, o, total, bias, n):
    c[o] = total + np.float32(bias[n])


@device
def _plain(c, o, total, bias, n):
    c[o] = total


@device
def _added(c, o, total, bias, n):
    c[o] += total


class _Product:
    """The two kernels of one kind of product, for rows that can be read four elements at a time and for others."""

    def __init__(self, a_by_rows: bool, b_by_rows: bool, ending: Any) -> None:
        self.a_by_rows, self.b_by_rows = a_by_rows, b_by_rows
        self.kernels = {aligned: _make_product(a_by_rows, b_by_rows, ending, aligned) for aligned in (True, False)}

    def __call__(self, c: Any, a: Any, b: Any, bias: Any, M: int, N: int, K: int) -> None:
        """c (M, N) from a and b, K numbers a sum; flat, on the device."""
        aligned = _aligned(K if self.a_by_rows else M, a) and _aligned(K if self.b_by_rows else N, b)
        if M and N:
            self.kernels[aligned][(-(-N // TILE), -(-M // TILE)), THREADS](c, a, b, bias, M, N, K)


_linear = _Product(True, True, _with_bias)  # c = a b^T + bias
_input_gradient = _Product(True, False, _plain)  # c = a b
_weight_gradient = _Product(False, False, _added)  # c += a^T b


@cuda.jit
def _column_sums(sums, x, M, N):
    """sums[n] += x[0, n] + x[1, n] + ...; a block has COLUMNS of them, PARTS threads each"""
    parts = cuda.shared.array((PARTS, COLUMNS), np.float32)
    n = cuda.blockIdx.x * COLUMNS + cuda.threadIdx.x
    total = np.float32(0)
    if n < N:
        for m in range(cuda.threadIdx.y, M, PARTS):
            total += x[m * N + n]
    parts[cuda.threadIdx.y, cuda.threadIdx.x] = total
    cuda.syncthreads()
    if cuda.threadIdx.y == 0 and n < N:
        for k in range(1, PARTS):
            total += parts[k, cuda.threadIdx.x]
        sums[n] += total


def _add_column_sums(sums: Any, x: Any, M: int, N: int) -> None:
    _column_sums[-(-N // COLUMNS), (COLUMNS, PARTS)](sums, x, M, N)


# ---------------------------------------------------------------- cells
#
# Forward: the element function reads the input's half of the pre-activations from `gates` at o, o + H, ... and gets the
# other, U h + b_hh, as z[r, :]; it leaves the gates in `gates` and returns (h, c). Backward: it writes the gradients of
# both halves to da and db (one array but for the GRU) and returns those of the h before, what does not pass through U,
# and of the c before. `inner` (M, H): b_n of a GRU.


@device
def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow"""
    e = np.float32(math.exp(-abs(x)))
    return np.float32(1) / (np.float32(1) + e) if x >= 0 else e / (np.float32(1) + e)


@device
def tanh(x):
    """tanh x in float32"""
    return np.float32(math.tanh(x))


# ---------------------------------------------------------------- recurrent layer


def _make_forward(G: int, element: Any, aligned: bool) -> tuple[Any, Any]:
    """Kernels (one step, all steps) of the forward direction. A block computes UNITS units of TEXTS texts."""
    four, gate_units, padded = LOADS[aligned], G * UNITS, REACH + 1

    @device
    def step(y, cs, gates, inner, h0, c0, weight, bias, offsets, t):
        """h (row of y) and c (of cs) of step t"""
        units = cuda.shared.array((gate_units, padded), np.float32)
        texts = cuda.shared.array((TEXTS, padded), np.float32)
        z = cuda.local.array((EACH, G), np.float32)
        H, start, thread = bias.size // G, offsets[t], cuda.threadIdx.x
        N, before = offsets[t + 1] - start, offsets[max(t, 1) - 1]
        u0, n0 = cuda.blockIdx.x * UNITS, cuda.blockIdx.y * TEXTS
        unit, text = thread % UNITS, thread // UNITS
        for r in range(EACH):
            for g in range(G):
                z[r, g] = np.float32(0)
        for k0 in range(0, H if n0 < N else 0, REACH):
            for q in range(thread, G * UNITS * REACH // 4, THREADS):
                row, k = q // (REACH // 4), q % (REACH // 4) * 4
                u = u0 + row % UNITS
                a, b, c, d = four(weight, (row // UNITS * H + u) * H + k0 + k, H - k0 - k if u < H else 0)
                units[row, k], units[row, k + 1], units[row, k + 2], units[row, k + 3] = a, b, c, d
            for q in range(thread, TEXTS * REACH // 4, THREADS):
                row, k = q // (REACH // 4), q % (REACH // 4) * 4
                n, there = n0 + row, H - k0 - k if n0 + row < N else 0
                if t == 0:
                    a, b, c, d = four(h0, n * H + k0 + k, there)
                else:
                    a, b, c, d = four(y, (before + n) * H + k0 + k, there)
                texts[row, k], texts[row, k + 1], texts[row, k + 2], texts[row, k + 3] = a, b, c, d
            cuda.syncthreads()
            for k in range(REACH):
                for r in range(EACH):
                    for g in range(G):
                        z[r, g] += units[g * UNITS + unit, k] * texts[text + r * UNITS, k]
            cuda.syncthreads()
        u = u0 + unit
        for r in range(EACH):
            n = n0 + text + r * UNITS
            if u < H and n < N:
                for g in range(G):
                    z[r, g] += np.float32(bias[g * H + u])
                h = np.float32(h0[n * H + u]) if t == 0 else np.float32(y[(before + n) * H + u])
                c = c0[n * H + u] if t == 0 else cs[(before + n) * H + u]
                place = (start + n) * H + u
                h, c = element(gates, (start + n) * G * H + u, inner, place, H, z, r, h, c)
                y[place], cs[place] = h, c

    @cuda.jit
    def one(y, cs, gates, inner, h0, c0, weight, bias, offsets, first, stop):
        step(y, cs, gates, inner, h0, c0, weight, bias, offsets, first)

    @cuda.jit
    def all_(y, cs, gates, inner, h0, c0, weight, bias, offsets, first, stop):
        grid = cuda.cg.this_grid()
        for t in range(first, stop):
            step(y, cs, gates, inner, h0, c0, weight, bias, offsets, t)
            grid.sync()

    return one, all_


def _make_backward(G: int, element: Any, aligned: bool) -> tuple[Any, Any]:
    """Kernels (one step, all steps) of back-propagation through time, from the last step to -1."""
    four, padded, padded_units = LOADS[aligned], REACH + 1, UNITS + 1

    @device
    def step(dh, dc, da, db, dy, y, cs, gates, inner, h0, c0, weight, bias, offsets, t):
        """da, db of step t, and dh, dc of the step before; at t = -1 only the last product, into dh"""
        units = cuda.shared.array((REACH, padded_units), np.float32)
        texts = cuda.shared.array((TEXTS, padded), np.float32)
        z = cuda.local.array(EACH, np.float32)
        H, start, thread = bias.size // G, offsets[max(t, 0)], cuda.threadIdx.x
        N, before, last = offsets[max(t, 0) + 1] - start, offsets[max(t, 1) - 1], offsets.size - 2
        after = offsets[min(t, last) + 1]  # where the rows of step t + 1 begin
        A = offsets[min(t + 1, last) + 1] - after if t < last else 0  # and how many they are
        u0, n0 = cuda.blockIdx.x * UNITS, cuda.blockIdx.y * TEXTS
        unit, text = thread % UNITS, thread // UNITS
        for r in range(EACH):
            z[r] = np.float32(0)
        for k0 in range(0, G * H if n0 < A else 0, REACH):  # z = db U
            for q in range(thread, REACH * UNITS // 4, THREADS):
                k, j = q // (UNITS // 4), q % (UNITS // 4) * 4
                a, b, c, d = four(weight, (k0 + k) * H + u0 + j, H - u0 - j if k0 + k < G * H else 0)
                units[k, j], units[k, j + 1], units[k, j + 2], units[k, j + 3] = a, b, c, d
            for q in range(thread, TEXTS * REACH // 4, THREADS):
                row, k = q // (REACH // 4), q % (REACH // 4) * 4
                there = G * H - k0 - k if n0 + row < A else 0
                a, b, c, d = four(db, (after + n0 + row) * G * H + k0 + k, there)
                texts[row, k], texts[row, k + 1], texts[row, k + 2], texts[row, k + 3] = a, b, c, d
            cuda.syncthreads()
            for k in range(REACH):
                for r in range(EACH):
                    z[r] += units[k, unit] * texts[text + r * UNITS, k]
            cuda.syncthreads()
        u = u0 + unit
        for r in range(EACH):
            n = n0 + text + r * UNITS
            if u < H and n < N:
                own, place = n * H + u, (start + n) * H + u
                total = dh[own] + z[r]
                if t >= 0:
                    h_before = np.float32(h0[own]) if t == 0 else np.float32(y[(before + n) * H + u])
                    c_before = c0[own] if t == 0 else cs[(before + n) * H + u]
                    total, dc[own] = element(
                        da, db, gates, (start + n) * G * H + u, inner, place, H, total + dy[place], dc[own], h_before,
                        c_before, cs[place],
                    )  # fmt: skip
                dh[own] = total

    @cuda.jit
    def one(dh, dc, da, db, dy, y, cs, gates, inner, h0, c0, weight, bias, offsets, first, stop):
        step(dh, dc, da, db, dy, y, cs, gates, inner, h0, c0, weight, bias, offsets, first)

    @cuda.jit
    def all_(dh, dc, da, db, dy, y, cs, gates, inner, h0, c0, weight, bias, offsets, first, stop):
        grid = cuda.cg.this_grid()
        for t in range(first, stop, -1):
            step(dh, dc, da, db, dy, y, cs, gates, inner, h0, c0, weight, bias, offsets, t)
            grid.sync()

    return one, all_


@cache
def _functions(kind: CellKind, nonlinearity: str) -> CudaFunctions:
    """The device functions of a kind; its cells differ in the nonlinearity alone."""
    return kind.cuda(Cell(kind.name, 1, 1, nonlinearity))


def functions_of(cell: Cell) -> CudaFunctions | None:
    """The cell's device functions, or None where only the specification computes it."""
    return _functions(cell.definition, cell.nonlinearity) if cell.definition.cuda else None


@cache
def steps_of(G: int, functions: CudaFunctions, forward: bool, aligned: bool) -> tuple[Any, Any]:
    """The kernels (one step, all steps) of a cell of G gates."""
    make, element = (_make_forward, functions.forward) if forward else (_make_backward, functions.backward)
    return make(G, element, aligned)


def _run(kernels: tuple[Any, Any], grid: tuple[int, int], args: tuple[Any, ...], first: int, stop: int) -> None:
    """All steps from first to before stop: in one launch where the grid fits on the card, else one by one."""
    one, all_ = kernels
    way = 1 if stop > first else -1
    if abs(stop - first) > 1:
        all_ = all_.specialize(*args, first, stop)
        if grid[0] * grid[1] <= _most_blocks(all_):
            all_[grid, THREADS](*args, first, stop)
            return
    for t in range(first, stop, way):
        one[grid, THREADS](*args, t, t + way)


def _most_blocks(kernel: Any) -> int:
    """How many blocks of a specialised kernel the card holds at once; 0 where it has no barrier for a grid."""
    if SIMULATED:
        return 1
    if not cuda.get_current_device().COOPERATIVE_LAUNCH:
        return 0
    (compiled,) = kernel.overloads.values()
    return int(compiled.max_cooperative_grid_blocks(THREADS))


def recurrent_work(cells, M, N, rows, dtype, threads):
    """Buffers of each cell's gates, memory and inner parts, and one set of gradients that all cells share.

    dtype: of the gates, float32 or float16. DeviceError for options that no kernel computes; a kind of cell without
    device functions is computed by the specification, which needs none of this.
    """
    for cell in cells:
        if cell.is_specified:
            raise DeviceError("device cuda has no layer normalisation, peepholes or projection; choose cpu.")
    functions = functions_of(cells[0])
    if functions is None:
        return reference.recurrent_work(cells, M, N, rows, dtype, threads)
    G, H = cells[0].gates, cells[0].hidden_size
    table = max([1, *(number * G * H for number in rows)])
    shared = {
        "da": empty((M * G * H,), np.float32),
        "db": empty((M * G * H if functions.apart else 1,), np.float32),
        "before": empty((M * H,), np.float32), "table": empty((table,), np.float32),
    }  # fmt: skip
    return [
        {
            **shared, "gates": empty((M * G * H,), dtype), "cs": empty((M * H,), np.float32),
            "inner": empty((M * H if functions.apart else 1,), dtype),
        }
        for _ in cells
    ]  # fmt: skip


def _grid(N: int, H: int) -> tuple[int, int]:
    return -(-H // UNITS), -(-N // TEXTS)


def _memory(c: Any, N: int, H: int) -> Any:
    """The c (N, H) that a kernel reads; zeros for a cell that has none."""
    return _flat(c) if c.size else _flat(np.zeros((N, H), np.float32))


def recurrent_forward(y, cs, hn, cn, work, x, index, h0, c0, weights, cell, offsets, threads):
    """See reference.recurrent_forward."""
    functions = functions_of(cell)
    if functions is None:
        return _forward_on_host(y, cs, hn, cn, work, x, index, h0, c0, weights, cell, offsets, threads)
    M, N, G, H = len(y), int(offsets[1]), cell.gates, cell.hidden_size
    wide, out, gates = G * H, _flat(y), work["gates"][: M * G * H]
    projected = gates if index is None else work["table"]
    W, b = _flat(weights["weight_ih"]), _flat(weights["bias_ih"])
    _linear(projected, _flat(x), W, b, len(x), wide, x.shape[1])  # a = W x + b_ih
    if index is not None:
        _each(_gather, M * wide, gates, _whole(index), projected, wide)  # a[index]
    before, memory = _flat(h0), _memory(c0, N, H)
    work["c0"] = memory  # the way back needs it, too
    U, memories = _flat(weights["weight_hh"]), work["cs"][: M * H]
    args = (
        out, memories, gates, work["inner"], before, memory, U, _flat(weights["bias_hh"]), _whole(offsets)
    )  # fmt: skip
    kernels = steps_of(G, functions, True, _aligned(H, U, out, before))
    _run(kernels, _grid(N, H), args, 0, len(offsets) - 1)
    last = _whole(last_rows(offsets))
    for state, rows in ((hn, out), (cn, memories)):
        if state.size:
            end = _flat(state)
            _each(_gather, N * H, end, last, rows, H)
            _back(state, end)
    _back(y, out)
    if cs is not None:
        copied = _flat(cs)
        _each(_copy, M * H, copied, memories)
        _back(cs, copied)


def recurrent_backward(dx, dh, dc, grads, dy, dcs, y, work, x, index, h0, weights, cell, offsets, threads):
    """See reference.recurrent_backward. dcs must be None: no kernel sends a gradient to c from above."""
    functions = functions_of(cell)
    if functions is None:
        return _backward_on_host(dx, dh, dc, grads, dy, y, work, x, index, h0, weights, cell, offsets, threads)
    M, N, G, H = len(y), int(offsets[1]), cell.gates, cell.hidden_size
    wide, T, U = G * H, len(offsets) - 1, _flat(weights["weight_hh"])
    da = work["da"][: M * wide]
    db = work["db"][: M * wide] if functions.apart else da
    dh_flat, dc_flat, y_flat, h_flat = _flat(dh), _memory(dc, N, H), _flat(y), _flat(h0)
    args = (
        dh_flat, dc_flat, da, db, _flat(dy), y_flat, work["cs"][: M * H], work["gates"][: M * wide], work["inner"],
        h_flat, work["c0"], U, _flat(weights["bias_hh"]), _whole(offsets),
    )  # fmt: skip
    _run(steps_of(G, functions, False, _aligned(H, U, db)), _grid(N, H), args, T - 1, -2)
    h_before = _shifted(work["before"], y_flat, h_flat, offsets, H)
    _add_gradients(grads, "hh", db, h_before, M, wide, H)  # b = U h + b_hh
    rows = M
    if index is not None:
        rows, placed = len(x), da
        da = work["table"][: rows * wide]
        _each(_fill, rows * wide, da, np.float32(0))
        embedding_backward(da.reshape(rows, wide), placed.reshape(M, wide), index, threads)  # a[index]
    _add_gradients(grads, "ih", da, _flat(x), rows, wide, x.shape[1])  # a = W x + b_ih
    out = _flat(dx)
    _input_gradient(out, da, _flat(weights["weight_ih"]), out, rows, x.shape[1], wide)  # a = W x + b_ih
    for gradient, flat in ((dx, out), (dh, dh_flat), (dc, dc_flat)):
        if gradient.size:
            _back(gradient, flat)


def _forward_on_host(y, cs, hn, cn, work, x, index, h0, c0, weights, cell, offsets, threads):
    """`reference.recurrent_forward` on copies, in float32."""
    outputs = y, cs, hn, cn
    found = [None if output is None else np.empty(tuple(output.shape), np.float32) for output in outputs]
    reference.recurrent_forward(
        *found, work, *_single(x), index, *_single(h0, c0), _named(weights), cell, offsets, threads
    )  # fmt: skip
    _put(outputs, found)


def _backward_on_host(dx, dh, dc, grads, dy, y, work, x, index, h0, weights, cell, offsets, threads):
    """`reference.recurrent_backward` on copies, in float32."""
    outputs = dx, dh, dc, *grads.values()
    found = _single(*outputs)
    reference.recurrent_backward(
        *found[:3], dict(zip(grads, found[3:])), *_single(dy), None, *_single(y), work, *_single(x), index,
        *_single(h0), _named(weights), cell, offsets, threads,
    )  # fmt: skip
    _put(outputs, found)


def _single(*arrays: Any) -> list[np.ndarray]:
    """Copies as NumPy arrays in float32."""
    return [np.array(host(x), np.float32) for x in arrays]


def _named(weights: Any) -> dict[str, np.ndarray]:
    """`_single` of arrays by name."""
    return dict(zip(weights, _single(*weights.values())))


def _put(outputs: Any, found: Any) -> None:
    """Write what was found to the outputs, wherever they are, in their own type."""
    for output, value in zip(outputs, found):
        if output is not None and output.size:
            assign(output, value.astype(output.dtype))


def _shifted(before: Any, y: Any, h0: Any, offsets: np.ndarray, H: int) -> Any:
    """h of the step before at every row: a copy of h0 and of the rows of y that are followed by another."""
    N, T = int(offsets[1]), len(offsets) - 1
    steps = np.repeat(np.arange(T), np.diff(offsets))[N:]
    follows = offsets[steps - 1] + np.arange(N, int(offsets[-1])) - offsets[steps]
    _each(_copy, N * H, before, h0)
    _each(_gather, len(follows) * H, before[N * H :], _whole(follows), y, H)
    return before


def _add_gradients(grads: Any, side: str, d: Any, x: Any, M: int, wide: int, D: int) -> None:
    """Add to the gradients of one side's weight and bias: d (M, wide), x (M, D)."""
    weight, bias = _flat(grads[f"weight_{side}"]), _flat(grads[f"bias_{side}"])
    _weight_gradient(weight, d, x, weight, wide, D, M)
    _add_column_sums(bias, d, M, wide)
    _back(grads[f"weight_{side}"], weight)
    _back(grads[f"bias_{side}"], bias)


# ---------------------------------------------------------------- linear layer


def linear_work(M, D, V, dtype, threads):
    """Scratch for `linear_forward` and `linear_backward`: none."""
    return ()


def linear_forward(y, work, x, weight, bias, threads):
    """See reference.linear_forward."""
    out = _flat(y)
    _linear(out, _flat(x), _flat(weight), _flat(bias), len(x), len(bias), x.shape[1])
    _back(y, out)


def linear_backward(dx, dweight, dbias, dy, work, x, weight, threads):
    """See reference.linear_backward."""
    (M, D), V = x.shape, dy.shape[1]
    out, dW, db, d = _flat(dx), _flat(dweight), _flat(dbias), _flat(dy)
    _input_gradient(out, d, _flat(weight), out, M, D, V)  # y = x weight^T
    _weight_gradient(dW, d, _flat(x), dW, V, D, M)  # y = x weight^T
    _add_column_sums(db, d, M, V)  # y = ... + bias
    for gradient, flat in ((dx, out), (dweight, dW), (dbias, db)):
        _back(gradient, flat)


# ---------------------------------------------------------------- squared error


@cuda.jit
def _squared_error(count, losses, dy, y, targets, scales, V):
    """see reference.squared_error; a thread a row"""
    m = cuda.grid(1)
    if m < count:
        total, each = np.float32(0), np.float32(2) / np.float32(V)
        for o in range(m * V, (m + 1) * V):
            error = np.float32(y[o]) - targets[o]
            total += error * error
            dy[o] = error * scales[m] * each  # error^2 / V
        losses[m] = total / np.float32(V)


def squared_error(losses, dy, y, targets, scales, threads):
    """See reference.squared_error."""
    out, gradient = _flat(losses), _flat(dy)
    _each(_squared_error, len(losses), out, gradient, _flat(y), _flat(targets), _flat(scales), y.shape[1])
    _back(losses, out)
    _back(dy, gradient)


# ---------------------------------------------------------------- softmax head


@device
def _folded(parts, largest):
    """The sum of a row's parts, or the largest of them, the same for all its threads."""
    cuda.syncthreads()
    row, result = cuda.threadIdx.y, parts[cuda.threadIdx.y, 0]
    for k in range(1, ROW_THREADS):
        result = max(result, parts[row, k]) if largest else result + parts[row, k]
    cuda.syncthreads()
    return result


@cuda.jit
def _softmax(losses, logits, targets, scales, classes, smoothing, M, V, backward):
    """The losses of ROWS rows a block and, where asked, the logits' gradient in their place"""
    parts = cuda.shared.array((ROWS, ROW_THREADS), np.float32)
    row, lane, m = cuda.threadIdx.y, cuda.threadIdx.x, cuda.blockIdx.x * ROWS + cuda.threadIdx.y
    width = V if m < M else 0
    largest = np.float32(-math.inf)
    for v in range(lane, width, ROW_THREADS):
        largest = max(largest, logits[m * V + v])
    parts[row, lane] = largest
    largest = _folded(parts, True)
    total = np.float32(0)
    for v in range(lane, width, ROW_THREADS):
        total += np.float32(math.exp(logits[m * V + v] - largest))
    parts[row, lane] = total
    total = _folded(parts, False)
    log_total = np.float32(math.log(total)) + largest if m < M else np.float32(0)
    share, spread, others = smoothing / np.float32(V), np.float32(0), np.float32(0)
    if smoothing > 0:
        for v in range(lane, width, ROW_THREADS):
            others += classes[v] * share
            spread += classes[v] * share * (log_total - logits[m * V + v])
    parts[row, lane] = others
    others = _folded(parts, False)
    parts[row, lane] = spread
    spread = _folded(parts, False)
    if m < M:
        target = targets[m]
        own = (np.float32(1) - smoothing) * classes[target]
        loss = own * (log_total - logits[m * V + target]) + spread
    cuda.syncthreads()
    if m < M:
        if lane == 0:
            losses[m] = loss
        for v in range(lane, width if backward else 0, ROW_THREADS):
            p = np.float32(math.exp(logits[m * V + v] - log_total))
            wanted = classes[v] * share + (own if v == target else np.float32(0))
            logits[m * V + v] = scales[m] * (p * (own + others) - wanted)


def softmax_work(M, D, V, dtype, threads):
    """Logits of as many rows as LOGITS_BYTES hold, at least one."""
    return empty((max(1, min(M, LOGITS_BYTES // (4 * V))) * V,), np.float32)


softmax_gradient_work = softmax_work


def softmax_losses(losses, work, x, targets, weight, bias, threads):
    """See reference.softmax_losses."""
    (M, D), V, out = x.shape, len(bias), _flat(losses)
    x_, W, b, ids, ones = _flat(x), _flat(weight), _flat(bias), _whole(targets), array(np.ones(V, np.float32))
    for start, stop in _turns(M, work.size // V):
        n = stop - start
        _linear(work, x_[start * D : stop * D], W, b, n, V, D)
        _softmax[-(-n // ROWS), (ROW_THREADS, ROWS)](
            out[start:stop], work, ids[start:stop], ones, ones, np.float32(0), n, V, False
        )
    _back(losses, out)


def softmax_losses_and_gradient(
    losses, dx, dweight, dbias, work, x, targets, scales, classes, smoothing, weight, bias, threads
):
    """See reference.softmax_losses_and_gradient."""
    (M, D), V, out = x.shape, len(bias), _flat(losses)
    x_, W, b, ids, counts = _flat(x), _flat(weight), _flat(bias), _whole(targets), _flat(scales)
    dx_, dW, db = _flat(dx), _flat(dweight), _flat(dbias)
    kinds_ = _flat(np.ones(V, np.float32) if classes is None else classes)
    for start, stop in _turns(M, work.size // V):
        n, rows = stop - start, slice(start * D, stop * D)
        _linear(work, x_[rows], W, b, n, V, D)
        _softmax[-(-n // ROWS), (ROW_THREADS, ROWS)](
            out[start:stop], work, ids[start:stop], counts[start:stop], kinds_, np.float32(smoothing), n, V, True
        )
        _input_gradient(dx_[rows], work, W, W, n, D, V)
        _weight_gradient(dW, work, x_[rows], W, V, D, n)
        _add_column_sums(db, work, n, V)
    for result, flat in ((losses, out), (dx, dx_), (dweight, dW), (dbias, db)):
        _back(result, flat)


def _turns(M: int, most: int) -> list[tuple[int, int]]:
    """M rows in parts of at most so many: (start, stop) of each."""
    return [(start, min(M, start + most)) for start in range(0, M, most)]


# ---------------------------------------------------------------- decoding


def decode_work(N, net, threads):
    """The weights on the device, and buffers for one step of N texts. DeviceError for what no kernel computes."""
    if net.residual or net.with_memory:
        raise DeviceError("device cuda has no residual layers and no cell head; choose cpu.")
    works = recurrent_work(net.cells, N, N, [0] * len(net.cells), np.float32, threads)
    on_device = lambda x: array(x) if isinstance(x, np.ndarray) else x  # noqa: E731
    layers = [{name: on_device(weight) for name, weight in weights.items()} for weights in net.layers]
    weights = Net(
        on_device(net.embedding), net.cells, layers, False, False, on_device(net.head_weight), on_device(net.head_bias)
    )
    sizes = [net.embedding.shape[1], *(cell.output_size for cell in net.cells)]
    inputs = [empty((N, size), np.float32) for size in sizes]
    return weights, works, inputs


def decode(logits, h, c, top, tokens, work, threads):
    """See reference.decode. h, c, top and logits may be NumPy arrays: they are then copied there and back."""
    state = _DecoderState(logits, h, c, top)
    state.read(_whole(tokens), work)
    state.back(logits, h, c, top)


class _DecoderState:
    """h, c, top and logits of `decode` on the device while tokens are read."""

    def __init__(self, logits: Any, h: Any, c: Any, top: Any) -> None:
        layers = range(len(h))
        self.N, self.h, self.c = h.shape[1], [array(h[k]) for k in layers], [self._there(c[k]) for k in layers]
        self.h_next = [empty((self.N, h.shape[2]), np.float32) for _ in layers]
        self.top, self.logits = empty(tuple(top.shape), np.float32), self._there(logits)

    @staticmethod
    def _there(x: np.ndarray) -> Any:
        """A copy on the device; what has no elements stays where it is."""
        return array(x) if x.size else x

    def read(self, tokens: Any, work: Any) -> None:
        """Read a token of each text, tokens (N,) int64 on the device."""
        net, works, inputs = work
        N, offsets = self.N, np.array([0, self.N])
        x = inputs[0][:N]
        embedding_forward(x, tokens, net.embedding, 1)
        for k, (cell, weights) in enumerate(zip(net.cells, net.layers)):
            y, h = inputs[k + 1][:N], self.h_next[k]
            recurrent_forward(y, None, h, self.c[k], works[k], x, None, self.h[k], self.c[k], weights, cell, offsets, 1)
            self.h[k], self.h_next[k], x = h, self.h[k], y
        assign(self.top, x)
        if len(self.logits):
            linear_forward(self.logits, (), x, net.head_weight, net.head_bias, 1)

    def back(self, logits: np.ndarray, h: np.ndarray, c: np.ndarray, top: np.ndarray) -> None:
        """Copy everything to the NumPy arrays that it came from."""
        for k in range(len(h)):
            h[k], c[k] = host(self.h[k]), host(self.c[k])
        top[...], logits[...] = host(self.top), host(self.logits)


@cuda.jit
def _draw(tokens, logits, uniform, allowed, temperature, V):
    """A token of each text, one block a text, its threads a stretch of the vocabulary each; in float64"""
    sums = cuda.shared.array(ROW_THREADS, np.float64)
    best = cuda.shared.array(ROW_THREADS, np.int64)
    n, lane = cuda.blockIdx.x, cuda.threadIdx.x
    start, stop = lane * V // ROW_THREADS, (lane + 1) * V // ROW_THREADS
    place, row = -1, n * V
    for v in range(start, stop):
        if allowed[v] and (place < 0 or logits[row + v] > logits[row + place]):
            place = v
    best[lane] = place
    cuda.syncthreads()
    place = -1
    for k in range(ROW_THREADS):
        if best[k] >= 0 and (place < 0 or logits[row + best[k]] > logits[row + place]):
            place = best[k]
    if temperature == 0:
        if lane == 0:
            tokens[n] = place
        return
    largest, total = np.float64(logits[row + place]), 0.0
    for v in range(start, stop):
        if allowed[v]:
            total += math.exp((np.float64(logits[row + v]) - largest) / temperature)
    sums[lane] = total
    cuda.syncthreads()
    if lane == 0:
        total = 0.0
        for k in range(ROW_THREADS):
            total += sums[k]
        goal, before, k = uniform[n] * total, 0.0, 0
        while k < ROW_THREADS - 1 and before + sums[k] <= goal:
            before += sums[k]
            k += 1
        token = place
        for v in range(k * V // ROW_THREADS, V):  # the first whose cumulative probability exceeds the goal
            weight = math.exp((np.float64(logits[row + v]) - largest) / temperature) if allowed[v] else 0.0
            before += weight
            if weight > 0:
                token = v
            if before > goal:
                break
        tokens[n] = token


def _plain_draw(filters: Any) -> bool:
    """Whether the card can draw: with no filter but the temperature."""
    return filters._replace(temperature=1.0, repetition_window=0) == type(filters)()


def _allowed(V: int, banned: np.ndarray) -> Any:
    allowed = np.ones(V, np.int64)
    allowed[banned] = 0
    return _whole(allowed)


def draw(tokens, logits, uniform, history, banned, filters, threads):
    """See reference.draw, which does it where there is a filter beside the temperature."""
    if not _plain_draw(filters):
        return reference.draw(tokens, host(logits), uniform, history, banned, filters, threads)
    N, V = logits.shape
    drawn = cuda.device_array(N, np.int64)
    _draw[N, ROW_THREADS](drawn, _flat(logits), _flat(uniform), _allowed(V, banned), float(filters.temperature), V)
    tokens[...] = drawn.copy_to_host()


# ---------------------------------------------------------------- generating


def generate(history, length, h, c, top, logits, uniform, banned, filters, work, threads):
    """See reference.generate. Without filters beside the temperature nothing comes back before the last token."""
    K, (N, V) = len(uniform), logits.shape
    state = _DecoderState(logits, h, c, top)
    if _plain_draw(filters):
        drawn, numbers, allowed = cuda.device_array(K * N, np.int64), _flat(uniform), _allowed(V, banned)
        for k in range(K):
            tokens = drawn[k * N : (k + 1) * N]
            _draw[N, ROW_THREADS](
                tokens, _flat(state.logits), numbers[k * N : (k + 1) * N], allowed, float(filters.temperature), V
            )
            state.read(tokens, work)
        history[:, length : length + K] = drawn.copy_to_host().reshape(K, N).T
    else:
        for k, numbers in enumerate(uniform, length):
            reference.draw(history[:, k], host(state.logits), numbers, history[:, :k], banned, filters, threads)
            state.read(_whole(history[:, k]), work)
    state.back(logits, h, c, top)


# ---------------------------------------------------------------- searching


def search(parents, tokens, start, places, h, c, top, logits, noise, banned, beam, work, threads):
    """See reference.search: the card reads, the host chooses."""
    return reference.search_by(
        decode, parents, tokens, start, places, h, c, top, logits, noise, banned, beam, work, threads
    )  # fmt: skip


# ---------------------------------------------------------------- gradients and optimizers (flat arrays)


def clear(g, threads):
    """See reference.clear."""
    _set_zero(g)


@cuda.jit
def _squares(sums, g, count):
    """The sum of squares of every block's share, in float64"""
    parts = cuda.shared.array(THREADS, np.float64)
    total = 0.0
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        total += np.float64(g[i]) * np.float64(g[i])
    parts[cuda.threadIdx.x] = total
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        total = 0.0
        for k in range(THREADS):
            total += parts[k]
        sums[cuda.blockIdx.x] = total


def squared_norm(g, threads):
    """See reference.squared_norm."""
    blocks = min(SUM_BLOCKS, -(-g.size // (16 * THREADS)))
    sums = cuda.device_array(blocks, np.float64)
    _squares[blocks, THREADS](sums, _flat(g), g.size)
    return float(sums.copy_to_host().sum())


@cuda.jit
def _clip_values(count, g, limit):
    i = cuda.grid(1)
    if i < count:
        value = g[i]
        g[i] = -limit if value < -limit else limit if value > limit else value  # NaN stays


def clip_values(g, limit, threads):
    """See reference.clip_values."""
    flat = _flat(g)
    _each(_clip_values, g.size, flat, np.float32(limit))
    _back(g, flat)


@cuda.jit
def _adam(count, w, m, v, g, rate, beta1, rest1, beta2, rest2, eps, weight_decay, keep, correction, scale):
    i = cuda.grid(1)
    if i < count:
        d = g[i] * scale + weight_decay * w[i]
        m[i] = beta1 * m[i] + rest1 * d
        v[i] = beta2 * v[i] + rest2 * (d * d)
        w[i] = w[i] * keep - rate * m[i] / (np.float32(math.sqrt(v[i])) * correction + eps)


def adam(w, m, v, g, lr, beta1, beta2, eps, weight_decay, decoupled, step, scale, threads):
    """See reference.adam."""
    numbers = (
        lr / (1 - beta1**step), beta1, 1 - beta1, beta2, 1 - beta2, eps, weight_decay, 1 - lr * decoupled,
        1 / math.sqrt(1 - beta2**step), scale,
    )  # fmt: skip
    _update(_adam, (w, m, v), g, numbers)


@cuda.jit
def _sgd(count, w, m, g, lr, momentum, weight_decay, scale):
    i = cuda.grid(1)
    if i < count:
        m[i] = momentum * m[i] + (g[i] * scale + weight_decay * w[i])
        w[i] -= lr * m[i]


@cuda.jit
def _nesterov(count, w, m, g, lr, momentum, weight_decay, scale):
    i = cuda.grid(1)
    if i < count:
        d = g[i] * scale + weight_decay * w[i]
        m[i] = momentum * m[i] + d
        w[i] -= lr * (d + momentum * m[i])


def sgd(w, m, g, lr, momentum, nesterov, weight_decay, scale, threads):
    """See reference.sgd."""
    _update(_nesterov if nesterov else _sgd, (w, m), g, (lr, momentum, weight_decay, scale))


@cuda.jit
def _average(count, a, w, share):
    i = cuda.grid(1)
    if i < count:
        a[i] += share * (w[i] - a[i])


def average(a, w, share, threads):
    """See reference.average."""
    _update(_average, (a,), w, (share,))


@cuda.jit
def _rmsprop(count, w, v, g, lr, alpha, rest, eps, weight_decay, scale):
    i = cuda.grid(1)
    if i < count:
        d = g[i] * scale + weight_decay * w[i]
        v[i] = alpha * v[i] + rest * (d * d)
        w[i] -= lr * d / (np.float32(math.sqrt(v[i])) + eps)


def rmsprop(w, v, g, lr, alpha, eps, weight_decay, scale, threads):
    """See reference.rmsprop."""
    _update(_rmsprop, (w, v), g, (lr, alpha, 1 - alpha, eps, weight_decay, scale))


def _update(kernel: Any, changed: tuple[Any, ...], g: Any, numbers: tuple[float, ...]) -> None:
    """Launch an elementwise kernel that changes some arrays by another and some numbers."""
    flats = [_flat(x) for x in changed]
    _each(kernel, g.size, *flats, _flat(g), *map(np.float32, numbers))
    for x, flat in zip(changed, flats):
        _back(x, flat)
