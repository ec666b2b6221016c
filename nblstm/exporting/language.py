"""The exports of a language model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm.exporting import c_source, c_steps, html_engine, html_source, onnx_cells, py_language_source
from nblstm.exporting.c import array, compared, filled, test_tokens, text_of_vocabulary
from nblstm.exporting.formats import ExportedKind, HeaderParts
from nblstm.exporting.onnx_graph import FLOAT, Graph
from nblstm.exporting.onnx_layers import Named, add_embedding, add_head, add_residual, first_states
from nblstm.exporting.page_parts import WRITING, WRITING_BODY
from nblstm.exporting.plan import Plan, rounded
from nblstm.exporting.py_source import ENCODE_CODE
from nblstm.nn.parameters import cell_views
from nblstm.tasks.language.model import LanguageModel

TEST_LOGITS = 64  # that the header's test compares, at most


def _header(plan: Plan, values: Mapping[str, Any]) -> HeaderParts:
    """What the C of a language model has."""
    beside = _beside(plan.model.config) if plan.model.config.head == "cell" else ""
    behind = [filled(c_steps.FEED, {**values, "beside": beside}), c_source.SAMPLE, filled(c_source.MAIN, _test(plan))]
    return HeaderParts(c_source.LANGUAGE_HEAD, text_of_vocabulary(plan.model.vocabulary, False), behind)


def _beside(config: Any) -> str:
    """Put the last layer's memory beside its output, as the cell head sees it."""
    last = (config.num_layers - 1) * config.hidden_size
    return f"\n    for (i = 0; i < NBLSTM_H; i++) state->features[NBLSTM_P + i] = state->c[{last} + i];"


def _test(plan: Plan) -> dict[str, str]:
    """The test's tokens, and some of the logits that the rounded weights give behind them."""
    model, V = rounded(plan), plan.model.config.num_outputs
    tokens, asked = test_tokens(model.vocabulary), np.unique(np.linspace(0, V - 1, min(V, TEST_LOGITS)).astype(int))
    read = array("int", "read", map(str, tokens.tolist())) + array("int", "asked", map(str, asked.tolist()))
    return compared(plan, read, reference_logits(model, tokens)[-1], asked)


def reference_logits(model: Any, tokens: np.ndarray) -> np.ndarray:
    """Compute the logits (T, V) behind each of the tokens (T,), by the specification."""
    network = model.network("numpy")
    decoder, state, rows = network.decoder(1), network.initial_state(1), []
    for token in tokens:
        rows.append(decoder(np.array([token], np.int64), state)[0])
    return np.array(rows)


def _graph(graph: Graph, named: Named, c: Any) -> dict[str, str]:
    """Add the network, left to right, with its state; what its metadata says."""
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


EXPORTED_LANGUAGE = ExportedKind(
    LanguageModel,
    _header,
    (py_language_source.LANGUAGE_DOC, ENCODE_CODE + py_language_source.LANGUAGE_CODE),
    (WRITING_BODY, html_engine.ENGINE + html_engine.WRITER + WRITING + html_source.PAGE_SCRIPT),
    _graph,
)
