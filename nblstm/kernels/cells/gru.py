"""torch.nn.GRU (Cho et al. 2014), the hidden bias inside the product with the reset gate.

    r, z = sigmoid(W x + U h + b),  n = tanh(W x + b + r (U h + b)),  h_t = (1 - z) n + z h_{t-1}

The candidate needs W x and U h apart: its panel has the blocks n, r, z and U h of n, of which the input's product fills
the first three and the recurrent product the last three.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cells.functions import sigmoid
from nblstm.kernels.cells.kind import Cell, CellKind, CpuFunctions, CudaFunctions, Panel

GATES = ("r", "z", "n")


def forward(a, b, h, c, weights, cell):
    """Compute the equations above."""
    r, z = sigmoid(a[:, 0] + b[:, 0]), sigmoid(a[:, 1] + b[:, 1])
    n = np.tanh(a[:, 2] + r * b[:, 2])
    return (1 - z) * n + z * h, c, (r, z, n, b[:, 2])


def backward(dh, dc, saved, h_prev, c_prev, weights, grads, cell):
    """Differentiate `forward`."""
    r, z, n, b_n = saved
    dn = dh * (1 - z) * (1 - n * n)  # h = (1 - z) n + z h_prev, n = tanh(a_n + r b_n)
    dr, dz = dn * b_n * r * (1 - r), dh * (h_prev - n) * z * (1 - z)  # a_n + r b_n; (1 - z) n + z h_prev
    return np.stack([dr, dz, dn], axis=1), np.stack([dr, dz, dn * r], axis=1), dh * z, dc


def cpu(cell: Cell) -> CpuFunctions:
    """Make the vector functions."""
    from nblstm.kernels.cpu.functions import sigmoid, tanh
    from nblstm.kernels.cpu.jit import inlined
    from nblstm.kernels.cpu.vectors import LANES, load, store

    @inlined
    def gru(gates, z, before):
        """r, u = sigmoid(z); n = tanh(W x + r (U h)); h = (1 - u) n + u h_prev. Columns: W x of n, r, u, U h of n."""
        r, u = sigmoid(load(gates, z + LANES)), sigmoid(load(gates, z + 2 * LANES))
        n = tanh(load(gates, z) + r * load(gates, z + 3 * LANES))
        store(gates, z, n)
        store(gates, z + LANES, r)
        store(gates, z + 2 * LANES, u)
        h = (1.0 - u) * n + u * before
        return h, h

    @inlined
    def gru_backward(gates, z, before, memory, dh, dmemory):
        """Differentiate `gru`."""
        n, r = load(gates, z), load(gates, z + LANES)
        u, b_n = load(gates, z + 2 * LANES), load(gates, z + 3 * LANES)
        dh = dh + dmemory  # the memory is h
        dn = dh * (1.0 - u) * (1.0 - n * n)  # h = (1 - u) n + u h_prev, n = tanh(a_n + r b_n)
        store(gates, z, dn)  # a_n + r b_n
        store(gates, z + LANES, dn * b_n * r * (1.0 - r))  # a_n + r b_n
        store(gates, z + 2 * LANES, dh * (before - n) * u * (1.0 - u))  # h = (1 - u) n + u h_prev
        store(gates, z + 3 * LANES, dn * r)  # a_n + r b_n
        return dh * u  # h = (1 - u) n + u h_prev

    return CpuFunctions("gru", gru, gru_backward)


def cuda(cell: Cell) -> CudaFunctions:
    """Make the device functions."""
    from nblstm.kernels.cuda.device import device, sigmoid, tanh

    @device
    def gru(gates, o, inner, place, H, z, r, h, c):
        reset, update = sigmoid(gates[o] + z[r, 0]), sigmoid(gates[o + H] + z[r, 1])
        n = tanh(gates[o + 2 * H] + reset * z[r, 2])
        gates[o], gates[o + H], gates[o + 2 * H], inner[place] = reset, update, n, z[r, 2]
        return (np.float32(1) - update) * n + update * h, c

    @device
    def gru_backward(da, db, gates, o, inner, place, H, dh, dc, states):
        h_before, _, _ = states
        one = np.float32(1)
        reset, update, n = np.float32(gates[o]), np.float32(gates[o + H]), np.float32(gates[o + 2 * H])
        dn = dh * (one - update) * (one - n * n)  # h = (1 - z) n + z h_before, n = tanh(a_n + r b_n)
        da[o] = dn * np.float32(inner[place]) * reset * (one - reset)  # a_n + r b_n
        da[o + H] = dh * (h_before - n) * update * (one - update)  # h = (1 - z) n + z h_before
        da[o + 2 * H] = dn
        db[o], db[o + H], db[o + 2 * H] = da[o], da[o + H], dn * reset
        return dh * update, dc

    return CudaFunctions("gru", gru, gru_backward, apart=True)


KIND = CellKind(
    "gru",
    inputs=GATES,
    hidden=GATES,
    forward=forward,
    backward=backward,
    panel=Panel(16, 4, (0, (2, 0, 1)), (1, (0, 1, 2))),
    cpu=cpu,
    cuda=cuda,
)
