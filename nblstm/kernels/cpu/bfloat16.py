"""The CPU kernels whose products have factors rounded to bfloat16: the same functions, with works that say so.

Weights, states, sums, gradients and elementwise math stay float32; `reference.bfloat16` is the specification. Where the
machine multiplies bfloat16 numbers in pairs (`tiles.PAIRWISE`) a product takes about half the time of float32's.
"""

from __future__ import annotations

from nblstm.kernels.cpu import *  # noqa: F403
from nblstm.kernels.cpu import __all__ as __all__
from nblstm.kernels.cpu.factors import PAIRS
from nblstm.kernels.cpu.head import linear_work_of, softmax_gradient_work_of, softmax_work_of
from nblstm.kernels.cpu.recurrent import work_of


def recurrent_work(cells, M, N, rows, dtype, threads):
    """See reference.recurrent_work."""
    return work_of(PAIRS, cells, M, N, rows, dtype, threads)


def linear_work(M, D, V, dtype, threads):
    """See reference.linear_work."""
    return linear_work_of(PAIRS, M, D, V, dtype, threads)


def softmax_work(M, D, V, dtype, threads):
    """See reference.softmax_work."""
    return softmax_work_of(PAIRS, M, D, V, dtype, threads)


def softmax_gradient_work(M, D, V, dtype, threads):
    """See reference.softmax_gradient_work."""
    return softmax_gradient_work_of(PAIRS, M, D, V, dtype, threads)
