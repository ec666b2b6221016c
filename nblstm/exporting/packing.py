"""A plan's constants as JSON values, for the formats that decode them themselves; those of a tagger's spelling apart."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import numpy as np

from nblstm.exporting.plan import Matrix, Plan


def config(plan: Plan) -> dict[str, Any]:
    """Describe the network and its vocabulary."""
    c, vocabulary = plan.model.config, plan.model.vocabulary
    banned = vocabulary.never_written
    found = _layers(plan) | {
        "head": c.head,
        "level": vocabulary.level,
        "tokenizer": vocabulary.tokenizer,
        "newline": vocabulary.newline,
        "start": vocabulary.start_id,
        "end": vocabulary.end_id,
        "banned": banned[0] if banned else None,
    }
    found |= {name: getattr(c, name) for name in plan.kind.facts}
    return {name: list(fact) if isinstance(fact, tuple) else fact for name, fact in found.items()}


def _layers(plan: Plan) -> dict[str, Any]:
    """Describe the layers."""
    c = plan.model.config
    return {
        "cell": c.cell,
        "nonlinearity": c.nonlinearity,
        "layers": c.num_layers,
        "hidden": c.hidden_size,
        "directions": c.directions,
        "residual": c.residual,
        "weights": plan.weights,
        "table_rows": plan.table_rows,
    }


def spelling(plan: Plan) -> tuple[dict[str, Any], dict[str, list[Any]], dict[str, str]] | None:
    """Describe the layer that reads a tagger's words: (its layers, matrices, vectors); None where there is none."""
    own = plan.spelling
    if own is None:
        return None
    config, H = own.model.config, own.model.config.hidden_size
    zero = np.zeros(len(config.cells) * H, np.float32)
    return _layers(own), matrices(own), vectors(replace(own, own_vectors={"h": zero, "c": zero}))


def matrices(plan: Plan) -> dict[str, list[Any]]:
    """Name -> [rows, columns, columns of a stored row, its numbers, its scales] of every matrix, in base64."""
    return {name: _fields(matrix) for name, matrix in replace(plan, spelling=None).matrices.items()}


def vectors(plan: Plan) -> dict[str, str]:
    """Name -> float32 numbers of every vector, in base64."""
    return {name: _base64(vector) for name, vector in replace(plan, spelling=None).vectors.items()}


def _fields(matrix: Matrix) -> list[Any]:
    rows, columns = matrix.values.shape
    stride = matrix.shape[1]
    return [rows, columns, stride, _base64(matrix.numbers), "" if matrix.scales is None else _base64(matrix.scales)]


def _base64(array: np.ndarray) -> str:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(little.tobytes()).decode()
