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
from nblstm.errors import ConfigError
from nblstm.exporting import onnx_cells
from nblstm.exporting.onnx_graph import FLOAT, INT64, Fields, Graph
from nblstm.exporting.onnx_layers import Named, add_both_ways, add_embedding, add_head, add_residual, first_states
from nblstm.exporting.onnx_tagger import add_spelled, add_tags
from nblstm.exporting.onnx_texts import add_classifier, add_masked
from nblstm.exporting.plan import check_exportable
from nblstm.exporting.protobuf import message
from nblstm.nn.parameters import cell_views, views
from nblstm.tasks.classification.model import TextClassifier
from nblstm.tasks.language.model import LanguageModel
from nblstm.tasks.masked.model import MaskedLanguageModel
from nblstm.tasks.tagging.model import Tagger

IR_VERSION, OPSET = 8, 17


def exported(model: Any, weights: str | None) -> bytes:
    """Return the bytes of the file. ConfigError for other weights than float32."""
    checks.choice("weights of format onnx", "float32" if weights is None else weights, ("float32",))
    return render_onnx(model)


def render_onnx(model: Any) -> bytes:
    """Return the bytes of the file. ConfigError for a model that ONNX has no operators for."""
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
        read = add_spelled if isinstance(model, Tagger) else add_embedding
        features = add_both_ways(graph, read(graph, named, c), "lengths", named, c)
        kinds = ((TextClassifier, add_classifier), (Tagger, add_tags), (MaskedLanguageModel, add_masked))
        head = next(head for kind, head in kinds if isinstance(model, kind))
        metadata |= head(graph, features, named, c)
    fields: Fields = [(14, [(1, key), (2, text)]) for key, text in metadata.items()]
    return message([
        (1, IR_VERSION), (2, "Made by nblstm export"), (6, c.description), (7, graph.fields("model of text")),
        (8, [(1, ""), (2, OPSET)]), *fields,
    ])  # fmt: skip


# ---------------------------------------------------------------- a language model: left to right, with its state


def _language(graph: Graph, named: Named, c: Any) -> dict[str, str]:
    """Add a language model; what its metadata says."""
    first = first_states(named, c)
    x, ends, passed = add_embedding(graph, named, c), [], None
    for name, state in first.items():
        graph.given(name, FLOAT, [c.num_layers, "batch", state.shape[1]])
    for layer, weights in enumerate(cell_views(named, c)):
        part = lambda state, layer=layer: graph.node("Gather", state, graph.constant([layer]), axis=0)
        before = [part(state) for state in first]
        passed = onnx_cells.add_cell(graph, x, before[0], before[-1], weights, c)
        x = add_residual(graph, passed.y, x, weights, c)
        ends.append((passed.h, passed.c))
    if c.head == "cell" and passed is not None:
        x = graph.node("Concat", x, passed.cs, axis=2)
    add_head(graph, x, named)
    graph.made("logits", ["steps", "batch", c.vocab_size])
    for name, parts in zip(first, zip(*ends)):
        graph.node("Concat", *parts, outputs=[f"{name}_next"], axis=0)
        graph.made(f"{name}_next", [c.num_layers, "batch", first[name].shape[1]])
    return {f"initial_{name}": json.dumps(state.tolist()) for name, state in first.items() if state.any()}
