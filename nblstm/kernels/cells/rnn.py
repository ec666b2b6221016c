"""torch.nn.RNN (Elman 1990): h_t = tanh(W x + U h + b), or max(0, W x + U h + b)."""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cells.kind import Cell, CellKind, CpuFunctions, CudaFunctions, Panel


def forward(a, b, h, c, weights, cell):
    """Compute the equation above."""
    z = (a + b)[:, 0]
    h = np.tanh(z) if cell.nonlinearity == "tanh" else np.maximum(z, 0)
    return h, c, h


def backward(dh, dc, saved, h_prev, c_prev, weights, grads, cell):
    """Differentiate `forward`."""
    dz = (dh * (1 - saved * saved) if cell.nonlinearity == "tanh" else dh * (saved > 0))[:, None]
    return dz, dz, 0, dc


def cpu(cell: Cell) -> CpuFunctions:
    """Make the vector functions."""
    from nblstm.kernels.cpu.functions import tanh
    from nblstm.kernels.cpu.jit import inlined
    from nblstm.kernels.cpu.vectors import larger, like, load, step, store

    @inlined
    def tanh_rnn(gates, z, before):
        """h = tanh(z)"""
        h = tanh(load(gates, z))
        return h, h

    @inlined
    def tanh_rnn_backward(gates, z, before, memory, dh, dmemory):
        """Differentiate `tanh_rnn`."""
        store(gates, z, (dh + dmemory) * (1.0 - memory * memory))
        return like(dh, 0)

    @inlined
    def relu_rnn(gates, z, before):
        """h = max(0, z); NaN where z is not finite"""
        z = load(gates, z)
        h = larger(like(z, 0), z) + z * 0.0
        return h, h

    @inlined
    def relu_rnn_backward(gates, z, before, memory, dh, dmemory):
        """Differentiate `relu_rnn`."""
        store(gates, z, (dh + dmemory) * step(memory))
        return like(dh, 0)

    if cell.nonlinearity == "tanh":
        return CpuFunctions("tanh_rnn", tanh_rnn, tanh_rnn_backward)
    return CpuFunctions("relu_rnn", relu_rnn, relu_rnn_backward)


def cuda(cell: Cell) -> CudaFunctions:
    """Make the device functions."""
    from nblstm.kernels.cuda.device import device, tanh

    @device
    def tanh_rnn(gates, o, inner, place, H, z, r, h, c):
        h = tanh(gates[o] + z[r, 0])
        gates[o] = h
        return h, c

    @device
    def tanh_rnn_backward(da, db, gates, o, inner, place, H, dh, dc, states):
        h = np.float32(gates[o])
        da[o] = dh * (np.float32(1) - h * h)
        return np.float32(0), dc

    @device
    def relu_rnn(gates, o, inner, place, H, z, r, h, c):
        z_o = np.float32(gates[o] + z[r, 0])
        h = max(z_o, np.float32(0)) + z_o * np.float32(0)  # NaN where it is not finite
        gates[o] = h
        return h, c

    @device
    def relu_rnn_backward(da, db, gates, o, inner, place, H, dh, dc, states):
        da[o] = dh if gates[o] > 0 else np.float32(0)
        return np.float32(0), dc

    if cell.nonlinearity == "tanh":
        return CudaFunctions("tanh_rnn", tanh_rnn, tanh_rnn_backward)
    return CudaFunctions("relu_rnn", relu_rnn, relu_rnn_backward)


KIND = CellKind(
    "rnn",
    inputs=("h",),
    hidden=("h",),
    forward=forward,
    backward=backward,
    options=("nonlinearity",),
    panel=Panel(64, 1, (0, (0,)), (0, (0,))),
    cpu=cpu,
    cuda=cuda,
)
