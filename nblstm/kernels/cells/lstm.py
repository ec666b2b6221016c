"""torch.nn.LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, o = sigmoid(W x + U h + b),  g = tanh(W x + U h + b),  c_t = f c_{t-1} + i g,  h_t = o tanh(c_t)

With peepholes (Gers & Schmidhuber 2002) p_i c_{t-1} and p_f c_{t-1} are added into i and f, p_o c_t into o.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cells.functions import sigmoid, squashed, squashed_backward
from nblstm.kernels.cells.kind import Cell, CellKind, CpuFunctions, CudaFunctions, Panel

GATES = ("i", "f", "g", "o")
OUTPUT_SCALE = 3.0  # o tanh(c) is about a third of what PyTorch's rule for the weights that read it expects


def forward(a, b, h, c, weights, cell):
    """Compute the equations above. a, b: (n, 4, H) of i, f, g, o; h, c: (n, H). See `CellKind`."""
    z = a + b
    if cell.peepholes:
        z[:, :2] += weights["peepholes"][:2] * c[:, None]
    i, f, g = sigmoid(z[:, 0]), sigmoid(z[:, 1]), np.tanh(z[:, 2])
    c = f * c + i * g
    o = sigmoid(z[:, 3] + weights["peepholes"][2] * c) if cell.peepholes else sigmoid(z[:, 3])
    tanh_c, norm = squashed(c, weights, cell)
    return o * tanh_c, c, (i, f, g, o, c, tanh_c, norm)


def backward(dh, dc, saved, h_prev, c_prev, weights, grads, cell):
    """Differentiate `forward`: the gradients of a and b (n, 4, H), of h_prev beside b (none), of c_prev (n, H)."""
    i, f, g, o, c, tanh_c, norm = saved
    do = dh * tanh_c * o * (1 - o)  # h = o tanh(c), o = sigmoid(z)
    dc = dc + squashed_backward(dh * o, tanh_c, norm, weights, grads, cell)  # h = o tanh(c)
    if cell.peepholes:
        dc = dc + do * weights["peepholes"][2]  # z_o = ... + p_o c
    di, df, dg = dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dc * i * (1 - g * g)  # c = f c_prev + i g
    dc_prev = dc * f  # c = f c_prev + i g
    if cell.peepholes:
        dc_prev = dc_prev + di * weights["peepholes"][0] + df * weights["peepholes"][1]  # z = ... + p c_prev
        grads["peepholes"] += np.stack([(di * c_prev).sum(0), (df * c_prev).sum(0), (do * c).sum(0)])
    dz = np.stack([di, df, dg, do], axis=1)
    return dz, dz, 0, dc_prev


def shapes(cell: Cell):
    """Return the shape of the peepholes into i, f and o, where there are any."""
    return {"peepholes": (3, cell.hidden_size)} if cell.peepholes else {}


def cpu(cell: Cell) -> CpuFunctions:
    """Make the vector functions."""
    from nblstm.kernels.cpu.functions import sigmoid, tanh
    from nblstm.kernels.cpu.jit import inlined
    from nblstm.kernels.cpu.vectors import LANES, load, store

    @inlined
    def lstm(gates, z, before):
        """i, f, o = sigmoid(z), g = tanh(z); c = f c_prev + i g; h = o tanh(c)"""
        i, f = sigmoid(load(gates, z)), sigmoid(load(gates, z + LANES))
        g, o = tanh(load(gates, z + 2 * LANES)), sigmoid(load(gates, z + 3 * LANES))
        store(gates, z, i)
        store(gates, z + LANES, f)
        store(gates, z + 2 * LANES, g)
        store(gates, z + 3 * LANES, o)
        c = f * before + i * g
        return c, o * tanh(c)

    @inlined
    def lstm_backward(gates, z, before, memory, dh, dmemory):
        """Differentiate `lstm`."""
        i, f = load(gates, z), load(gates, z + LANES)
        g, o = load(gates, z + 2 * LANES), load(gates, z + 3 * LANES)
        tanh_c = tanh(memory)
        dc = dmemory + dh * o * (1.0 - tanh_c * tanh_c)  # h = o tanh(c)
        store(gates, z, dc * g * i * (1.0 - i))  # c = f c_prev + i g, i = sigmoid(z)
        store(gates, z + LANES, dc * before * f * (1.0 - f))  # c = f c_prev + i g
        store(gates, z + 2 * LANES, dc * i * (1.0 - g * g))  # c = f c_prev + i g, g = tanh(z)
        store(gates, z + 3 * LANES, dh * tanh_c * o * (1.0 - o))  # h = o tanh(c)
        return dc * f  # c = f c_prev + i g

    return CpuFunctions("lstm", lstm, lstm_backward)


def cuda(cell: Cell) -> CudaFunctions:
    """Make the device functions."""
    from nblstm.kernels.cuda.device import device, sigmoid, tanh

    @device
    def lstm(gates, o, inner, place, H, z, r, h, c):
        i, f = sigmoid(gates[o] + z[r, 0]), sigmoid(gates[o + H] + z[r, 1])
        g, s = tanh(gates[o + 2 * H] + z[r, 2]), sigmoid(gates[o + 3 * H] + z[r, 3])
        gates[o], gates[o + H], gates[o + 2 * H], gates[o + 3 * H] = i, f, g, s
        c = f * c + i * g
        return s * tanh(c), c

    @device
    def lstm_backward(da, db, gates, o, inner, place, H, dh, dc, states):
        _, c_before, c = states
        one = np.float32(1)
        i, f = np.float32(gates[o]), np.float32(gates[o + H])
        g, s = np.float32(gates[o + 2 * H]), np.float32(gates[o + 3 * H])
        tanh_c = tanh(c)
        dc += dh * s * (one - tanh_c * tanh_c)  # h = o tanh(c)
        da[o], da[o + H] = dc * g * i * (one - i), dc * c_before * f * (one - f)  # c = f c_before + i g
        da[o + 2 * H], da[o + 3 * H] = dc * i * (one - g * g), dh * tanh_c * s * (one - s)
        return np.float32(0), dc * f

    return CudaFunctions("lstm", lstm, lstm_backward)


KIND = CellKind(
    "lstm",
    inputs=GATES,
    hidden=GATES,
    forward=forward,
    backward=backward,
    has_memory=True,
    options=("peepholes", "proj_size"),
    shapes=shapes,
    initial_biases=(("f", 1.0),),  # Jozefowicz, Zaremba & Sutskever 2015, section 2.2
    output_scale=OUTPUT_SCALE,
    panel=Panel(16, 4, (0, (0, 1, 2, 3)), (0, (0, 1, 2, 3)), output=3),
    cpu=cpu,
    cuda=cuda,
)
