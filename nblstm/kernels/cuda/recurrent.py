"""Recurrent layers on a card.

Where the whole grid fits on the card at once, one launch runs all steps, with a barrier of the grid between two; else
each step is a launch.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from nblstm.errors import DeviceError
from nblstm.kernels import reference
from nblstm.kernels.cells.kind import Cell, CellKind, CudaFunctions
from nblstm.kernels.cuda.arrays import (
    constant_ids,
    constant_on_card,
    copy_as,
    copy_back,
    empty,
    fill_with,
    ids_on_card,
    launch,
    on_card,
    part,
)
from nblstm.kernels.cuda.device import SIMULATED, TEXTS, THREADS, UNITS, is_aligned
from nblstm.kernels.cuda.elementwise import embedding_backward, gather
from nblstm.kernels.cuda.fallback import backward_on_host, forward_on_host
from nblstm.kernels.cuda.products import add_column_sums, input_product, linear_product, weight_product
from nblstm.kernels.cuda.steps import Layer, Slopes, make_backward, make_forward
from nblstm.kernels.packed import indices, last_rows


@cache
def _functions(kind: CellKind, nonlinearity: str) -> CudaFunctions:
    """The device functions of a kind; its cells differ in the nonlinearity alone."""
    return kind.cuda(Cell(kind.name, 1, 1, nonlinearity))


def functions_of(cell: Cell) -> CudaFunctions | None:
    """The cell's device functions, or None where only the specification computes it."""
    return _functions(cell.definition, cell.nonlinearity) if cell.definition.cuda else None


@cache
def steps_of(kind: CellKind, functions: CudaFunctions, forward: bool, aligned: bool) -> tuple[Any, Any]:
    """The kernels (one step, all steps) of a kind with these functions."""
    make, element = (make_forward, functions.forward) if forward else (make_backward, functions.backward)
    return make(len(kind.inputs), element, aligned, bool(kind.hidden))


def _run(kernels: tuple[Any, Any], grid: tuple[int, int], args: tuple[Any, ...], first: int, stop: int) -> None:
    """All steps from first to before stop: in one launch where the grid fits on the card, else one by one."""
    one, all_ = kernels
    way = 1 if stop > first else -1
    if abs(stop - first) > 1:
        all_ = _for_types_of(all_, args, first, stop)
        if grid[0] * grid[1] <= _most_blocks(all_):
            all_[grid, THREADS](*args, first, stop)
            return
    for t in range(first, stop, way):
        one[grid, THREADS](*args, t, t + way)


_SPECIALISED: dict[tuple[Any, ...], Any] = {}  # (kernel, element types) -> the kernel for them


def _for_types_of(kernel: Any, args: tuple[Any, ...], first: int, stop: int) -> Any:
    """The kernel for arguments of these types; numba's own way to it takes longer than a launch."""
    kinds = kernel, *(array.dtype for arrays in args for array in arrays)
    if kinds not in _SPECIALISED:
        _SPECIALISED[kinds] = kernel.specialize(*args, first, stop)
    return _SPECIALISED[kinds]


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
        if cell.has_options:
            raise DeviceError("device cuda has no layer normalisation, peepholes or projection; choose cpu.")
    functions = functions_of(cells[0])
    if functions is None:
        return reference.recurrent_work(cells, M, N, rows, dtype, threads)
    G, H = cells[0].gates, cells[0].hidden_size
    table = max([1, *(number * G * H for number in rows)])
    shared = {
        "da": empty((M * G * H,), np.float32),
        "db": empty((M * G * H if functions.apart else 1,), np.float32),
        "before": empty((M * H,), np.float32),
        "table": empty((table,), np.float32),
    }
    return [
        {
            **shared,
            "gates": empty((M * G * H,), dtype),
            "cs": empty((M * H,), np.float32),
            "inner": empty((M * H if functions.apart else 1,), dtype),
        }
        for _ in cells
    ]


