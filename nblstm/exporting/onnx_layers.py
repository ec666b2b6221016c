"""What the graphs of all models of text have: an embedding, layers in one direction or both, a head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nblstm.exporting import onnx_cells
from nblstm.exporting.onnx_graph import FLOAT, INT64, Graph
from nblstm.nn.parameters import cell_views

Named = dict[str, np.ndarray]


def add_embedding(graph: Graph, named: Named, config: Any) -> str:
    """Add the vectors of the tokens (steps, batch, E)."""
    return graph.node("Gather", graph.constant(named["embedding.weight"]), "tokens")


def add_head(graph: Graph, x: str, named: Named, name: str = "logits") -> None:
    """Add the logits, as the output of a name."""
    product = graph.node("MatMul", x, graph.constant(named["head.weight"].T))
    graph.node("Add", product, graph.constant(named["head.bias"]), outputs=[name])


def add_residual(graph: Graph, y: str, x: str, weights: Named, config: Any) -> str:
    """Add to a layer's outputs y its inputs x if it is residual; the name of the sum."""
    adds = config.residual and weights["weight_ih"].shape[1] == config.output_size
    return graph.node("Add", y, x) if adds else y


def first_states(named: Named, c: Any) -> Named:
    """Return the state before a text: h (cells, R), of a projected LSTM of ONNX's own before its projection; c (cells, H)."""
    cell, count = c.cells[0], len(c.cells)
    h = named.get("initial_state.h", np.zeros((count, cell.output_size)))
    if c.proj_size and not onnx_cells.is_scanned(c):  # h = W_hr y: of all such y the smallest
        projections = [weights["weight_hr"] for weights in cell_views(named, c)]
        h = np.array([np.linalg.lstsq(W, row, rcond=None)[0] for W, row in zip(projections, h)])
    if not cell.has_memory:
        return {"h": h}
    return {"h": h, "c": named.get("initial_state.c", np.zeros((count, cell.memory_size)))}


def add_texts(graph: Graph, named: Named, c: Any, read: Callable[..., str] = add_embedding) -> str:
    """Add a network that reads whole texts, with their lengths; the name of its outputs (steps, batch, F).

    read: adds what the first layer reads.
    """
    graph.given("lengths", INT64, ["batch"])
    return add_both_ways(graph, read(graph, named, c), "lengths", named, c)


def add_both_ways(graph: Graph, x: str, lengths: str, named: Named, c: Any) -> str:
    """Add the layers of a network that reads whole texts x (steps, batch, D); the name of their outputs (steps, batch, F)."""
    cells, first = cell_views(named, c), first_states(named, c)
    batch = graph.node("Shape", x, start=1, end=2)
    one = graph.constant([1])
    shape = graph.node("Concat", one, batch, one, axis=0)
    turned = lambda name: graph.node("ReverseSequence", name, lengths, time_axis=0, batch_axis=1)
    for layer in range(c.num_layers):
        outputs, memories, weights = [], [], cells[layer * c.directions]
        for number in range(layer * c.directions, (layer + 1) * c.directions):
            state = [graph.node("Expand", graph.constant(part[number][None, None]), shape) for part in first.values()]
            back = number % c.directions == 1
            passed = onnx_cells.add_cell(graph, turned(x) if back else x, state[0], state[-1], cells[number], c)
            outputs.append(turned(passed.y) if back else passed.y)
            memories.append(turned(passed.cs) if back and passed.cs else passed.cs)
        y = graph.node("Concat", *outputs, axis=2) if len(outputs) > 1 else outputs[0]
        x = add_residual(graph, y, x, weights, c)
    return graph.node("Concat", x, *memories, axis=2) if c.head == "cell" else x


def add_places(graph: Graph, rows: str, lengths: str) -> tuple[str, str]:
    """Add the numbers (steps, 1, 1) of the steps of rows (steps, batch, F), and the lengths (batch,) as (1, batch, 1)."""
    steps = graph.node("Squeeze", graph.node("Shape", rows, start=0, end=1))
    numbers = graph.node("Range", graph.constant(0), steps, graph.constant(1))
    return (
        graph.node("Unsqueeze", numbers, graph.constant([1, 2])),
        graph.node("Unsqueeze", lengths, graph.constant([0, 2])),
    )


def add_sum(graph: Graph, rows: str, shares: str) -> str:
    """Add the sum over the steps (batch, F), each times its share (steps, batch, 1)."""
    return graph.node("ReduceSum", graph.node("Mul", rows, shares), graph.constant([0]), keepdims=0)


def add_float(graph: Graph, x: str) -> str:
    """Add numbers as float32."""
    return graph.node("Cast", x, to=FLOAT)


def add_last(graph: Graph, rows: str, places: str, lengths: str, named: Named, c: Any) -> str:
    """Add the last output of each direction (batch, F)."""
    last = add_float(graph, graph.node("Equal", places, graph.node("Sub", lengths, graph.constant(1))))
    if c.directions == 1:
        return add_sum(graph, rows, last)
    half = c.output_size // 2
    there, back = graph.node("Split", rows, graph.constant([half, half]), outputs=2, axis=2)
    return graph.node(
        "Concat", add_sum(graph, there, last), graph.node("Gather", back, graph.constant(0), axis=0), axis=1
    )
