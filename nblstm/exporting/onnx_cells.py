"""Recurrent layers as ONNX has them: its own operators LSTM, GRU and RNN, or the equations of a cell in a Scan.

ONNX's operators know no update gate, no minGRU, no layer normalisation and do not show c of every step, so networks with
these are scanned, every layer of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nblstm.exporting.onnx_graph import FLOAT, Graph

BLOCKS = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn": [0]}  # ONNX's i o f c, z r h, h among ours
PEEPHOLES = [0, 2, 1]  # ONNX's i o f among ours

Weights = Mapping[str, np.ndarray]


class Passed(NamedTuple):
    """Names of what a cell has read its inputs to."""

    y: str  # (steps, batch, P)
    cs: str  # (steps, batch, H): c of every step, of a scanned cell with a memory
    h: str  # (1, batch, R), the state after
    c: str  # (1, batch, H)


def is_scanned(config: Any) -> bool:
    """Tell whether a network's cells are scanned, not ONNX's own."""
    return config.cell not in BLOCKS or config.layer_norm or config.head == "cell"


def add_cell(graph: Graph, x: str, h: str, c: str, weights: Weights, config: Any) -> Passed:
    """Add a cell that reads x (steps, batch, D) from a state h (1, batch, R), c (1, batch, H)."""
    return (_scanned if is_scanned(config) else _own)(graph, x, h, c, weights, config)


def _own(graph: Graph, x: str, h: str, c: str, weights: Weights, config: Any) -> Passed:
    """ONNX's own operator. It has no projection: its h is what is projected, and U is W_hh W_hr."""
    H, kind = config.hidden_size, config.cell
    blocks = lambda array: array.reshape(-1, H, *array.shape[1:])[BLOCKS[kind]].reshape(array.shape)
    recurrent = weights["weight_hh"] @ weights["weight_hr"] if config.proj_size else weights["weight_hh"]
    bias = np.concatenate([blocks(weights["bias_ih"]), blocks(weights["bias_hh"])])
    arrays = blocks(weights["weight_ih"]), blocks(recurrent), bias
    inputs = [x, *(graph.constant(array[None]) for array in arrays), "", h]
    settings: dict[str, Any] = {"hidden_size": H}
    if kind == "lstm":
        inputs.append(c)
    if config.peepholes:
        inputs.append(graph.constant(weights["peepholes"][PEEPHOLES].reshape(1, 3 * H)))
    if kind == "gru":
        settings["linear_before_reset"] = 1
    if kind == "rnn":
        settings["activations"] = ["Tanh" if config.nonlinearity == "tanh" else "Relu"]
    after = graph.node(kind.upper(), *inputs, outputs=3 if kind == "lstm" else 2, **settings)
    y = graph.node("Squeeze", after[0], graph.constant([1]))  # (steps, 1, batch, H)
    if config.proj_size:
        y = graph.node("MatMul", y, graph.constant(weights["weight_hr"].T))
    return Passed(y, "", after[1], after[2] if kind == "lstm" else "")


def _scanned(graph: Graph, x: str, h: str, c: str, weights: Weights, config: Any) -> Passed:
    """A Scan over the steps, whose body is the cell."""
    cell, axis = config.cells[0], graph.constant([0])
    body = Graph(graph.name("cell") + ": ")
    mixes = cell.definition.mix is not None
    width = weights["weight_ih"].shape[1 if mixes else 0]
    before = [body.given(f"{body.prefix}h", FLOAT, ["batch", cell.output_size])]
    if cell.has_memory:
        before.append(body.given(f"{body.prefix}c", FLOAT, ["batch", cell.hidden_size]))
    seen = body.given(f"{body.prefix}input", FLOAT, ["batch", width])
    after = _step(body, seen, before[0], before[-1], weights, config)
    for name in [*after[: len(before)], *(body.node("Identity", part) for part in after[: len(before)])]:
        body.made(name, ["batch", cell.output_size if name == after[0] else "units"])
    first = [graph.node("Squeeze", part, axis) for part in (h, c)[: len(before)]]
    inputs = x if mixes else _preactivation(graph, x, weights, "ih")
    made = graph.node("Scan", *first, inputs, outputs=2 * len(before), body=body, num_scan_inputs=1)
    last = [graph.node("Unsqueeze", name, axis) for name in made[: len(before)]]
    if cell.has_memory:
        return Passed(made[2], made[3], last[0], last[1])
    return Passed(made[1], "", last[0], "")


def _preactivation(graph: Graph, x: str, weights: Weights, side: str) -> str:
    """W x + b, or with gains gain norm(W x) + b; "" where the cell has no such weights. side: "ih" or "hh"."""
    if f"weight_{side}" not in weights:
        return ""
    z, bias = graph.node("MatMul", x, graph.constant(weights[f"weight_{side}"].T)), weights[f"bias_{side}"]
    if f"gain_{side}" in weights:
        return _normalized(graph, z, weights[f"gain_{side}"], bias)
    return graph.node("Add", z, graph.constant(bias))


