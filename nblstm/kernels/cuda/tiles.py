"""Sums of a tile of a product on a card: C (rows, columns) of sum_k A[m, k] B[n, k], for a block of THREADS threads.

A block walks along k, `depth` numbers at a time: they are read from the card's memory, four at a time, while those
before are multiplied, and pass through shared memory, where k is the slow axis. A thread holds 4 x 4 sums in registers;
where a tile has fewer sixteens than a block has threads, groups of threads share the numbers k of a tile, and what each
holds is a part of the sum. Every sum has a fixed order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from nblstm.kernels.cuda.device import LOADS, THREADS, device, load_four, store_four


def groups_of(rows: int, columns: int) -> int:
    """Between how many threads a sum of a tile is divided."""
    return max(1, THREADS * 16 // (rows * columns))


def _make_operand(size: int, width: int, depth: int, by_rows: bool, aligned: bool) -> tuple[Any, Any, int]:
    """(read, write, fours): a tile's operand, `size` rows of depth numbers each, `fours` fours of each thread.

    by_rows: whether k is the fast axis of the matrix. The rows of the tile are blocks of `width` rows of the matrix,
    `jump` rows apart. read(held, x, base, stride, count, jump, k0, K): numbers k0, ... of them to registers, `count`
    rows of a block being there, else zeros; write(tile, held) stores them as tile[k, row].
    """
    four, padded, total = LOADS[aligned], size + 4, size * depth // 4
    fours = -(-total // THREADS)

    if by_rows:  # two threads read 8 numbers of a row, their neighbours those of the next: no two write to one bank

        @device
        def read(held, x, base, stride, count, jump, k0, K):
            for i in range(fours):
                q = cuda.threadIdx.x + i * THREADS
                row, k = q // 2 % size, (q // (2 * size) * 2 + q % 2) * 4
                there = K - k0 - k if q < total and row % width < count else 0
                place = base + (row + row // width * jump) * stride + k0 + k
                held[i, 0], held[i, 1], held[i, 2], held[i, 3] = four(x, place, there)

        @device
        def write(tile, held):
            for i in range(fours):
                q = cuda.threadIdx.x + i * THREADS
                row, k = q // 2 % size, (q // (2 * size) * 2 + q % 2) * 4
                if q < total:
                    for j in range(4):
                        tile[(k + j) * padded + row] = held[i, j]
    else:

        @device
        def read(held, x, base, stride, count, jump, k0, K):
            for i in range(fours):
                q = cuda.threadIdx.x + i * THREADS
                k, row = q // (size // 4), q % (size // 4) * 4
                there = count - row if q < total and k0 + k < K else 0
                held[i, 0], held[i, 1], held[i, 2], held[i, 3] = four(x, base + (k0 + k) * stride + row, there)

        @device
        def write(tile, held):
            for i in range(fours):
                q = cuda.threadIdx.x + i * THREADS
                k, row = q // (size // 4), q % (size // 4) * 4
                if q < total:
                    store_four(tile, k * padded + row, held[i, 0], held[i, 1], held[i, 2], held[i, 3])

    return read, write, fours


def make_tile(rows: int, columns: int, width: int, depth: int, by_rows: tuple[bool, bool], aligned: bool) -> Any:
    """A device function that adds to the sums (4, 4) of a thread: accumulate(sums, K, A's operand, B's operand).

    by_rows: of A and B; width: of the blocks of B's rows. An operand is a tuple (flat array, base, stride, count,
    jump), see `_make_operand`. Thread t of a group has rows t // (columns / 4) * 4 ... and columns t % (columns / 4) * 4 ...
    """
    read_a, write_a, fours_a = _make_operand(rows, rows, depth, by_rows[0], aligned)
    read_b, write_b, fours_b = _make_operand(columns, width, depth, by_rows[1], aligned)
    size_a, size_b = depth * (rows + 4), depth * (columns + 4)
    threads, groups = rows * columns // 16, groups_of(rows, columns)

    @device
    def accumulate(sums, K, left, right):
        a, base_a, stride_a, count_a, jump_a = left
        b, base_b, stride_b, count_b, jump_b = right
        tile_a = cuda.shared.array(size_a, np.float32, 16)
        tile_b = cuda.shared.array(size_b, np.float32, 16)
        held_a = cuda.local.array((fours_a, 4), np.float32)
        held_b = cuda.local.array((fours_b, 4), np.float32)
        x = cuda.local.array(4, np.float32)
        y = cuda.local.array(4, np.float32)
        group, place = cuda.threadIdx.x // threads, cuda.threadIdx.x % threads
        row, column = place // (columns // 4) * 4, place % (columns // 4) * 4
        read_a(held_a, a, base_a, stride_a, count_a, jump_a, 0, K)
        read_b(held_b, b, base_b, stride_b, count_b, jump_b, 0, K)
        for k0 in range(0, K, depth):
            cuda.syncthreads()
            write_a(tile_a, held_a)
            write_b(tile_b, held_b)
            cuda.syncthreads()
            if k0 + depth < K:
                read_a(held_a, a, base_a, stride_a, count_a, jump_a, k0 + depth, K)
                read_b(held_b, b, base_b, stride_b, count_b, jump_b, k0 + depth, K)
            if group < groups:
                for step in range(depth // groups):
                    k = step * groups + group
                    x[0], x[1], x[2], x[3] = load_four(tile_a, k * (rows + 4) + row)
                    y[0], y[1], y[2], y[3] = load_four(tile_b, k * (columns + 4) + column)
                    for i in range(4):
                        for j in range(4):
                            sums[i, j] += x[i] * y[j]

    return accumulate
