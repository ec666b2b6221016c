"""The minGRU (Feng et al. 2024, "Were RNNs All We Needed?", section 3.1, in its plain form, not that of appendix B).

    z = sigmoid(W_z x + b_z),  n = W_n x + b_n,  h_t = (1 - z) h_{t-1} + z n

Gate and candidate see x alone: there is no recurrent matrix, and no tanh. n is the paper's h~.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cells.functions import sigmoid
from nblstm.kernels.cells.kind import Cell, CellKind, CpuFunctions, CudaFunctions, Panel


def forward(a, b, h, c, weights, cell):
    """Compute the equations above; b is None."""
    z, n = sigmoid(a[:, 0]), a[:, 1]
    return (1 - z) * h + z * n, c, (z, n)


def backward(dh, dc, saved, h_prev, c_prev, weights, grads, cell):
    """Differentiate `forward`."""
    z, n = saved
    dz = dh * (n - h_prev) * z * (1 - z)  # h = (1 - z) h_prev + z n, z = sigmoid(a)
    return np.stack([dz, dh * z], axis=1), None, dh * (1 - z), dc  # h = (1 - z) h_prev + z n


def cpu(cell: Cell) -> CpuFunctions:
    """Make the vector functions. Panels hold two gates of 32 units."""
    from nblstm.kernels.cpu.functions import sigmoid
    from nblstm.kernels.cpu.jit import inlined
    from nblstm.kernels.cpu.vectors import LANES, load, store

    @inlined
    def min_gru(gates, z, before):
        """u = sigmoid(z); h = (1 - u) h_prev + u n"""
        u, n = sigmoid(load(gates, z)), load(gates, z + 2 * LANES)
        store(gates, z, u)
        h = (1.0 - u) * before + u * n
        return h, h

    @inlined
    def min_gru_backward(gates, z, before, memory, dh, dmemory):
        """Differentiate `min_gru`."""
        u, n = load(gates, z), load(gates, z + 2 * LANES)
        dh = dh + dmemory  # the memory is h
        store(gates, z, dh * (n - before) * u * (1.0 - u))  # h = (1 - u) h_prev + u n
        store(gates, z + 2 * LANES, dh * u)  # h = (1 - u) h_prev + u n
        return dh * (1.0 - u)  # h = (1 - u) h_prev + u n

    return CpuFunctions("min_gru", min_gru, min_gru_backward)


def cuda(cell: Cell) -> CudaFunctions:
    """Make the device functions; z is zero, as there is no U h."""
    from nblstm.kernels.cuda.device import device, sigmoid

    @device
    def min_gru(gates, o, inner, place, H, z, r, h, c):
        update, n = sigmoid(np.float32(gates[o])), np.float32(gates[o + H])
        gates[o] = update
        return (np.float32(1) - update) * h + update * n, c

    @device
    def min_gru_backward(da, db, gates, o, inner, place, H, dh, dc, states):
        h_before, _, _ = states
        one, update, n = np.float32(1), np.float32(gates[o]), np.float32(gates[o + H])
        da[o] = dh * (n - h_before) * update * (one - update)  # h = (1 - u) h_before + u n
        da[o + H] = dh * update  # h = (1 - u) h_before + u n
        return dh * (one - update), dc

    return CudaFunctions("min_gru", min_gru, min_gru_backward)


KIND = CellKind(
    "mingru",
    inputs=("z", "n"),
    hidden=(),
    forward=forward,
    backward=backward,
    panel=Panel(32, 2, (0, (0, 1)), None),
    cpu=cpu,
    cuda=cuda,
)
