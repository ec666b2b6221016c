"""What every gate and cell of a network does over a text, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nblstm.kernels.reference import sigmoid
from nblstm.model.network import Network

GATES = ("i", "f", "o")  # those that open and close: 0 is closed, 1 is open
CLOSED, OPEN = 0.1, 0.9  # a gate beyond either is saturated (Karpathy, Johnson & Fei-Fei 2015, section 4.2)


@dataclass(frozen=True)
class Activations:
    """One layer over T tokens: gates i, f, o and candidate g, cells c and outputs h, (T, H) each."""

    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray
    h: np.ndarray


def activations(network: Network, tokens: np.ndarray, end_id: int | None = None) -> list[Activations]:
    """What each layer does while the network reads tokens (T,), arrays of the weights' dtype.

    It starts from the zero state, and again at every end_id: a document knows nothing of the one before.
    """
    x, fresh, found = network.weights["embedding.weight"][tokens], np.equal(tokens, -1 if end_id is None else end_id), []
    for k in range(network.config.num_layers):
        layer = [network.weights[f"rnn.{part}_l{k}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        found.append(_layer(x, fresh, *layer))
        x = found[-1].h
    return found


def _layer(x, fresh, weight_ih, weight_hh, bias_ih, bias_hh) -> Activations:
    """One layer over x (T, D), as torch.nn.LSTM defines it; fresh (T,): steps that start from the zero state."""
    T, H = len(x), weight_hh.shape[1]
    found = Activations(*(np.empty((T, H), x.dtype) for _ in range(6)))
    projected = x @ weight_ih.T + (bias_ih + bias_hh)
    h = c = zero = np.zeros(H, x.dtype)
    for t in range(T):
        h, c = (zero, zero) if fresh[t] else (h, c)
        i, f, g, o = np.split(projected[t] + weight_hh @ h, 4)  # W x + b + U h
        i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
        c = f * c + i * g
        h = o * np.tanh(c)
        for row, value in zip((found.i, found.f, found.g, found.o, found.c, found.h), (i, f, g, o, c, h)):
            row[t] = value
    return found


def saturation(gate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shares of the time (H,), (H,) that each unit's gate (T, H) is below CLOSED and above OPEN."""
    return (gate < CLOSED).mean(axis=0), (gate > OPEN).mean(axis=0)
