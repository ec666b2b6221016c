"""The LSTM with an update gate u, which mixes the updated memory with the one before.

    i, f, o, u = sigmoid(W x + U h + b),  g = tanh(W x + U h + b)
    cu = f c_{t-1} + i g,  c_t = u cu + (1 - u) c_{t-1},  h_t = o tanh(c_t)

The article's equations 1-7. Its equation 6 prints the candidate of step t + 1 in the place of c_{t-1}, which is
not known at step t; its text mixes "with the previous cell", and so does this. With u = 1 it is the LSTM.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cells.functions import sigmoid, squashed, squashed_backward
from nblstm.kernels.cells.kind import Cell, CellKind, CpuFunctions, CudaFunctions, Panel
from nblstm.kernels.cells.lstm import OUTPUT_SCALE

GATES = ("i", "f", "g", "o", "u")


def forward(a, b, h, c, weights, cell):
    """Compute the equations above."""
    i, f, g, o, u = (a + b).transpose(1, 0, 2)
    i, f, g, o, u = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o), sigmoid(u)
    cu = f * c + i * g
    c = u * cu + (1 - u) * c
    tanh_c, norm = squashed(c, weights, cell)
    return o * tanh_c, c, (i, f, g, o, u, cu, tanh_c, norm)


def backward(dh, dc, saved, h_prev, c_prev, weights, grads, cell):
    """Differentiate `forward`."""
    i, f, g, o, u, cu, tanh_c, norm = saved
    do = dh * tanh_c * o * (1 - o)  # h = o tanh(c)
    dc = dc + squashed_backward(dh * o, tanh_c, norm, weights, grads, cell)  # h = o tanh(c)
    du, dcu = dc * (cu - c_prev) * u * (1 - u), dc * u  # c = u cu + (1 - u) c_prev
    di, df, dg = dcu * g * i * (1 - i), dcu * c_prev * f * (1 - f), dcu * i * (1 - g * g)  # cu = f c_prev + i g
    dz = np.stack([di, df, dg, do, du], axis=1)
    return dz, dz, 0, dcu * f + dc * (1 - u)  # cu = f c_prev + i g, c = u cu + (1 - u) c_prev


def cpu(cell: Cell) -> CpuFunctions:
    """Make the vector functions."""
    from nblstm.kernels.cpu.functions import sigmoid, tanh
    from nblstm.kernels.cpu.jit import inlined
    from nblstm.kernels.cpu.vectors import LANES, load, store

    @inlined
    def update_lstm(gates, z, before):
        """cu = f c_prev + i g, u = sigmoid(z); c = u cu + (1 - u) c_prev; the others as in an LSTM"""
        i, f = sigmoid(load(gates, z)), sigmoid(load(gates, z + LANES))
        g, o = tanh(load(gates, z + 2 * LANES)), sigmoid(load(gates, z + 3 * LANES))
        u = sigmoid(load(gates, z + 4 * LANES))
        store(gates, z, i)
        store(gates, z + LANES, f)
        store(gates, z + 2 * LANES, g)
        store(gates, z + 3 * LANES, o)
        store(gates, z + 4 * LANES, u)
        cu = f * before + i * g
        c = u * cu + (1.0 - u) * before
        return c, o * tanh(c)

    @inlined
    def update_lstm_backward(gates, z, before, memory, dh, dmemory):
        """Differentiate `update_lstm`."""
        i, f = load(gates, z), load(gates, z + LANES)
        g, o = load(gates, z + 2 * LANES), load(gates, z + 3 * LANES)
        u = load(gates, z + 4 * LANES)
        tanh_c = tanh(memory)
        dc = dmemory + dh * o * (1.0 - tanh_c * tanh_c)  # h = o tanh(c)
        dcu = dc * u  # c = u cu + (1 - u) c_prev
        cu = f * before + i * g
        store(gates, z, dcu * g * i * (1.0 - i))  # cu = f c_prev + i g
        store(gates, z + LANES, dcu * before * f * (1.0 - f))  # cu = f c_prev + i g
        store(gates, z + 2 * LANES, dcu * i * (1.0 - g * g))  # cu = f c_prev + i g
        store(gates, z + 3 * LANES, dh * tanh_c * o * (1.0 - o))  # h = o tanh(c)
        store(gates, z + 4 * LANES, dc * (cu - before) * u * (1.0 - u))  # c = u cu + (1 - u) c_prev
        return dcu * f + dc * (1.0 - u)  # cu = f c_prev + i g, c = u cu + (1 - u) c_prev

    return CpuFunctions("update_lstm", update_lstm, update_lstm_backward)


def cuda(cell: Cell) -> CudaFunctions:
    """Make the device functions."""
    from nblstm.kernels.cuda.device import device, sigmoid, tanh

    @device
    def update_lstm(gates, o, inner, place, H, z, r, h, c):
        i, f = sigmoid(gates[o] + z[r, 0]), sigmoid(gates[o + H] + z[r, 1])
        g, s = tanh(gates[o + 2 * H] + z[r, 2]), sigmoid(gates[o + 3 * H] + z[r, 3])
        u = sigmoid(gates[o + 4 * H] + z[r, 4])
        gates[o], gates[o + H], gates[o + 2 * H], gates[o + 3 * H], gates[o + 4 * H] = i, f, g, s, u
        c = u * (f * c + i * g) + (np.float32(1) - u) * c
        return s * tanh(c), c

    @device
    def update_lstm_backward(da, db, gates, o, inner, place, H, dh, dc, states):
        _, c_before, c = states
        one = np.float32(1)
        i, f = np.float32(gates[o]), np.float32(gates[o + H])
        g, s, u = np.float32(gates[o + 2 * H]), np.float32(gates[o + 3 * H]), np.float32(gates[o + 4 * H])
        tanh_c = tanh(c)
        dc += dh * s * (one - tanh_c * tanh_c)  # h = o tanh(c)
        dcu = dc * u  # c = u cu + (1 - u) c_before
        da[o + 4 * H] = dc * (f * c_before + i * g - c_before) * u * (one - u)
        da[o], da[o + H] = dcu * g * i * (one - i), dcu * c_before * f * (one - f)  # cu = f c_before + i g
        da[o + 2 * H], da[o + 3 * H] = dcu * i * (one - g * g), dh * tanh_c * s * (one - s)
        return np.float32(0), dcu * f + dc * (one - u)

    return CudaFunctions("update_lstm", update_lstm, update_lstm_backward)


KIND = CellKind(
    "update-lstm",
    inputs=GATES,
    hidden=GATES,
    forward=forward,
    backward=backward,
    has_memory=True,
    initial_biases=(("f", 1.0),),
    output_scale=OUTPUT_SCALE,
    panel=Panel(16, 5, (0, (0, 1, 2, 3, 4)), (0, (0, 1, 2, 3, 4)), output=3),
    cpu=cpu,
    cuda=cuda,
)
