"""Plan: the numbers of a model of text as small machines read them, and the model that they make.

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
from nblstm.arrays import from_bfloat16, to_bfloat16
from nblstm.exporting.blocks import SKIPPED_SHARES, Blocks, nonzero_blocks
from nblstm.exporting.cells import EXPORTED_CELLS
from nblstm.files.model_file import ModelFile
from nblstm.nn.int8 import round_rows
from nblstm.nn.parameters import cell_views, views
from nblstm.nn.spelling import PREFIX, below
from nblstm.tasks.tagging.spans import allowed_chain

WEIGHTS = ("float32", "bfloat16", "int8", "int4")
FORBIDDEN = -1e30  # the score of tags that may not follow each other
SPELL = "spell_"  # before the names of the layer that reads characters
GROUP = 32  # columns of an int4 scale, and of a row of the first layer's table
ROWS = 4  # a matrix is padded to a multiple of so many rows, which are multiplied at once


@dataclass(frozen=True)
class Matrix:
    """A matrix as it is stored.

    values (R, C) float32: what the numbers stand for. numbers: (padded rows, padded columns), of int4 half as many
    columns: the low half of byte k of a group is its column k, the high half column k + 16. scales: int8 (padded rows,)
    float32; int4 (padded rows, groups) uint16, bfloat16; of floats None. blocks: what is stored in the place of numbers.
    """

    values: np.ndarray
    numbers: np.ndarray
    scales: np.ndarray | None
    blocks: Blocks | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, padded columns)."""
        columns = self.numbers.shape[1] * (2 if self.numbers.dtype == np.uint8 else 1)
        return len(self.values), columns

    @property
    def nbytes(self) -> int:
        """Bytes of numbers and scales."""
        numbers = self.numbers if self.blocks is None else self.blocks
        return numbers.nbytes + (0 if self.scales is None else self.scales.nbytes)


