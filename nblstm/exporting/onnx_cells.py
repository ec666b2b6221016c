"""Recurrent layers as ONNX has them: its own operators LSTM, GRU and RNN, or the equations of a cell in a Scan.

ONNX's operators know no update gate, no minGRU, no layer normalisation and do not show c of every step, so networks with
these are scanned, every layer of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nblstm.exporting.cells import EXPORTED_CELLS, Weights
from nblstm.exporting.onnx_graph import FLOAT, Graph

PEEPHOLES = [0, 2, 1]  # ONNX's i o f among ours


class Passed(NamedTuple):
    """Names of what a cell has read its inputs to."""

    y: str  # (steps, batch, P)
    cs: str  # (steps, batch, H): c of every step, of a scanned cell with a memory
    h: str  # (1, batch, R), the state after
    c: str  # (1, batch, H)


def is_scanned(config: Any) -> bool:
    """Tell whether a network's cells are scanned, not ONNX's own."""
    return EXPORTED_CELLS[config.cell].operator is None or config.layer_norm or config.head == "cell"


def add_cell(graph: Graph, x: str, h: str, c: str, weights: Weights, config: Any) -> Passed:
    """Add a cell that reads x (steps, batch, D) from a state h (1, batch, R), c (1, batch, H)."""
    return (_scanned if is_scanned(config) else _own)(graph, x, h, c, weights, config)


def _own(graph: Graph, x: str, h: str, c: str, weights: Weights, config: Any) -> Passed:
    """ONNX's own operator. It has no projection: its h is what is projected, and U is W_hh W_hr."""
    H, operator, has_memory = config.hidden_size, EXPORTED_CELLS[config.cell].operator, config.cells[0].has_memory
    blocks = lambda array: array.reshape(-1, H, *array.shape[1:])[operator.blocks].reshape(array.shape)
    recurrent = weights["weight_hh"] @ weights["weight_hr"] if config.proj_size else weights["weight_hh"]
    bias = np.concatenate([blocks(weights["bias_ih"]), blocks(weights["bias_hh"])])
    arrays = blocks(weights["weight_ih"]), blocks(recurrent), bias
    inputs = [x, *(graph.constant(array[None]) for array in arrays), "", h]
    if has_memory:
        inputs.append(c)
    if config.peepholes:
        inputs.append(graph.constant(weights["peepholes"][PEEPHOLES].reshape(1, 3 * H)))
    settings = {"hidden_size": H, **operator.settings(config)}
    after = graph.node(config.cell.upper(), *inputs, outputs=2 + has_memory, **settings)
    y = graph.node("Squeeze", after[0], graph.constant([1]))  # (steps, 1, batch, H)
    if config.proj_size:
        y = graph.node("MatMul", y, graph.constant(weights["weight_hr"].T))
    return Passed(y, "", after[1], after[2] if has_memory else "")


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
        return graph.normalized(z, weights[f"gain_{side}"], bias)
    return graph.node("Add", z, graph.constant(bias))


def _step(graph: Graph, seen: str, h: str, c: str, weights: Weights, config: Any) -> tuple[str, str]:
    """(h, c) after a step. seen: W x + b, or x where it and h change each other."""
    cell = EXPORTED_CELLS[config.cell]
    if cell.mix is not None:
        seen, mixed = cell.mix(graph, seen, h, weights, config)
        a, b = _preactivation(graph, seen, weights, "ih"), _preactivation(graph, mixed, weights, "hh")
    else:
        a, b = seen, _preactivation(graph, h, weights, "hh")
    y, c = cell.onnx(graph, a, b, h, c, weights, config)
    return (graph.node("MatMul", y, graph.constant(weights["weight_hr"].T)) if config.proj_size else y), c
