"""Plan: the numbers of a language model as small machines read them, and the model that they make.

Weights are prepared once: both biases are joined, the first layer's product with the embedding becomes a table of the
tokens where that is smaller, and every matrix is rounded to what its numbers are stored as:

| weights  | a number                                                        | rows are padded to |
|----------|-----------------------------------------------------------------|--------------------|
| float32  | itself                                                          | 16 columns         |
| bfloat16 | the upper half of a float32                                     | 16 columns         |
| int8     | scale of its row * -127 .. 127                                  | 32 columns         |
| int4     | scale of its 32 columns (bfloat16) * -8 .. 7, stored with 8 on  | 32 columns         |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.errors import ConfigError
from nblstm.nn.parameters import cell_views, flatten, views
from nblstm.tasks.language.model import LanguageModel

WEIGHTS = ("float32", "bfloat16", "int8", "int4")
EXPORTED_CELLS = ("lstm", "gru", "rnn", "update-lstm")
GROUP = 32  # columns of an int4 scale, and of a row of the first layer's table
ROWS = 4  # a matrix is padded to a multiple of so many rows, which are multiplied at once


@dataclass(frozen=True)
class Matrix:
    """A matrix as it is stored.

    values (R, C) float32: what the numbers stand for. numbers: (padded rows, padded columns), of int4 half as many
    columns: the low half of byte k of a group is its column k, the high half column k + 16. scales: int8 (padded rows,)
    float32; int4 (padded rows, groups) uint16, bfloat16; of floats None.
    """

    values: np.ndarray
    numbers: np.ndarray
    scales: np.ndarray | None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, padded columns)."""
        columns = self.numbers.shape[1] * (2 if self.numbers.dtype == np.uint8 else 1)
        return len(self.values), columns

    @property
    def nbytes(self) -> int:
        """Bytes of numbers and scales."""
        return self.numbers.nbytes + (0 if self.scales is None else self.scales.nbytes)


@dataclass(frozen=True)
class Layer:
    """The weights of a layer. inputs: None where the table of tokens holds its product."""

    inputs: Matrix | None
    recurrent: Matrix
    projection: Matrix | None
    bias: np.ndarray  # (G H,) float32, both joined; zero where the table holds it
    hidden_bias: np.ndarray | None  # (H,) of a GRU, inside the product with the reset gate
    peepholes: np.ndarray | None  # (3, H)


@dataclass(frozen=True)
class Plan:
    """A language model's numbers.

    tokens: `table_rows` rows for each token, of GROUP columns, which make its pre-activations of the first layer; or
    one row, its embedding, where table_rows is 0. It is `head` where the model is tied and has no table.
    """

    model: LanguageModel
    weights: str
    tokens: Matrix
    table_rows: int
    layers: tuple[Layer, ...]
    head: Matrix
    head_bias: np.ndarray  # (V,)
    h: np.ndarray  # (L, P) float32: the state before a text
    c: np.ndarray  # (L, H or 0)

    @property
    def matrices(self) -> dict[str, Matrix]:
        """Every matrix that is stored, by name."""
        named = {"head": self.head}
        if self.tokens is not self.head:
            named["tokens"] = self.tokens
        for k, layer in enumerate(self.layers):
            parts = {"input": layer.inputs, "recurrent": layer.recurrent, "projection": layer.projection}
            named |= {f"{name}{k}": matrix for name, matrix in parts.items() if matrix is not None}
        return named

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, as they are stored."""
        vectors = [self.head_bias, self.h, self.c]
        for layer in self.layers:
            vectors += [v for v in (layer.bias, layer.hidden_bias, layer.peepholes) if v is not None]
        return sum(m.nbytes for m in self.matrices.values()) + sum(4 * v.size for v in vectors)


def plan(model: Any, weights: str, format: str) -> Plan:
    """Prepare a model's numbers. ConfigError names what the format cannot do."""
    check_exportable(model, format)
    checks.choice("weights", weights, WEIGHTS)
    c = model.config
    named = {name: array.astype(np.float64) for name, array in views(model.parameters, c).items()}
    cells = cell_views(named, c)
    biases = [_biases(cell, c.cell, c.hidden_size) for cell in cells]
    head = pack_weights(named["head.weight"], weights)
    rows = _table_rows(c)
    if rows:
        table = named["embedding.weight"] @ cells[0]["weight_ih"].T + biases[0][0]
        padded = np.zeros((c.vocab_size, rows * GROUP))
        padded[:, : table.shape[1]] = table
        tokens = pack_weights(padded.reshape(-1, GROUP), weights)
        biases[0] = np.zeros_like(biases[0][0]), biases[0][1]
    else:
        tokens = head if c.tie else pack_weights(named["embedding.weight"], weights)
    layers = [_layer(cell, bias, weights, bool(rows) and k == 0) for k, (cell, bias) in enumerate(zip(cells, biases))]
    h = named.get("initial_state.h", np.zeros((c.num_layers, c.output_size)))
    memory = named.get("initial_state.c", np.zeros((c.num_layers, c.cells[0].memory_size)))
    return Plan(
        model, weights, tokens, rows, tuple(layers), head, _float(named["head.bias"]), _float(h), _float(memory)
    )


