"""Products: tiles of 64 x 64 in shared memory, of which each of 256 threads holds 4 x 4 in registers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from nblstm.kernels.cuda.device import COLUMNS, DEPTH, PARTS, THREADS, TILE, device, is_aligned
from nblstm.kernels.cuda.tiles import make_tile


def _make_product(a_by_rows: bool, b_by_rows: bool, ending: Any, aligned: bool) -> Any:
    """A kernel for the matrix C (M, N) of sum_k A[m, k] B[n, k].

    a_by_rows: whether A is stored as (M, K), else (K, M); b_by_rows: B as (N, K), else (K, N).
    ending(c, o, sum, bias, n) stores an element of C at o. aligned: whether rows can be read four elements at a time.
    """
    accumulate = make_tile(TILE, TILE, TILE, DEPTH, (a_by_rows, b_by_rows), aligned)

    @cuda.jit
    def product(c, a, b, bias, M, N, K):
        sums = cuda.local.array((4, 4), np.float32)
        for i in range(4):
            for j in range(4):
                sums[i, j] = np.float32(0)
        m0, n0 = cuda.blockIdx.y * TILE, cuda.blockIdx.x * TILE
        left = (a, m0 * K, K, M - m0, 0) if a_by_rows else (a, m0, M, M - m0, 0)
        right = (b, n0 * K, K, N - n0, 0) if b_by_rows else (b, n0, N, N - n0, 0)
        accumulate(sums, K, left, right)
        row, column = m0 + cuda.threadIdx.x // (TILE // 4) * 4, n0 + cuda.threadIdx.x % (TILE // 4) * 4
        for i in range(4):
            for j in range(4):
                m, n = row + i, column + j
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
        aligned = is_aligned(K if self.a_by_rows else M, a) and is_aligned(K if self.b_by_rows else N, b)
        if M and N:
            self.kernels[aligned][(-(-N // TILE), -(-M // TILE)), THREADS](c, a, b, bias, M, N, K)


linear_product = _Product(True, True, _with_bias)  # c = a b^T + bias
input_product = _Product(True, False, _plain)  # c = a b
weight_product = _Product(False, False, _added)  # c += a^T b


@cuda.jit
def column_sums(sums, x, M, N):
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


def add_column_sums(sums: Any, x: Any, M: int, N: int) -> None:
    column_sums[-(-N // COLUMNS), (COLUMNS, PARTS)](sums, x, M, N)
