"""A plan's constants as JSON values, for the formats that decode them themselves."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from nblstm.exporting.plan import Matrix, Plan
from nblstm.tasks.classification.model import TextClassifier


def config(plan: Plan) -> dict[str, Any]:
    """Describe the network and its vocabulary."""
    c, vocabulary = plan.model.config, plan.model.vocabulary
    banned = vocabulary.never_written
    found = {
        "cell": c.cell, "nonlinearity": c.nonlinearity, "layers": c.num_layers, "hidden": c.hidden_size,
        "residual": c.residual, "head": c.head, "weights": plan.weights, "table_rows": plan.table_rows,
        "level": vocabulary.level, "tokenizer": vocabulary.tokenizer, "start": vocabulary.start_id,
        "end": vocabulary.end_id, "banned": banned[0] if banned else None,
    }  # fmt: skip
    if isinstance(plan.model, TextClassifier):
        found |= {
            "directions": c.directions,
            "pooling": c.pooling,
            "max_length": c.max_length,
            "labels": list(c.labels),
        }
    return found


def matrices(plan: Plan) -> dict[str, list[Any]]:
    """Name -> [rows, columns, columns of a stored row, its numbers, its scales] of every matrix, in base64."""
    return {name: _fields(matrix) for name, matrix in plan.matrices.items()}


def vectors(plan: Plan) -> dict[str, str]:
    """Name -> float32 numbers of every vector, in base64."""
    return {name: _base64(vector) for name, vector in plan.vectors.items()}


def _fields(matrix: Matrix) -> list[Any]:
    rows, columns = matrix.values.shape
    stride = matrix.shape[1]
    return [rows, columns, stride, _base64(matrix.numbers), "" if matrix.scales is None else _base64(matrix.scales)]


def _base64(array: np.ndarray) -> str:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(little.tobytes()).decode()