def check_exportable(model: Any, format: str) -> None:
    """Raise ConfigError for a model that the format has no equations for."""
    if not isinstance(model, LanguageModel):
        raise ConfigError(f"format {format} holds language models that write, got {type(model).__name__}; train one.")
    if model.config.cell not in EXPORTED_CELLS:
        raise ConfigError(
            f"format {format} has the cells {', '.join(EXPORTED_CELLS)}, got {model.config.cell}; train one of them."
        )
    if model.config.layer_norm:
        raise ConfigError(f"format {format} cannot do layer_norm; train a model without it.")


def _float(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _table_rows(config: Any) -> int:
    """How many rows of GROUP columns hold a token's pre-activations of the first layer; 0 where a table is no gain."""
    G, E, V = config.cells[0].gates * config.hidden_size, config.input_size, config.vocab_size
    reads_embedding = config.residual and config.input_size == config.output_size
    rows = -(-G // GROUP)
    return 0 if reads_embedding or V * rows * GROUP > (0 if config.tie else V * E) + G * E else rows


def _biases(cell: Mapping[str, np.ndarray], kind: str, H: int) -> tuple[np.ndarray, np.ndarray | None]:
    """(both biases joined, what a GRU's candidate keeps inside the product with the reset gate)."""
    bias, hidden = cell["bias_ih"].copy(), cell["bias_hh"]
    if kind != "gru":
        return bias + hidden, None
    bias[: 2 * H] += hidden[: 2 * H]
    return bias, hidden[2 * H :]


def _layer(
    cell: Mapping[str, np.ndarray], biases: tuple[np.ndarray, np.ndarray | None], weights: str, folded: bool
) -> Layer:
    """Pack the weights of a cell."""
    optional = lambda name, make: make(cell[name]) if name in cell else None
    matrix = lambda array: pack_weights(array, weights)
    bias, hidden = biases
    return Layer(
        None if folded else matrix(cell["weight_ih"]), matrix(cell["weight_hh"]), optional("weight_hr", matrix),
        _float(bias), None if hidden is None else _float(hidden), optional("peepholes", _float),
    )  # fmt: skip


# ---------------------------------------------------------------- numbers


def pack_weights(matrix: np.ndarray, weights: str) -> Matrix:
    """Round a matrix (R, C) to weights of a kind."""
    R, C = matrix.shape
    width = GROUP if weights.startswith("int") else 16
    padded = np.zeros((-(-R // ROWS) * ROWS, -(-C // width) * width), np.float32)
    padded[:R, :C] = matrix
    values, numbers, scales = _PACKERS[weights](padded)
    return Matrix(np.ascontiguousarray(values[:R, :C], np.float32), numbers, scales)


Packed = tuple[np.ndarray, np.ndarray, "np.ndarray | None"]


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Return the nearest bfloat16 of float32 numbers, as uint16; of two the even one."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def from_bfloat16(x: np.ndarray) -> np.ndarray:
    """Return the float32 numbers that bfloat16 numbers, as uint16, are."""
    return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _float32(x: np.ndarray) -> Packed:
    return x, x, None


def _bfloat16(x: np.ndarray) -> Packed:
    numbers = to_bfloat16(x)
    return from_bfloat16(numbers), numbers, None


def _int8(x: np.ndarray) -> Packed:
    scales = np.abs(x).max(axis=1) / np.float32(127)
    numbers = np.clip(np.rint(x / np.where(scales > 0, scales, 1)[:, None]), -127, 127).astype(np.int8)
    return numbers * scales[:, None], numbers, scales


def _int4(x: np.ndarray) -> Packed:
    groups = x.reshape(len(x), -1, GROUP)
    tried = [_scaled(groups, share) for share in np.linspace(0.7, 1.0, 13)]  # shares of the range
    errors = np.stack(
        [((numbers * from_bfloat16(scales)[:, :, None] - groups) ** 2).sum(axis=2) for numbers, scales in tried]
    )
    best = errors.argmin(axis=0)
    numbers = np.take_along_axis(np.stack([numbers for numbers, _ in tried]), best[None, :, :, None], axis=0)[0]
    scales = np.take_along_axis(np.stack([scales for _, scales in tried]), best[None], axis=0)[0]
    values = (numbers * from_bfloat16(scales)[:, :, None]).reshape(x.shape)
    stored, half = (numbers + 8).astype(np.uint8), GROUP // 2
    packed = (stored[:, :, :half] | (stored[:, :, half:] << np.uint8(4))).reshape(len(x), -1)
    return values, np.ascontiguousarray(packed), scales


def _scaled(groups: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """(numbers -8 .. 7, bfloat16 scales) of groups whose largest is 7 / share."""
    scales = to_bfloat16(np.abs(groups).max(axis=2) * np.float32(share / 7))
    steps = from_bfloat16(scales)[:, :, None]
    return np.clip(np.rint(groups / np.where(steps > 0, steps, 1)), -8, 7), scales


_PACKERS = {"float32": _float32, "bfloat16": _bfloat16, "int8": _int8, "int4": _int4}


# ---------------------------------------------------------------- what the numbers make


def rounded(prepared: Plan) -> LanguageModel:
    """Make the language model that the stored numbers are, in float32: what a rounding costs can be measured with it."""
    model = prepared.model
    c, V, H = model.config, model.config.vocab_size, model.config.hidden_size
    config = replace(c, dtype="float32")
    if prepared.table_rows:
        config = replace(config, tie=False, embedding_size=V)  # token v reads column v of weight_ih: the table
    G = c.cells[0].gates * H
    named = {"head.weight": prepared.head.values, "head.bias": prepared.head_bias}
    named |= {"initial_state.h": prepared.h, "initial_state.c": prepared.c}
    if prepared.table_rows:
        named["embedding.weight"] = np.eye(V, dtype=np.float32)
    else:
        named["embedding.weight"] = prepared.tokens.values
    for k, layer in enumerate(prepared.layers):
        hidden = np.zeros(G, np.float32)
        if layer.hidden_bias is not None:
            hidden[2 * H :] = layer.hidden_bias
        table = lambda: prepared.tokens.values.reshape(V, -1)[:, :G].T
        parts = {
            "weight_ih": table() if layer.inputs is None else layer.inputs.values, "weight_hh": layer.recurrent.values,
            "bias_ih": layer.bias, "bias_hh": hidden, "peepholes": layer.peepholes,
            "weight_hr": None if layer.projection is None else layer.projection.values,
        }  # fmt: skip
        named |= {f"rnn.{name}_l{k}": part for name, part in parts.items() if part is not None}
    return LanguageModel(config, model.vocabulary, flatten(named, config), dict(model.training))