@dataclass(frozen=True)
class Layer:
    """The weights of a cell, one direction of a layer: those that it has, by name.

    matrices: "input" (left out where the table of tokens holds its product), "recurrent", "projection". vectors, float32:
    "bias" (G H,), both joined (left out with "input"); "hidden_bias" (H,) of a GRU, inside the product with the reset
    gate; what else the cell has by its own names: "peepholes" (3, H); of layer normalisation "gain_ih" and "gain_hh" (G H,),
    "gain_c" and "bias_c" (H,).
    """

    matrices: dict[str, Matrix]
    vectors: dict[str, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """A model's numbers.

    tokens: `table_rows` rows for each token, of GROUP columns, which make its pre-activations of the first layer; or
    one row, its embedding, where table_rows is 0. It is `head` where the model is tied and has no table.
    """

    model: Any
    kind: Any  # ExportedKind of the model; None of a part of one
    weights: str
    tokens: Matrix
    table_rows: int
    layers: tuple[Layer, ...]  # of every cell, in the order of config.cells
    head: Matrix
    attention: Matrix | None  # of a classifier that pools with it
    own_vectors: dict[
        str, np.ndarray
    ]  # float32 "head_bias"; "h" (cells, P) and "c" (cells, H or 0), the state before a
    # text; "attention_bias", "query" (F,); of a CRF "start", "end" (K,), "transitions" (K K,)
    spelling: Plan | None = None  # of the layer that reads a tagger's words; its head holds the vectors of characters

    @property
    def matrices(self) -> dict[str, Matrix]:
        """Every matrix that is stored, by name."""
        named = {"head": self.head}
        if self.tokens is not self.head:
            named["tokens"] = self.tokens
        if self.attention is not None:
            named["attention"] = self.attention
        for k, layer in enumerate(self.layers):
            named |= {f"{name}{k}": matrix for name, matrix in layer.matrices.items()}
        if self.spelling is not None:
            named |= {f"{SPELL}{name}": matrix for name, matrix in self.spelling.matrices.items()}
        return named

    @property
    def vectors(self) -> dict[str, np.ndarray]:
        """Every vector that is stored, by name."""
        named = dict(self.own_vectors)
        for k, layer in enumerate(self.layers):
            named |= {f"{name}{k}": vector for name, vector in layer.vectors.items()}
        if self.spelling is not None:
            named |= {f"{SPELL}{name}": vector for name, vector in self.spelling.vectors.items()}
        return named

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, as they are stored."""
        return sum(m.nbytes for m in self.matrices.values()) + sum(4 * v.size for v in self.vectors.values())


def plan(model: Any, weights: str, format: str) -> Plan:
    """Prepare a model's numbers. ConfigError names what the format cannot do."""
    from nblstm.exporting.kinds import exported_kind  # whose files are made of what is here

    kind, c = exported_kind(model, format), model.config
    checks.choice("weights", weights, WEIGHTS)
    named = {name: array.astype(np.float64) for name, array in views(model.parameters, c).items()}
    cells = cell_views(named, c)
    layers = [_layer(cell, c, weights) for cell in cells]
    if format == "c" and weights in SKIPPED_SHARES:
        layers = [replace(layer, matrices=_in_blocks(layer.matrices, weights)) for layer in layers]
    head = pack_weights(named["head.weight"], weights)
    rows = _table_rows(c)
    if rows:
        table = named["embedding.weight"] @ cells[0]["weight_ih"].T + _biases(cells[0], c)["bias"]
        padded = np.zeros((c.vocab_size, rows * GROUP))
        padded[:, : table.shape[1]] = table
        tokens = pack_weights(padded.reshape(-1, GROUP), weights)
        del layers[0].matrices["input"], layers[0].vectors["bias"]
    else:
        tokens = head if c.tie else pack_weights(named["embedding.weight"], weights)
    attention = pack_weights(named["pooling.weight"], weights) if "pooling.weight" in named else None
    spelling = _spelling(model, named, weights) if getattr(c, "spelling", None) else None
    return Plan(model, kind, weights, tokens, rows, tuple(layers), head, attention, _own_vectors(named, c), spelling)


@dataclass(frozen=True)
class _Part:
    """What stands for a model where a plan is of a part of one."""

    config: Any


def _spelling(model: Any, named: Mapping[str, np.ndarray], weights: str) -> Plan:
    """Prepare the layer that reads a word's characters."""
    config, own = model.config.spelling, below(named)
    letters = pack_weights(own["embedding.weight"], weights)
    layers = tuple(_layer(cell, config, weights) for cell in cell_views(own, config))
    return Plan(_Part(config), None, weights, letters, 0, layers, letters, None, {})


def _own_vectors(named: Mapping[str, np.ndarray], config: Any) -> dict[str, np.ndarray]:
    """The vectors of a plan that belong to no cell."""
    count, cell = len(config.cells), config.cells[0]
    found = {
        "head_bias": named["head.bias"],
        "h": named.get("initial_state.h", np.zeros((count, cell.output_size))),
        "c": named.get("initial_state.c", np.zeros((count, cell.memory_size))),
    }
    if "pooling.weight" in named:
        found |= {"attention_bias": named["pooling.bias"], "query": named["pooling.query"]}
    if "crf.start" in named:
        found |= chain_scores(named, config)
    return {name: _float(array) for name, array in found.items()}


def chain_scores(named: Mapping[str, np.ndarray], config: Any) -> dict[str, np.ndarray]:
    """Return the scores of a chain of tags, FORBIDDEN where they may not follow each other."""
    found = {name: named[f"crf.{name}"].copy() for name in ("start", "end", "transitions")}
    if config.scheme != "none":
        for name, array in found.items():
            array[np.isneginf(getattr(allowed_chain(config.tags, "float64"), name))] = FORBIDDEN
    return {name: array.reshape(-1) for name, array in found.items()}


def _float(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _table_rows(config: Any) -> int:
    """How many rows of GROUP columns hold a token's pre-activations of the first layer; 0 where a table is no gain."""
    G, E, V = config.cells[0].gates * config.hidden_size, config.input_size, config.vocab_size
    rows = -(-G // GROUP)
    # the first layer needs the embedding itself, or what is normalised before its bias
    apart = (config.residual and config.output_size == E) or config.layer_norm or config.directions > 1
    apart = apart or config.embedding_size != E  # other numbers stand beside it
    return 0 if apart or V * rows * GROUP > (0 if config.tie else V * E) + G * E else rows


def _biases(cell: Mapping[str, np.ndarray], config: Any) -> dict[str, np.ndarray]:
    """Both biases joined; and what a GRU's candidate keeps inside the product with the reset gate."""
    bias, H = cell["bias_ih"].copy(), config.hidden_size
    if "bias_hh" not in cell:
        return {"bias": bias}
    hidden = cell["bias_hh"]
    if not EXPORTED_CELLS[config.cell].apart:
        return {"bias": bias + hidden}
    bias[: 2 * H] += hidden[: 2 * H]
    return {"bias": bias, "hidden_bias": hidden[2 * H :]}


MATRIX_NAMES = {"weight_ih": "input", "weight_hh": "recurrent", "weight_hr": "projection"}
JOINED = ("bias_ih", "bias_hh")  # in the vectors "bias" and "hidden_bias"; all others keep their names


def _layer(cell: Mapping[str, np.ndarray], config: Any, weights: str) -> Layer:
    """Pack the weights of a cell."""
    matrices = {ours: pack_weights(cell[name], weights) for name, ours in MATRIX_NAMES.items() if name in cell}
    vectors = _biases(cell, config) | {name: x for name, x in cell.items() if name not in (*MATRIX_NAMES, *JOINED)}
    return Layer(matrices, {name: _float(vector) for name, vector in vectors.items()})


def _in_blocks(matrices: Mapping[str, Matrix], weights: str) -> dict[str, Matrix]:
    """The matrices, with their blocks where it pays to skip those that are zero."""
    return {
        name: replace(matrix, blocks=nonzero_blocks(matrix.numbers[: matrix.shape[0]], weights))
        for name, matrix in matrices.items()
    }


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


def _float32(x: np.ndarray) -> Packed:
    return x, x, None


def _bfloat16(x: np.ndarray) -> Packed:
    numbers = to_bfloat16(x)
    return from_bfloat16(numbers), numbers, None


def _int8(x: np.ndarray) -> Packed:
    numbers, scales = round_rows(x)
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


def rounded(prepared: Plan) -> Any:
    """Make the model that the stored numbers are, in float32: what a rounding costs can be measured with it."""
    model, V = prepared.model, prepared.model.config.vocab_size
    config = replace(model.config, dtype="float32")
    named = {name: _float(array) for name, array in views(model.parameters, model.config).items()}
    named |= {"head.weight": prepared.head.values, "embedding.weight": prepared.tokens.values}
    if prepared.table_rows:  # token v reads column v of weight_ih: the table
        config = replace(config, tie=False, embedding_size=V)
        named["embedding.weight"] = np.eye(V, dtype=np.float32)
    if prepared.attention is not None:
        named["pooling.weight"] = prepared.attention.values
    ours = {"head_bias": "head.bias", "h": "initial_state.h", "c": "initial_state.c"}
    ours |= {"attention_bias": "pooling.bias", "query": "pooling.query"}
    named |= {ours[name]: vector for name, vector in prepared.own_vectors.items() if name in ours}
    for number, layer in enumerate(prepared.layers):
        parts = _unpacked(layer, prepared)
        named |= {f"rnn.{name}{config.suffix(number)}": part for name, part in parts.items()}
    named |= _spelled(prepared.spelling)
    return type(model).restore(ModelFile(config, model.vocabulary, named, {}, dict(model.training)))


def _spelled(prepared: Plan | None) -> dict[str, np.ndarray]:
    """The parameters of the layer that reads characters, by nblstm's names; none where there is no such layer."""
    if prepared is None:
        return {}
    named = {f"{PREFIX}embedding.weight": prepared.head.values}
    for number, layer in enumerate(prepared.layers):
        suffix = prepared.model.config.suffix(number)
        parts = _unpacked(layer, prepared)
        named |= {f"{PREFIX}rnn.{name}{suffix}": part for name, part in parts.items()}
    return named


def _unpacked(layer: Layer, prepared: Plan) -> dict[str, np.ndarray]:
    """The parameters of a cell by nblstm's names: the joined bias is the input's, the other is what a GRU keeps."""
    c = prepared.model.config
    H, G = c.hidden_size, c.cells[0].gates * c.hidden_size
    parts = {name: layer.matrices[ours].values for name, ours in MATRIX_NAMES.items() if ours in layer.matrices}
    parts |= {name: x for name, x in layer.vectors.items() if name not in ("bias", "hidden_bias")}
    if "input" not in layer.matrices:
        parts["weight_ih"] = prepared.tokens.values.reshape(c.vocab_size, -1)[:, :G].T
    parts["bias_ih"] = layer.vectors.get("bias", np.zeros(G, np.float32))
    parts["bias_hh"] = np.zeros(G, np.float32)
    if "hidden_bias" in layer.vectors:
        parts["bias_hh"][2 * H :] = layer.vectors["hidden_bias"]
    return parts
