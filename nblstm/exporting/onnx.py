"""Format onnx: a model of text as one graph.

    a language model    tokens (steps, batch) int64, h (L, batch, R), c (L, batch, H) -> logits (steps, batch, V), h_next, c_next
    a masked one        tokens, lengths (batch,) int64 -> logits (steps, batch, V)
    a classifier        tokens, lengths -> logits (batch, labels), probabilities (batch, labels)

A language model's graph serves a step and a sequence alike, its states passed in and out. R is what the file's input says:
where the output of an LSTM is projected, its h before that, and P where the cells are scanned. What stands behind a text's
length means nothing. The metadata holds the vocabulary, the labels, the token before a text and the state before one.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.errors import ConfigError
from nblstm.exporting import onnx_cells
from nblstm.exporting.onnx_graph import FLOAT, INT64, Fields, Graph
from nblstm.exporting.plan import check_exportable
from nblstm.exporting.protobuf import message
from nblstm.nn.parameters import cell_views, views
from nblstm.tasks.classification.model import TextClassifier
from nblstm.tasks.language.model import LanguageModel
from nblstm.tasks.masked.model import MaskedLanguageModel

IR_VERSION, OPSET = 8, 17
LOWEST = -3e38  # what a maximum never is

Named = dict[str, np.ndarray]


def exported(model: Any, weights: str | None) -> bytes:
    """Return the bytes of the file. ConfigError for other weights than float32."""
    checks.choice("weights of format onnx", "float32" if weights is None else weights, ("float32",))
    return render_onnx(model)


def render_onnx(model: Any) -> bytes:
    """Return the bytes of the file. ConfigError for a model that ONNX has no operators for."""
    if not isinstance(model, MaskedLanguageModel):
        check_exportable(model, "onnx")
    if model.config.cell not in onnx_cells.CELLS_OF_ONNX:
        raise ConfigError(f"format onnx has no equations for the cell {model.config.cell}; train another.")
    graph, c = Graph(), model.config
    named = {name: array.astype(np.float64) for name, array in views(model.parameters, c).items()}
    graph.given("tokens", INT64, ["steps", "batch"])
    metadata = {"vocabulary": json.dumps(model.vocabulary.to_dict()), "start_id": str(model.vocabulary.start_id)}
    if isinstance(model, LanguageModel):
        metadata |= _language(graph, named, c)
    else:
        graph.given("lengths", INT64, ["batch"])
        top = _classifier if isinstance(model, TextClassifier) else _masked
        metadata |= top(graph, _both_ways(graph, named, c), named, c)
    fields: Fields = [(14, [(1, key), (2, text)]) for key, text in metadata.items()]
    return message([
        (1, IR_VERSION), (2, "Made by nblstm export"), (6, c.description), (7, graph.fields("model of text")),
        (8, [(1, ""), (2, OPSET)]), *fields,
    ])  # fmt: skip


def _embedded(graph: Graph, named: Named) -> str:
    """The vectors of the tokens (steps, batch, E)."""
    return graph.node("Gather", graph.constant(named["embedding.weight"]), "tokens")


def _head(graph: Graph, x: str, named: Named) -> None:
    """The logits, as the output of that name."""
    scores = graph.node("MatMul", x, graph.constant(named["head.weight"].T))
    graph.node("Add", scores, graph.constant(named["head.bias"]), outputs=["logits"])


def _residual(graph: Graph, y: str, x: str, weights: Named, config: Any) -> str:
    """A layer's outputs, its inputs added if it is residual."""
    adds = config.residual and weights["weight_ih"].shape[1] == config.output_size
    return graph.node("Add", y, x) if adds else y


# ---------------------------------------------------------------- a language model: left to right, with its state


def _language(graph: Graph, named: Named, c: Any) -> dict[str, str]:
    """Add a language model; what its metadata says."""
    first = _first_states(named, c)
    x, ends, passed = _embedded(graph, named), [], None
    for name, state in first.items():
        graph.given(name, FLOAT, [c.num_layers, "batch", state.shape[1]])
    for layer, weights in enumerate(cell_views(named, c)):
        part = lambda state, layer=layer: graph.node("Gather", state, graph.constant([layer]), axis=0)
        before = [part(state) for state in first]
        passed = onnx_cells.add_cell(graph, x, before[0], before[-1], weights, c)
        x = _residual(graph, passed.y, x, weights, c)
        ends.append((passed.h, passed.c))
    if c.head == "cell" and passed is not None:
        x = graph.node("Concat", x, passed.cs, axis=2)
    _head(graph, x, named)
    graph.made("logits", ["steps", "batch", c.vocab_size])
    for name, parts in zip(first, zip(*ends)):
        graph.node("Concat", *parts, outputs=[f"{name}_next"], axis=0)
        graph.made(f"{name}_next", [c.num_layers, "batch", first[name].shape[1]])
    return {f"initial_{name}": json.dumps(state.tolist()) for name, state in first.items() if state.any()}


