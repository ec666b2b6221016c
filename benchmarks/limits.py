"""What a model's work takes, and what this machine could do at most: the two sides of every "share of the limit"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from nblstm.kernels.cpu.tiles import PANEL, Block, Factor, multiply
from nblstm.kernels.cpu.vectors import LANES, lane_sum, load, store
from nblstm.kernels.threads import parallel_for
from nblstm.tasks.language.config import LanguageConfig

SQUARE = 2048  # rows, columns and depth of the large product
TILE_ROWS, TILE_DEPTH, TILE_ROUNDS = 96, 256, 400  # 96 KiB of A and 64 KiB of B: all in the L2 cache
READ_BYTES = 1 << 28  # read in one call of a bandwidth measurement, however small the array


def training_operations(shape: LanguageConfig, tokens: int, distinct: int) -> float:
    """Floating-point operations of the products in a training step; a multiply-add counts as two.

    `distinct` inputs are projected in the first layer, not all tokens, where nothing gates them before: work that is
    avoided is not counted. The backward pass has two products for each of the forward pass.
    """
    products = tokens * shape.head_size * shape.vocab_size
    for number, cell in enumerate(shape.cells):
        rows, gates = distinct if number < shape.directions else tokens, cell.gates * cell.hidden_size
        rows = tokens if cell.rounds else rows
        products += rows * gates * cell.input_size + tokens * gates * cell.output_size
        products += tokens * cell.hidden_size * (cell.proj_size + len(cell.rounds) * cell.input_size)
    return 3 * 2.0 * products


def decoding_bytes(shape: LanguageConfig) -> int:
    """Bytes of weights that reading one token needs: all but the first layer's input weights, of which one row of
    the table of projected tokens is left, and the embedding, which that table replaces."""
    V, H, L = shape.vocab_size, shape.hidden_size, shape.num_layers
    recurrent, inputs, biases = L * 4 * H * H, (L - 1) * 4 * H * H, L * 4 * H
    return (recurrent + inputs + biases + V * H + V) * np.dtype(shape.dtype).itemsize


# ---------------------------------------------------------------- the best products


def product_contestants(threads: int, with_torch: bool) -> dict[str, tuple[Callable[[], Any], float]]:
    """Name -> (call, operations of a call): float32 products to be timed beside the work, in the same rounds."""
    contestants = {"tile": (_tile_call(threads), 2.0 * TILE_ROWS * TILE_DEPTH * PANEL * TILE_ROUNDS * threads)}
    if with_torch:
        import torch

        a, b, c = (torch.rand(SQUARE, SQUARE) for _ in range(3))
        contestants["torch matmul"] = (lambda: torch.matmul(a, b, out=c), 2.0 * SQUARE**3)
    return contestants


def _tile_call(threads: int) -> Callable[[], None]:
    """Every thread multiplies its own small matrices over and over with the kernels' register tile."""
    A = np.full((threads, TILE_ROWS, TILE_DEPTH), 0.5, np.float32).reshape(-1)
    B = np.full((threads, TILE_DEPTH, PANEL), 0.5, np.float32).reshape(-1)
    C = np.zeros((threads, TILE_ROWS, PANEL), np.float32).reshape(-1)
    return lambda: parallel_for(threads, _tile_products, threads, C, A, B, TILE_ROWS, TILE_DEPTH, TILE_ROUNDS)


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _tile_products(C, A, B, rows, K, rounds, share):
    part = share[0]
    for _ in range(rounds):
        c, a = Block(C, part * rows * PANEL, PANEL), Factor(A, part * rows * K, K, 0, 1, K)
        multiply(c, rows, PANEL, a, B, part * K * PANEL)


# ---------------------------------------------------------------- the best memory traffic


def read_contestant(size: int, threads: int) -> tuple[Callable[[], Any], int]:
    """(call, bytes of a call): sums over an array of `size` bytes, again and again, each thread over its own part.

    An array as large as the weights has the same place in the caches as they have.
    """
    blocks = max(size // (64 * 4), threads)
    array, sums = np.ones(64 * blocks, np.float32), np.zeros(threads, np.float32)
    rounds = max(1, READ_BYTES // array.nbytes)
    return lambda: parallel_for(threads, _read, blocks, sums, array, rounds), array.nbytes * rounds


def copy_contestant(size: int, threads: int) -> tuple[Callable[[], Any], int]:
    """(call, bytes of a call, read and written): one array into another, of `size` bytes each."""
    blocks = max(size // (LANES * 4), threads)
    source, target = np.ones(blocks * LANES, np.float32), np.zeros(blocks * LANES, np.float32)
    return lambda: parallel_for(threads, _copy, blocks, target, source), 2 * source.nbytes


@numba.njit(nogil=True)
def _read(sums, array, rounds, share):
    """sums[part] = the sum of array[start * 64 : stop * 64], `rounds` times over, in vectors"""
    part, start, stop, _, _ = share
    for _ in range(rounds):
        a = b = c = d = load(array, start * 64)
        for i in range(start * 64, stop * 64, 64):
            a = a + load(array, i)
            b = b + load(array, i + LANES)
            c = c + load(array, i + 2 * LANES)
            d = d + load(array, i + 3 * LANES)
        sums[part] += lane_sum(a + b + (c + d))


@numba.njit(nogil=True)
def _copy(target, source, share):
    """target = source for blocks of 16 numbers"""
    part, start, stop, _, _ = share
    for i in range(start * LANES, stop * LANES, LANES):
        store(target, i, load(source, i))
