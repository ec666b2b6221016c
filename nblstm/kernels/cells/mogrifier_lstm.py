"""The Mogrifier LSTM (Melis, Kocisky & Blunsom 2020): an LSTM whose input and output gate each other r times first.

    x = 2 sigmoid(Q_k h) x  for k = 1, 3, ...,  h = 2 sigmoid(R_k x) h  for k = 2, 4, ...,  k <= r    (eq. 1 and 2)

and then `lstm` of that x and h. Q_k (D, H) and R_k (H, D) are full matrices. As W x waits for h, no sequence of inputs
can be projected at once: the CPU kernels have time loops for it alone (`kernels.cpu.mogrifier`). With layer normalisation,
and beside a card, the specification computes it.
"""

from __future__ import annotations

from nblstm.kernels.cells import lstm
from nblstm.kernels.cells.functions import noticed, sigmoid
from nblstm.kernels.cells.kind import Cell, CellKind


def rounds(cell: Cell):
    """Return the names of Q_1, R_2, Q_3, ..."""
    return tuple(f"weight_{'q' if k % 2 else 'r'}{k}" for k in range(1, cell.mogrifier_rounds + 1))


def shapes(cell: Cell):
    """Return the shapes of Q_1, R_2, Q_3, ..."""
    D, H = cell.input_size, cell.output_size
    return {name: (H, D) if k % 2 else (D, H) for k, name in enumerate(rounds(cell))}


def mix(x, h, weights, cell):
    """Let x (n, D) and h (n, H) gate each other."""
    saved = []
    for k in range(1, cell.mogrifier_rounds + 1):
        if k % 2:
            s = sigmoid(noticed(h @ weights[f"weight_q{k}"].T))
            saved.append((x, h, s))
            x = 2 * s * x
        else:
            s = sigmoid(noticed(x @ weights[f"weight_r{k}"].T))
            saved.append((x, h, s))
            h = 2 * s * h
    return x, h, saved


def mix_backward(dx, dh, saved, weights, grads, cell):
    """Differentiate `mix`."""
    for k in range(cell.mogrifier_rounds, 0, -1):
        x, h, s = saved[k - 1]
        if k % 2:
            name, dz = f"weight_q{k}", 2 * dx * x * s * (1 - s)  # x = 2 sigmoid(Q h) x
            grads[name] += dz.T @ h
            dx, dh = 2 * s * dx, dh + dz @ weights[name]
        else:
            name, dz = f"weight_r{k}", 2 * dh * h * s * (1 - s)  # h = 2 sigmoid(R x) h
            grads[name] += dz.T @ x
            dx, dh = dx + dz @ weights[name], 2 * s * dh
    return dx, dh


KIND = CellKind(
    "mogrifier-lstm",
    inputs=lstm.GATES,
    hidden=lstm.GATES,
    forward=lstm.forward,
    backward=lstm.backward,
    has_memory=True,
    options=("mogrifier_rounds",),
    shapes=shapes,
    initial_biases=(("f", 1.0),),
    output_scale=lstm.OUTPUT_SCALE,
    mix=mix,
    mix_backward=mix_backward,
    rounds=rounds,
    panel=lstm.KIND.panel,
    cpu=lstm.cpu,
)