def _grid(N: int, H: int) -> tuple[int, int]:
    return -(-H // UNITS), -(-N // TEXTS)


def _memory(c: Any, N: int, H: int) -> Any:
    """The c (N, H) that a kernel reads; zeros for a cell that has none."""
    return on_card(c) if c.size else constant_on_card(np.zeros(N * H, np.float32))


def recurrent_forward(outputs, work, packed, weights, cell, threads):
    """See reference.recurrent_forward."""
    functions = functions_of(cell)
    if functions is None:
        return forward_on_host(outputs, work, packed, weights, cell, threads)
    (y, cs, hn, cn), (x, index, h0, c0, offsets) = outputs, packed
    M, N, G, H = len(y), int(offsets[1]), cell.gates, cell.hidden_size
    wide, out, gates = G * H, on_card(y), part(work["gates"], M * G * H)
    projected = gates if index is None else work["table"]
    W, b = on_card(weights["weight_ih"]), on_card(weights["bias_ih"])
    linear_product(projected, on_card(x), W, b, len(x), wide, x.shape[1])  # a = W x + b_ih
    if index is not None:
        launch(gather, M * wide, gates, ids_on_card(index), projected, wide)  # a[index]
    before, memory = on_card(h0), _memory(c0, N, H)
    work["c0"] = memory  # the way back needs it, too
    (U, b_hh), memories = _recurrent(weights, wide), part(work["cs"], M * H)
    layer = tuple(Layer(out, memories, gates, work["inner"], before, memory, U, b_hh, constant_ids(offsets)))
    kernels = steps_of(cell.definition, functions, True, is_aligned(H, U, out, before))
    _run(kernels, _grid(N, H), (layer,), 0, len(offsets) - 1)
    last = constant_ids(last_rows(offsets))
    for state, rows in ((hn, out), (cn, memories)):
        if state.size:
            end = on_card(state)
            launch(gather, N * H, end, last, rows, H)
            copy_back(state, end)
    copy_back(y, out)
    if cs is not None:
        copied = on_card(cs)
        launch(copy_as, M * H, copied, memories)
        copy_back(cs, copied)


def recurrent_backward(dx, grads, slopes, y, work, packed, weights, cell, threads):
    """See reference.recurrent_backward. slopes.cs must be None: no kernel sends a gradient to c from above."""
    functions = functions_of(cell)
    if functions is None:
        return backward_on_host(dx, grads, slopes, y, work, packed, weights, cell, threads)
    (dy, _, dh, dc), (x, index, h0, _, offsets) = slopes, packed
    M, N, G, H = len(y), int(offsets[1]), cell.gates, cell.hidden_size
    wide, T = G * H, len(offsets) - 1
    U, b_hh = _recurrent(weights, wide)
    da = part(work["da"], M * wide)
    db = part(work["db"], M * wide) if functions.apart else da
    dh_flat, dc_flat, y_flat, h_flat = on_card(dh), _memory(dc, N, H), on_card(y), on_card(h0)
    layer = Layer(
        y_flat, part(work["cs"], M * H), part(work["gates"], M * wide), work["inner"], h_flat, work["c0"], U, b_hh,
        constant_ids(offsets),
    )  # fmt: skip
    args = tuple(Slopes(dh_flat, dc_flat, da, db, on_card(dy))), tuple(layer)
    _run(steps_of(cell.definition, functions, False, is_aligned(H, U, db)), _grid(N, H), args, T - 1, -2)
    if cell.definition.hidden:
        h_before = _shifted(work["before"], y_flat, h_flat, offsets, H)
        _add_gradients(grads, "hh", db, h_before, M, wide, H)  # b = U h + b_hh
    rows = M
    if index is not None:
        rows, placed = len(x), da
        da = part(work["table"], rows * wide)
        launch(fill_with, rows * wide, da, np.float32(0))
        embedding_backward(da.reshape(rows, wide), placed.reshape(M, wide), index, threads)  # a[index]
    _add_gradients(grads, "ih", da, on_card(x), rows, wide, x.shape[1])  # a = W x + b_ih
    out = on_card(dx)
    input_product(out, da, on_card(weights["weight_ih"]), out, rows, x.shape[1], wide)  # a = W x + b_ih
    for gradient, flat in ((dx, out), (dh, dh_flat), (dc, dc_flat)):
        if gradient.size:
            copy_back(gradient, flat)


def _recurrent(weights: Any, wide: int) -> tuple[Any, Any]:
    """U and its bias on the card; without a U an array that nobody reads, and zeros."""
    if "weight_hh" in weights:
        return on_card(weights["weight_hh"]), on_card(weights["bias_hh"])
    return constant_on_card(np.zeros(4, np.float32)), constant_on_card(np.zeros(wide, np.float32))


def _shifted(before: Any, y: Any, h0: Any, offsets: np.ndarray, H: int) -> Any:
    """h of the step before at every row: a copy of h0 and of the rows of y that are followed by another."""
    N, T = int(offsets[1]), len(offsets) - 1
    steps = np.repeat(np.arange(T), indices(np.diff(offsets)))[N:]
    follows = offsets[steps - 1] + np.arange(N, int(offsets[-1])) - offsets[steps]
    launch(copy_as, N * H, before, h0)
    launch(gather, len(follows) * H, before[N * H :], constant_ids(follows), y, H)
    return before


def _add_gradients(grads: Any, side: str, d: Any, x: Any, M: int, wide: int, D: int) -> None:
    """Add to the gradients of one side's weight and bias: d (M, wide), x (M, D)."""
    weight, bias = on_card(grads[f"weight_{side}"]), on_card(grads[f"bias_{side}"])
    weight_product(weight, d, x, weight, wide, D, M)
    add_column_sums(bias, d, M, wide)
    copy_back(grads[f"weight_{side}"], weight)
    copy_back(grads[f"bias_{side}"], bias)
