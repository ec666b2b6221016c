"""Graphs of ONNX, as pairs of (field number, value) that `protobuf.message` writes: nodes, constants, inputs, outputs.

Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FLOAT, INT64, BOOL = 1, 7, 9  # TensorProto.DataType
A_INT, A_GRAPH, A_INTS, A_STRINGS = 2, 5, 7, 8  # AttributeProto.AttributeType

Fields = list[Any]  # (field number, value) each


class Graph:
    """What a graph is made of, in the order in which it comes. Names of the body of a loop begin with its `prefix`."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix, self.count = prefix, 0
        self.nodes: list[Fields] = []
        self.constants: list[Fields] = []
        self.inputs: list[Fields] = []
        self.outputs: list[Fields] = []

    def constant(self, array: Any) -> str:
        """Add a constant, float32 or, of whole numbers, int64; return its name."""
        array = np.asarray(array)
        kind = INT64 if array.dtype.kind in "iu" else FLOAT
        data = array.astype("<i8" if kind == INT64 else "<f4").tobytes()
        name = self.name("constant")
        self.constants.append([*((1, size) for size in array.shape), (2, kind), (8, name), (9, data)])
        return name

    def name(self, kind: str) -> str:
        """Make a name that nothing else has."""
        self.count += 1
        return f"{self.prefix}{kind} {self.count}"

    def node(self, kind: str, *inputs: str, outputs: list[str] | int = 1, **attributes: Any) -> Any:
        """Add an operator; return the name of its output, or the names where several are asked for or given."""
        names = [self.name(kind) for _ in range(outputs)] if isinstance(outputs, int) else outputs
        fields: Fields = [*((1, name) for name in inputs), *((2, name) for name in names)]
        fields += [(3, self.name("node")), (4, kind)]
        self.nodes.append(fields + [(5, _attribute(name, value)) for name, value in attributes.items()])
        return names[0] if len(names) == 1 else names

    def split(self, x: str, count: int, size: int) -> list[str]:
        """Add the gates of pre-activations (batch, count * size); return their names."""
        return self.node("Split", x, self.constant([size] * count), outputs=count, axis=-1)

    def between(self, x: str, y: str, gate: str) -> str:
        """Add x + sigmoid(gate) (y - x); return its name."""
        return self.node("Add", x, self.node("Mul", self.node("Sigmoid", gate), self.node("Sub", y, x)))

    def normalized(self, x: str, gain: np.ndarray, bias: np.ndarray) -> str:
        """Add gain norm(x) + bias, the operator's own epsilon being 1e-5, too; return its name."""
        return self.node("LayerNormalization", x, self.constant(gain), self.constant(bias))

    def given(self, name: str, kind: int, sizes: list[int | str]) -> str:
        """Add an input of the graph; a size may be a name."""
        self.inputs.append(_value(name, kind, sizes))
        return name

    def made(self, name: str, sizes: list[int | str], kind: int = FLOAT) -> None:
        """Make a result an output of the graph."""
        self.outputs.append(_value(name, kind, sizes))

    def fields(self, name: str) -> Fields:
        """Return the graph as a GraphProto."""
        return [
            *((1, node) for node in self.nodes),
            (2, name),
            *((5, array) for array in self.constants),
            *((11, value) for value in self.inputs),
            *((12, value) for value in self.outputs),
        ]


def _attribute(name: str, value: Any) -> Fields:
    """An AttributeProto."""
    if isinstance(value, Graph):
        return [(1, name), (6, value.fields(name)), (20, A_GRAPH)]
    if isinstance(value, int):
        return [(1, name), (3, value), (20, A_INT)]
    if isinstance(value[0], str):
        return [(1, name), *((9, text) for text in value), (20, A_STRINGS)]
    return [(1, name), *((8, number) for number in value), (20, A_INTS)]


def _value(name: str, kind: int, sizes: list[int | str]) -> Fields:
    """A ValueInfoProto: an input or an output; a size may be a name."""
    dimensions = [(1, [(1, size)] if isinstance(size, int) else [(2, size)]) for size in sizes]
    return [(1, name), (2, [(1, [(1, kind), (2, dimensions)])])]
