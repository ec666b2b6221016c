"""Heads of models that read whole texts: the tokens of a masked one, the labels of a classifier with its pooling."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from nblstm.exporting.onnx_graph import FLOAT, Graph
from nblstm.exporting.onnx_layers import Named, add_head

LOWEST = -3e38  # what a maximum never is


def add_masked(graph: Graph, features: str, named: Named, c: Any) -> dict[str, str]:
    """Add the head of a masked language model; what its metadata says."""
    add_head(graph, features, named)
    graph.made("logits", ["steps", "batch", c.vocab_size])
    return {"mask_id": "0"}


def add_classifier(graph: Graph, features: str, named: Named, c: Any) -> dict[str, str]:
    """Add the pooling and head of a classifier; what its metadata says."""
    places, lengths = add_places(graph, features, "lengths")
    add_head(graph, _POOLINGS[c.pooling](graph, features, places, lengths, named, c), named)
    graph.node("Softmax", "logits", outputs=["probabilities"], axis=-1)
    for name in ("logits", "probabilities"):
        graph.made(name, ["batch", c.num_outputs])
    return {"labels": json.dumps(list(c.labels)), "max_length": str(c.max_length)}


def add_places(graph: Graph, rows: str, lengths: str) -> tuple[str, str]:
    """Add the numbers (steps, 1, 1) of the steps of rows (steps, batch, F), and the lengths (batch,) as (1, batch, 1)."""
    steps = graph.node("Squeeze", graph.node("Shape", rows, start=0, end=1))
    numbers = graph.node("Range", graph.constant(0), steps, graph.constant(1))
    return (
        graph.node("Unsqueeze", numbers, graph.constant([1, 2])),
        graph.node("Unsqueeze", lengths, graph.constant([0, 2])),
    )


def _sum(graph: Graph, rows: str, shares: str) -> str:
    """The sum over the steps (batch, F), each times its share (steps, batch, 1)."""
    return graph.node("ReduceSum", graph.node("Mul", rows, shares), graph.constant([0]), keepdims=0)


def _float(graph: Graph, x: str) -> str:
    return graph.node("Cast", x, to=FLOAT)


def add_last(graph: Graph, rows: str, places: str, lengths: str, named: Named, c: Any) -> str:
    """Add the last output of each direction (batch, F)."""
    last = _float(graph, graph.node("Equal", places, graph.node("Sub", lengths, graph.constant(1))))
    if c.directions == 1:
        return _sum(graph, rows, last)
    half = c.output_size // 2
    there, back = graph.node("Split", rows, graph.constant([half, half]), outputs=2, axis=2)
    return graph.node("Concat", _sum(graph, there, last), graph.node("Gather", back, graph.constant(0), axis=0), axis=1)


def _mean(graph: Graph, rows: str, places: str, lengths: str, named: Named, c: Any) -> str:
    """The mean over a text's steps."""
    there = _float(graph, graph.node("Less", places, lengths))
    return _sum(graph, rows, graph.node("Div", there, _float(graph, lengths)))


def _max(graph: Graph, rows: str, places: str, lengths: str, named: Named, c: Any) -> str:
    """The largest over a text's steps."""
    there = graph.node("Less", places, lengths)
    kept = graph.node("Where", there, rows, graph.constant(np.float32(LOWEST)))
    return graph.node("ReduceMax", kept, axes=[0], keepdims=0)


def _attention(graph: Graph, rows: str, places: str, lengths: str, named: Named, c: Any) -> str:
    """sum of a x, a = softmax of query . tanh(W x + b)"""
    z = graph.node("MatMul", rows, graph.constant(named["pooling.weight"].T))
    u = graph.node("Tanh", graph.node("Add", z, graph.constant(named["pooling.bias"])))
    scores = graph.node("MatMul", u, graph.constant(named["pooling.query"][:, None]))
    kept = graph.node("Where", graph.node("Less", places, lengths), scores, graph.constant(np.float32(LOWEST)))
    return _sum(graph, rows, graph.node("Softmax", kept, axis=0))


_POOLINGS = {"last": add_last, "mean": _mean, "max": _max, "attention": _attention}
