"""Format onnx: a language model as one graph, for a step and for a sequence alike, its states passed in and out.

    inputs    tokens (steps, batch) int64    h (L, batch, R)    c (L, batch, H), of an LSTM
    outputs   logits (steps, batch, V)       h_next             c_next

R is H, also where the output of an LSTM is projected: ONNX has no projection, so h is what is projected, and the
recurrent weights are W_hh W_hr. The metadata holds the vocabulary, the token before a text and the state before one.
Field numbers are those of onnx.proto (ONNX 1.x, IR version 8, operator set 17).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.errors import ConfigError
from nblstm.exporting.protobuf import message
from nblstm.nn.parameters import cell_views, views
from nblstm.tasks.language.model import LanguageModel

IR_VERSION, OPSET = 8, 17
FLOAT, INT64 = 1, 7  # TensorProto.DataType
A_FLOAT, A_INT, A_STRING, A_INTS, A_STRINGS = 1, 2, 3, 7, 8  # AttributeProto.AttributeType
BLOCKS = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn": [0]}  # ONNX's i o f c, z r h, h among ours
PEEPHOLES = [0, 2, 1]  # ONNX's i o f among ours


class Graph:
    """What a graph is made of: its nodes and its constants, in the order in which they come."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant to the graph, float32 or int64; return its name."""
        kind = INT64 if array.dtype == np.int64 else FLOAT
        data = array.astype("<i8" if kind == INT64 else "<f4").tobytes()
        self.constants.append([*((1, size) for size in array.shape), (2, kind), (8, name), (9, data)])
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        """Add an operator; the name of its first output."""
        fields: list[Any] = [*((1, name) for name in inputs), *((2, name) for name in outputs)]
        fields += [(3, f"{kind} {len(self.nodes)}"), (4, kind)]
        self.nodes.append(fields + [(5, _attribute(name, value)) for name, value in attributes.items()])
        return outputs[0]


def _attribute(name: str, value: Any) -> list[Any]:
    """An AttributeProto."""
    if isinstance(value, int):
        return [(1, name), (3, value), (20, A_INT)]
    if isinstance(value, str):
        return [(1, name), (4, value), (20, A_STRING)]
    if isinstance(value[0], str):
        return [(1, name), *((9, text) for text in value), (20, A_STRINGS)]
    return [(1, name), *((8, number) for number in value), (20, A_INTS)]


def _value(name: str, kind: int, sizes: list[int | str]) -> list[Any]:
    """A ValueInfoProto: an input or an output of the graph; a size may be a name."""
    dimensions = [(1, [(1, size)] if isinstance(size, int) else [(2, size)]) for size in sizes]
    return [(1, name), (2, [(1, [(1, kind), (2, dimensions)])])]


def check_onnx(model: Any) -> None:
    """Raise ConfigError for a model that ONNX has no operators for."""
    if not isinstance(model, LanguageModel):
        raise ConfigError(f"format onnx holds language models that write, got {type(model).__name__}; train one.")
    checks_of = {
        "layer_norm": model.config.layer_norm,
        f"the cell {model.config.cell}": model.config.cell not in BLOCKS,
    }
    for what, there in {**checks_of, "the cell head": model.config.head == "cell"}.items():
        if there:
            raise ConfigError(f"format onnx cannot do {what}; train a model without it, or choose another format.")


def render_onnx(model: LanguageModel) -> bytes:
    """Return the bytes of the file. ConfigError for a model that ONNX has no operators for."""
    check_onnx(model)
    c, graph = model.config, Graph()
    named = {name: array.astype(np.float64) for name, array in views(model.parameters, c).items()}
    x = graph.node("Gather", [graph.constant("embedding.weight", named["embedding.weight"]), "tokens"], ["embedded"])
    ends: dict[str, list[str]] = {"h": [], "c": []}
    first = _first_state(named, c)
    for layer, cell in enumerate(cell_views(named, c)):
        x = _layer(graph, layer, x, cell, c, ends)
    x = graph.node("MatMul", [x, graph.constant("head.weight", named["head.weight"].T)], ["scores"])
    graph.node("Add", [x, graph.constant("head.bias", named["head.bias"])], ["logits"])
    states = [name for name in ("h", "c") if ends[name]]
    for name in states:
        graph.node("Concat", ends[name], [f"{name}_next"], axis=0)
    sizes: list[int | str] = [c.num_layers, "batch", c.hidden_size]
    given = [_value("tokens", INT64, ["steps", "batch"]), *(_value(name, FLOAT, sizes) for name in states)]
    made = [_value("logits", FLOAT, ["steps", "batch", c.vocab_size])]
    made += [_value(f"{name}_next", FLOAT, sizes) for name in states]
    parts: list[Any] = [*((1, node) for node in graph.nodes), (2, "language model")]
    parts += [
        *((5, array) for array in graph.constants),
        *((11, value) for value in given),
        *((12, value) for value in made),
    ]
    metadata: list[Any] = [(14, [(1, key), (2, text)]) for key, text in _metadata(model, first, states).items()]
    return message([
        (1, IR_VERSION), (2, "Made by nblstm export"), (6, c.description), (7, parts), (8, [(1, ""), (2, OPSET)]),
        *metadata,
    ])  # fmt: skip


