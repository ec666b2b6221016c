"""Format onnx: a model of text as one graph.

    a language model    tokens (steps, batch) int64, h (L, batch, R), c (L, batch, H) -> logits (steps, batch, V), h_next, c_next
    a masked one        tokens, lengths (batch,) int64 -> logits (steps, batch, V)
    a classifier        tokens, lengths -> logits (batch, labels), probabilities (batch, labels)
    a tagger            tokens, lengths, characters (letters, steps, batch), spelled (steps, batch) int64
                        -> scores (steps, batch, tags), tags (steps, batch) int64

A language model's graph serves a step and a sequence alike, its states passed in and out. R is what the file's input says:
where the output of an LSTM is projected, its h before that, and P where the cells are scanned. What stands behind a text's
length means nothing. The metadata holds the vocabulary, the labels, the token before a text and the state before one. What a
tagger reads and finds is in `onnx_tagger.py`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.exporting.kinds import exported_kind
from nblstm.exporting.onnx_graph import INT64, Fields, Graph
from nblstm.exporting.protobuf import message
from nblstm.nn.parameters import views

IR_VERSION, OPSET = 8, 17


def render_onnx(model: Any, weights: str | None) -> bytes:
    """Return the bytes of the file. ConfigError for a model that ONNX has no operators for, or other weights than float32."""
    checks.choice("weights of format onnx", "float32" if weights is None else weights, ("float32",))
    kind, graph, c = exported_kind(model, "onnx"), Graph(), model.config
    named = {name: array.astype(np.float64) for name, array in views(model.parameters, c).items()}
    graph.given("tokens", INT64, ["steps", "batch"])
    metadata = {"vocabulary": json.dumps(model.vocabulary.to_dict()), "start_id": str(model.vocabulary.start_id)}
    metadata |= kind.onnx(graph, named, c)
    fields: Fields = [(14, [(1, key), (2, text)]) for key, text in metadata.items()]
    return message([
        (1, IR_VERSION), (2, "Made by nblstm export"), (6, c.description), (7, graph.fields("model of text")),
        (8, [(1, ""), (2, OPSET)]), *fields,
    ])  # fmt: skip
