"""The vector functions over the whole range of their type, and the register tile for every height and width."""

import numpy as np
import pytest
from support.cases import each

numba = pytest.importorskip("numba")

from nblstm.kernels.cpu import functions, tiles, vectors
from nblstm.kernels.cpu.functions import EXP
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor
from nblstm.kernels.cpu.vectors import LANES

DTYPES = [np.float32, np.float64]
ERRORS = {  # the bounds that the docstrings of functions.py state: relative for exp, absolute for the others
    "exp": {np.float32: 1e-7, np.float64: 2e-16},
    "sigmoid": {np.float32: 9e-8, np.float64: 2e-16},
    "tanh": {np.float32: 1.8e-7, np.float64: 4e-16},
}
LIMITS = {np.float32: EXP[32][:2], np.float64: EXP[64][:2]}  # where exp becomes 0, and where it is nearly infinite


def _compiled(function):
    """A compiled y[i] = function(x[i]), vector by vector."""
    load, store = vectors.load, vectors.store

    @numba.njit(error_model="numpy", fastmath={"contract"})
    def compiled(y, x):
        for i in range(0, x.size, LANES):
            store(y, i, function(load(x, i)))

    return compiled


COMPILED = {name: _compiled(getattr(functions, name)) for name in ERRORS}


def apply(name, x):
    """The vector function of every element of x (any length)."""
    padded = np.zeros(-(-x.size // LANES) * LANES, x.dtype)
    padded[: x.size] = x
    y = np.empty_like(padded)
    COMPILED[name](y, padded)
    return y[: x.size]


def everything(dtype):
    """A million numbers over the whole range of a type, both signs, subnormals and infinities; no NaN."""
    if dtype == np.float32:
        x = np.arange(0, 2**32, 4093, dtype=np.uint32).view(np.float32)
    else:
        r = np.random.default_rng(12)
        x = np.concatenate([r.normal(0, 10.0**power, 100_000) for power in range(-5, 4)])
        x = np.concatenate([x, r.integers(0, 2**64, 100_000, dtype=np.uint64).view(np.float64)])
    edges = [value + step for value in (0, *LIMITS[dtype]) for step in (-1e-3, 0, 1e-3)]
    x = np.concatenate([x, np.array([*edges, np.inf, -np.inf, -0.0], dtype)])
    return x[~np.isnan(x)]


def exact(name, x):
    """The function by NumPy, in float64 for float32 and in the longest type there is for float64."""
    x = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
    if name == "sigmoid":
        return 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    return {"exp": np.exp, "tanh": np.tanh}[name](x)


# ---------------------------------------------------------------- exp, sigmoid, tanh


@pytest.mark.parametrize("dtype", DTYPES)
@each("name", ERRORS)
def test_error_stays_within_the_bound(name, dtype):
    """The bounds that the docstrings state, at a million points from the smallest number to the largest."""
    x = everything(dtype)
    low, high = LIMITS[dtype] if name == "exp" else (np.finfo(dtype).min, np.finfo(dtype).max)
    x = x[(x >= low) & (x <= high)]
    expected = exact(name, x)
    error = np.abs(apply(name, x) - expected) / (expected if name == "exp" else 1)
    worst = error.argmax()
    assert len(x) > 300_000
    assert error[worst] < ERRORS[name][dtype] + 2 * np.finfo(np.longdouble).eps, x[worst]


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_saturates(dtype):
    """0 below the first limit and for -inf; infinite a little above the second, and for inf."""
    x, (low, high) = everything(dtype), LIMITS[dtype]
    assert not apply("exp", x[x < low]).any()
    assert np.isposinf(apply("exp", x[x > high + 0.02])).all()


@pytest.mark.parametrize("dtype", DTYPES)
@each("name, low, middle, high", [("sigmoid", 0, 0.5, 1), ("tanh", -1, 0, 1)])
def test_ends_and_middle(name, low, middle, high, dtype):
    """Huge numbers give the limits, and no gate leaves its range; NaN and infinity give NaN, their neighbours are whole."""
    largest = np.finfo(dtype).max
    y = apply(name, np.array([-np.inf, -largest, -1e30, 0.0, -0.0, np.nan, 1e30, largest, np.inf], dtype))
    assert y[[1, 2, 3, 4, 6, 7]].tolist() == [low, low, middle, middle, high, high]
    assert np.isnan(y[[0, 5, 8]]).all()
    x = everything(dtype)
    found = apply(name, x[np.isfinite(x)])
    assert (found.min(), found.max()) == (low, high)


# ---------------------------------------------------------------- parts of a vector


@numba.njit
def _copy_part(y, x, count, fill, all_lanes):
    part = vectors.load_part(x, 1, count, fill)
    vectors.store(all_lanes, 0, part)
    vectors.store_part(y, 1, part, count)


@pytest.mark.parametrize("dtype", DTYPES)
@each("count", [0, 1, 7, 15, 16, 40])
def test_parts_of_a_vector_touch_nothing_else(count, dtype):
    """load_part fills the lanes behind the part; store_part leaves the memory behind it alone; a vector is the most."""
    x, y, lanes = np.arange(48, dtype=dtype), np.full(18, -1, dtype), np.empty(LANES, dtype)
    _copy_part(y, x[: count + 1], count, dtype(9), lanes)
    count = min(count, LANES)
    part = list(range(1, count + 1))
    assert lanes.tolist() == part + [9] * (LANES - count)
    assert y.tolist() == [-1] + part + [-1] * (17 - count)


@numba.njit
def _fold(x):
    vector = vectors.load(x, 0)
    return vectors.lane_sum(vector), vectors.lane_max(vector)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sum_and_largest_of_the_lanes(dtype):
    """Every lane counts, wherever the largest stands."""
    for place in range(LANES):
        x = -np.arange(1, LANES + 1, dtype=dtype)
        x[place] = 100
        assert _fold(x) == (100 - 136 + place + 1, 100)


# ---------------------------------------------------------------- the register tile


@numba.njit
def multiply(C, rows, width, A, B, b0):
    tiles.multiply(C, rows, width, A, B, b0)


@numba.njit
def multiply_transposed(C, rows, width, A, B, b0):
    tiles.multiply_transposed(C, rows, width, A, B, b0)


def product(dtype, rows, width, K, outers, transposed):
    """(C, its place, what it should be): A and B stand among NaN, C among a value that must not change."""
    r = np.random.default_rng([rows, width, K, outers])
    a, b = r.normal(size=(rows, outers * K)).astype(dtype), r.normal(size=(outers * K, width)).astype(dtype)
    c = r.normal(size=(rows, width)).astype(dtype)
    C, B = np.full((rows + 2, width + 5), 777, dtype), np.full((outers * K + 2, PANEL), np.nan, dtype)
    C[1:-1, 3:-2], B[1:-1, :width] = c, b
    ldc, c0 = width + 5, width + 5 + 3
    expected = C.astype(np.float64)
    expected[1:-1, 3:-2] += a.astype(np.float64) @ b.astype(np.float64)
    if transposed:
        A = np.full((K + 2, rows + 4), np.nan, dtype)
        A[1:-1, 1:-3] = a.T
        flat = C.reshape(-1), A.reshape(-1), B.reshape(-1)
        factor = Factor(flat[1], rows + 5, rows + 4, 0, 1, K)
        multiply_transposed(Block(flat[0], c0, ldc), rows, width, factor, flat[2], PANEL)
    else:
        A = np.full((outers + 2, rows, K + 1), np.nan, dtype)  # piece o of a row stands in plane o + 1
        A[1:-1, :, 1:] = a.reshape(rows, outers, K).transpose(1, 0, 2)
        a0, outer = rows * (K + 1) + 1, rows * (K + 1)
        flat = C.reshape(-1), A.reshape(-1), B.reshape(-1)
        factor = Factor(flat[1], a0, K + 1, outer, outers, K)
        multiply(Block(flat[0], c0, ldc), rows, width, factor, flat[2], PANEL)
    return C, expected


@pytest.mark.parametrize("dtype", DTYPES)
@each("width", [16, 32, 48, 64])
@each("rows", [*range(1, 14), 96])
def test_tile_equals_the_matrix_product(rows, width, dtype):
    """C += A @ B and C += A.T @ B, for every rest of rows, one and several pieces of K; nothing else is written."""
    shapes = [(1, 1, False), (7, 1, False), (64, 3, False), (5, 4, False), (1, 1, True), (33, 1, True)]
    for K, outers, transposed in shapes:
        C, expected = product(dtype, rows, width, K, outers, transposed)
        np.testing.assert_allclose(C, expected, rtol=0, atol=np.finfo(dtype).eps * 16 * K * outers)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tile_gives_a_row_the_same_bits_in_any_company(dtype):
    """A row's product does not depend on the rows beside it: so neither does a result on the number of threads."""
    r = np.random.default_rng(13)
    a, b = r.normal(size=(13, 37)).astype(dtype), r.normal(size=37 * PANEL).astype(dtype)
    together, alone = np.zeros((2, 13, PANEL), dtype)
    multiply(Block(together.reshape(-1), 0, PANEL), 13, PANEL, Factor(a.reshape(-1), 0, 37, 0, 1, 37), b, 0)
    for row in range(13):
        own = Factor(a.reshape(-1), row * 37, 37, 0, 1, 37)
        multiply(Block(alone.reshape(-1), row * PANEL, PANEL), 1, PANEL, own, b, 0)
    assert np.array_equal(together, alone)