def _first_states(named: Named, c: Any) -> Named:
    """The state before a text: h (cells, R), of a projected LSTM of ONNX's own before its projection; c (cells, H)."""
    cell, count = c.cells[0], len(c.cells)
    h = named.get("initial_state.h", np.zeros((count, cell.output_size)))
    if c.proj_size and not onnx_cells.is_scanned(c):  # h = W_hr y: of all such y the smallest
        projections = [weights["weight_hr"] for weights in cell_views(named, c)]
        h = np.array([np.linalg.lstsq(W, row, rcond=None)[0] for W, row in zip(projections, h)])
    if not cell.has_memory:
        return {"h": h}
    return {"h": h, "c": named.get("initial_state.c", np.zeros((count, cell.memory_size)))}


# ---------------------------------------------------------------- whole texts, in one direction or both


def _both_ways(graph: Graph, named: Named, c: Any) -> str:
    """Add the layers of a network that reads whole texts; the name of their outputs (steps, batch, F)."""
    x, cells, first = _embedded(graph, named), cell_views(named, c), _first_states(named, c)
    batch = graph.node("Shape", "tokens", start=1, end=2)
    one = graph.constant([1])
    shape = graph.node("Concat", one, batch, one, axis=0)
    turned = lambda name: graph.node("ReverseSequence", name, "lengths", time_axis=0, batch_axis=1)
    for layer in range(c.num_layers):
        outputs, memories, weights = [], [], cells[layer * c.directions]
        for number in range(layer * c.directions, (layer + 1) * c.directions):
            state = [graph.node("Expand", graph.constant(part[number][None, None]), shape) for part in first.values()]
            back = number % c.directions == 1
            passed = onnx_cells.add_cell(graph, turned(x) if back else x, state[0], state[-1], cells[number], c)
            outputs.append(turned(passed.y) if back else passed.y)
            memories.append(turned(passed.cs) if back and passed.cs else passed.cs)
        y = graph.node("Concat", *outputs, axis=2) if len(outputs) > 1 else outputs[0]
        x = _residual(graph, y, x, weights, c)
    return graph.node("Concat", x, *memories, axis=2) if c.head == "cell" else x


def _masked(graph: Graph, features: str, named: Named, c: Any) -> dict[str, str]:
    """Add the head of a masked language model; what its metadata says."""
    _head(graph, features, named)
    graph.made("logits", ["steps", "batch", c.vocab_size])
    return {"mask_id": "0"}


def _classifier(graph: Graph, features: str, named: Named, c: Any) -> dict[str, str]:
    """Add the pooling and head of a classifier; what its metadata says."""
    steps = graph.node("Squeeze", graph.node("Shape", "tokens", start=0, end=1))
    numbers = graph.node("Range", graph.constant(0), steps, graph.constant(1))
    places = graph.node("Unsqueeze", numbers, graph.constant([1, 2]))  # (steps, 1, 1)
    lengths = graph.node("Unsqueeze", "lengths", graph.constant([0, 2]))  # (1, batch, 1)
    _head(graph, _POOLINGS[c.pooling](graph, features, places, lengths, named, c), named)
    graph.node("Softmax", "logits", outputs=["probabilities"], axis=-1)
    for name in ("logits", "probabilities"):
        graph.made(name, ["batch", c.num_outputs])
    return {"labels": json.dumps(list(c.labels)), "max_length": str(c.max_length)}


def _sum(graph: Graph, rows: str, shares: str) -> str:
    """The sum over the steps (batch, F), each times its share (steps, batch, 1)."""
    return graph.node("ReduceSum", graph.node("Mul", rows, shares), graph.constant([0]), keepdims=0)


def _float(graph: Graph, x: str) -> str:
    return graph.node("Cast", x, to=FLOAT)


def _last(graph: Graph, rows: str, places: str, lengths: str, named: Named, c: Any) -> str:
    """The last output of each direction."""
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


_POOLINGS = {"last": _last, "mean": _mean, "max": _max, "attention": _attention}
