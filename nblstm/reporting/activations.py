"""Activations of every gate and cell of a network over a text, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nblstm.kernels.cells.functions import sigmoid
from nblstm.nn.network import Network
from nblstm.nn.state import State

SIGMOID_GATES = ("i", "f", "o")  # those that open and close: 0 is closed, 1 is open
CLOSED_BELOW, OPEN_ABOVE = 0.1, 0.9  # a gate beyond either is saturated (Karpathy, Johnson & Fei-Fei 2015, section 4.2)


@dataclass(frozen=True)
class Gates:
    """One layer over T tokens: the gates i, f, o and the candidate g, (T, H) each."""

    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray


@dataclass(frozen=True)
class Activations:
    """A network over T tokens: outputs h and cells c of each layer (T, H), its gates, and the logits (T, V).

    gates: of each layer, or None where the cells are not those of torch.nn.LSTM. All arrays are of the weights' dtype.
    """

    h: list[np.ndarray]
    c: list[np.ndarray]
    gates: list[Gates] | None
    logits: np.ndarray


def activations(network: Network, tokens: np.ndarray, end_id: int | None = None) -> Activations:
    """Record the activations of a network while it reads tokens (T,), step by step.

    It starts from the network's initial state, and again at every end_id: a document knows nothing of the one before.
    """
    decode, state = network.decoder(), network.initial_state()
    before, after, logits = [], [], []
    for token in tokens.tolist():
        if token == end_id:
            state = network.initial_state()
        before.append(state.copy())
        logits.append(decode([token], state)[0])
        after.append(state.copy())
    h, c = _by_layer(after, "h"), _by_layer(after, "c")
    gates = _gates(network, tokens, _by_layer(before, "h"), _by_layer(before, "c"), h, c)
    return Activations(h, c, gates, np.stack(logits))


def _by_layer(states: list[State], name: str) -> list[np.ndarray]:
    """Take h or c of each layer, (T, H), out of the states (L, 1, H) of T steps."""
    return list(np.concatenate([getattr(state, name) for state in states], axis=1))


def _gates(network: Network, tokens, h_before, c_before, h, c) -> list[Gates] | None:
    """Compute the gates between one state and the next; None if the cells' equations are not torch.nn.LSTM's."""
    x, found = network.weights["embedding.weight"][tokens], []
    for k in range(len(h)):
        layer: list[Any] = [
            network.weights.get(f"rnn.{part}_l{k}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        if any(weight is None for weight in layer) or layer[1].shape != (4 * h[k].shape[1], h[k].shape[1]):
            return None
        weight_ih, weight_hh, bias_ih, bias_hh = layer
        z = x @ weight_ih.T + h_before[k] @ weight_hh.T + (bias_ih + bias_hh)  # W x + U h + b
        i, f, g, o = np.split(z, 4, axis=1)
        gates = Gates(sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o))
        if c[k].shape != h[k].shape or not np.allclose(gates.f * c_before[k] + gates.i * gates.g, c[k], atol=1e-3):
            return None  # c = f c + i g does not hold: another kind of cell, or something between the layers
        found.append(gates)
        x = h[k]
    return found


def saturation(gate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of time (H,), (H,) that each unit's gate (T, H) is below CLOSED_BELOW, above OPEN_ABOVE."""
    return (gate < CLOSED_BELOW).mean(axis=0), (gate > OPEN_ABOVE).mean(axis=0)