def _metadata(model: LanguageModel, first: dict[str, np.ndarray], states: list[str]) -> dict[str, str]:
    """The vocabulary, the token before a text, and the state before one where it is not zero."""
    found = {"vocabulary": json.dumps(model.vocabulary.to_dict()), "start_id": str(model.vocabulary.start_id)}
    return found | {f"initial_{name}": json.dumps(first[name].tolist()) for name in states if first[name].any()}


def _first_state(named: dict[str, np.ndarray], c: Any) -> dict[str, np.ndarray]:
    """The state before a text, h (L, H) before its projection and c (L, H)."""
    h = named.get("initial_state.h", np.zeros((c.num_layers, c.output_size)))
    if c.proj_size:  # h = W_hr y: of all such y the smallest
        h = np.array([np.linalg.lstsq(named[f"rnn.weight_hr_l{k}"], row, rcond=None)[0] for k, row in enumerate(h)])
    return {"h": h, "c": named.get("initial_state.c", np.zeros((c.num_layers, c.hidden_size)))}


def _layer(graph: Graph, layer: int, x: str, cell: dict[str, np.ndarray], c: Any, ends: dict[str, list[str]]) -> str:
    """Add a layer that reads x (steps, batch, D); the name of its output (steps, batch, P)."""
    H, name = c.hidden_size, f"rnn {layer}"
    blocks = lambda array: array.reshape(-1, H, *array.shape[1:])[BLOCKS[c.cell]].reshape(array.shape)
    recurrent = cell["weight_hh"] @ cell["weight_hr"] if c.proj_size else cell["weight_hh"]
    bias = np.concatenate([blocks(cell["bias_ih"]), blocks(cell["bias_hh"])])
    arrays = {"W": blocks(cell["weight_ih"]), "R": blocks(recurrent), "B": bias}
    inputs = [x, *(graph.constant(f"{name}.{key}", array[None]) for key, array in arrays.items()), ""]
    settings: dict[str, Any] = {"hidden_size": H}
    outputs = [f"{name}.y", f"{name}.h"]
    inputs.append(_part(graph, "h", layer))
    ends["h"].append(f"{name}.h")
    if c.cell == "lstm":
        inputs.append(_part(graph, "c", layer))
        outputs.append(f"{name}.c")
        ends["c"].append(f"{name}.c")
    if c.peepholes:
        inputs.append(graph.constant(f"{name}.P", cell["peepholes"][PEEPHOLES].reshape(1, 3 * H)))
    if c.cell == "gru":
        settings["linear_before_reset"] = 1
    if c.cell == "rnn":
        settings["activations"] = ["Tanh" if c.nonlinearity == "tanh" else "Relu"]
    y = graph.node(c.cell.upper(), inputs, outputs, **settings)  # (steps, 1, batch, H)
    y = graph.node("Squeeze", [y, graph.constant(f"{name}.axis", np.array([1], np.int64))], [f"{name}.squeezed"])
    if c.proj_size:
        y = graph.node("MatMul", [y, graph.constant(f"{name}.projection", cell["weight_hr"].T)], [f"{name}.projected"])
    if c.residual and cell["weight_ih"].shape[1] == c.output_size:
        y = graph.node("Add", [y, x], [f"{name}.sum"])
    return y


def _part(graph: Graph, state: str, layer: int) -> str:
    """The state of one layer (1, batch, H), cut out of that of all."""
    index = graph.constant(f"{state} {layer}", np.array([layer], np.int64))
    return graph.node("Gather", [state, index], [f"{state}.{layer}"], axis=0)


def exported(model: Any, weights: str | None) -> bytes:
    """Return the bytes of the file. ConfigError for other weights than float32."""
    checks.choice("weights of format onnx", "float32" if weights is None else weights, ("float32",))
    return render_onnx(model)
