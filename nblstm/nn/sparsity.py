"""Sparsity: the weights of recurrent layers in blocks that are zero or not, so that kernels can skip those that are.

A block is 16 units of a gate by one input: rows g H + 16 p ... of a `weight_ih` or `weight_hh` (G H, K), one column. A
gate's last block has the units that are left. Those are the vectors that the kernels compute with.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nblstm.config import NetworkConfig
from nblstm.kernels.packed import indices
from nblstm.nn.parameters import views

BLOCK_UNITS = 16  # units


def block_starts(rows: int, units: int) -> np.ndarray:
    """Return the first row of every block of a matrix of so many rows, gate after gate of so many units."""
    return (np.arange(0, rows, units)[:, None] + np.arange(0, units, BLOCK_UNITS)).reshape(-1)


def magnitudes(matrix: np.ndarray, units: int) -> np.ndarray:
    """Return the mean |w| of every block (blocks, K) of a matrix (G H, K); 0 of a block of zeros alone."""
    starts = block_starts(len(matrix), units)
    sizes = np.diff(np.append(starts, len(matrix)))
    return np.add.reduceat(np.abs(matrix), starts, axis=0) / sizes[:, None].astype(matrix.dtype)


def rows_of_blocks(blocks: np.ndarray, rows: int, units: int) -> np.ndarray:
    """Return what is said of blocks (blocks, K) of every number of their matrix (rows, K)."""
    return np.repeat(blocks, indices(np.diff(np.append(block_starts(rows, units), rows))), axis=0)


def smallest(found: np.ndarray, count: int) -> np.ndarray:
    """Return which of the blocks are the so many with the smallest magnitudes, a bool of each."""
    zero = np.zeros(found.size, bool)
    zero[np.argpartition(found, count - 1, axis=None)[:count] if count else []] = True
    return zero.reshape(found.shape)


def prunable(config: NetworkConfig) -> list[str]:
    """Return the names of the matrices that consist of blocks: those that recurrent layers multiply with."""
    return [name for name in config.shapes if name.startswith(("rnn.weight_ih", "rnn.weight_hh"))]


def count_blocks(config: NetworkConfig, parameters: np.ndarray) -> tuple[int, int]:
    """Return (blocks that are zero, all blocks) of a network's parameters."""
    named: Mapping[str, np.ndarray] = views(parameters, config)
    found = [magnitudes(named[name], config.hidden_size) for name in prunable(config)]  # type: ignore[attr-defined]
    return sum(int((blocks == 0).sum()) for blocks in found), sum(blocks.size for blocks in found)