def _normalized(graph: Graph, x: str, gain: np.ndarray, bias: np.ndarray) -> str:
    """gain norm(x) + bias; the operator's own epsilon is 1e-5, too."""
    return graph.node("LayerNormalization", x, graph.constant(gain), graph.constant(bias))


def _step(graph: Graph, seen: str, h: str, c: str, weights: Weights, config: Any) -> tuple[str, str]:
    """(h, c) after a step. seen: W x + b, or of a mogrifier-lstm x."""
    if config.cell == "mogrifier-lstm":
        seen, mixed = _mixed(graph, seen, h, weights, config.mogrifier_rounds)
        a, b = _preactivation(graph, seen, weights, "ih"), _preactivation(graph, mixed, weights, "hh")
    else:
        a, b = seen, _preactivation(graph, h, weights, "hh")
    y, c = CELLS_OF_ONNX[config.cell](graph, a, b, h, c, weights, config)
    return (graph.node("MatMul", y, graph.constant(weights["weight_hr"].T)) if config.proj_size else y), c


def _gates(graph: Graph, z: str, count: int, H: int) -> list[str]:
    """The gates of pre-activations (batch, count H)."""
    return graph.node("Split", z, graph.constant([H] * count), outputs=count, axis=-1)


def _lstm(graph: Graph, a: str, b: str, h: str, c: str, weights: Weights, config: Any) -> tuple[str, str]:
    """i, f, o = sigmoid, g = tanh; c = f c + i g, mixed with the one before by an update gate; h = o tanh(c)"""
    op, count = graph.node, config.cells[0].gates
    i, f, g, o, *u = _gates(graph, op("Add", a, b), count, config.hidden_size)
    if config.peepholes:
        p_i, p_f, p_o = (graph.constant(p) for p in weights["peepholes"])
        i, f = op("Add", i, op("Mul", p_i, c)), op("Add", f, op("Mul", p_f, c))
    new = op("Add", op("Mul", op("Sigmoid", f), c), op("Mul", op("Sigmoid", i), op("Tanh", g)))
    c = _between(graph, c, new, u[0]) if u else new
    if config.peepholes:
        o = op("Add", o, op("Mul", p_o, c))
    seen = _normalized(graph, c, weights["gain_c"], weights["bias_c"]) if config.layer_norm else c
    return op("Mul", op("Sigmoid", o), op("Tanh", seen)), c


def _gru(graph: Graph, a: str, b: str, h: str, c: str, weights: Weights, config: Any) -> tuple[str, str]:
    """r, u = sigmoid(a + b); n = tanh(a + r b); h = (1 - u) n + u h"""
    op, H = graph.node, config.hidden_size
    (ar, au, an), (br, bu, bn) = _gates(graph, a, 3, H), _gates(graph, b, 3, H)
    n = op("Tanh", op("Add", an, op("Mul", op("Sigmoid", op("Add", ar, br)), bn)))
    return _between(graph, n, h, op("Add", au, bu)), c


def _min_gru(graph: Graph, a: str, b: str, h: str, c: str, weights: Weights, config: Any) -> tuple[str, str]:
    """u = sigmoid(z); h = (1 - u) h + u n"""
    z, n = _gates(graph, a, 2, config.hidden_size)
    return _between(graph, h, n, z), c


def _rnn(graph: Graph, a: str, b: str, h: str, c: str, weights: Weights, config: Any) -> tuple[str, str]:
    """h = tanh(z), or max(0, z)"""
    return graph.node("Tanh" if config.nonlinearity == "tanh" else "Relu", graph.node("Add", a, b)), c


def _between(graph: Graph, x: str, y: str, gate: str) -> str:
    """x + sigmoid(gate) (y - x)"""
    return graph.node("Add", x, graph.node("Mul", graph.node("Sigmoid", gate), graph.node("Sub", y, x)))


def _mixed(graph: Graph, x: str, h: str, weights: Weights, rounds: int) -> tuple[str, str]:
    """x = 2 sigmoid(Q h) x and h = 2 sigmoid(R x) h, in turn"""
    two = graph.constant(np.float32(2))
    gated = lambda gate, seen: graph.node("Mul", graph.node("Mul", two, graph.node("Sigmoid", gate)), seen)
    for k in range(1, rounds + 1):
        matrix = graph.constant(weights[f"weight_{'q' if k % 2 else 'r'}{k}"].T)
        if k % 2:
            x = gated(graph.node("MatMul", h, matrix), x)
        else:
            h = gated(graph.node("MatMul", x, matrix), h)
    return x, h


CELLS_OF_ONNX = {
    "lstm": _lstm,
    "update-lstm": _lstm,
    "mogrifier-lstm": _lstm,
    "gru": _gru,
    "mingru": _min_gru,
    "rnn": _rnn,
}
