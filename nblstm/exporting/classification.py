"""The exports of a text classifier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm.exporting import c_classifier_source as source
from nblstm.exporting import html_engine, html_source, py_classifier_source
from nblstm.exporting.c import array, compared, filled, label_names, layers_read, test_tokens, text_of_vocabulary
from nblstm.exporting.formats import ExportedKind, HeaderParts
from nblstm.exporting.onnx_graph import Graph
from nblstm.exporting.onnx_layers import Named, add_float, add_head, add_last, add_places, add_sum, add_texts
from nblstm.exporting.page_parts import BARS, READING_CONTROLS
from nblstm.exporting.plan import Plan, rounded
from nblstm.exporting.py_source import ENCODE_CODE
from nblstm.tasks.classification.model import TextClassifier
from nblstm.tasks.classification.network import ClassifierNetwork
from nblstm.text.batches import Chunk

LOWEST = -3e38  # what a maximum never is

CLASSIFIER_BODY = f"""\
{READING_CONTROLS}
</div>
<aside class="card"><h2>What it is</h2><ul id="bars" class="wide" aria-label="The most probable labels"></ul></aside>
</main>"""


def _header(plan: Plan, values: Mapping[str, Any]) -> HeaderParts:
    """What the C of a classifier has: what reads a text and finds its label."""
    c, vocabulary = plan.model.config, plan.model.vocabulary
    spaces, words = vocabulary.level == "word", vocabulary.level == "word" and vocabulary.tokenizer == "default"
    trim = (source.TRIM if spaces else "") + (source.NOTHING_BUT_BLANKS if words else "")
    behind = [
        label_names(c.labels),
        filled(source.READ_TEXT, {"trim": trim, "first": ", !count" if words else ""}),
        layers_read(plan, values),
        filled(source.CLASSIFY, {**values, "pooling": source.POOLINGS_CODE[c.pooling]}),
        filled(source.CLASSIFIER_MAIN, _test(plan)),
    ]
    return HeaderParts(source.CLASSIFIER_HEAD, text_of_vocabulary(vocabulary, True), behind)


def _test(plan: Plan) -> dict[str, str]:
    """The test's tokens, and the logits that the rounded weights give them."""
    model = rounded(plan)
    tokens = test_tokens(model.vocabulary)[: model.config.max_length]
    return compared(plan, array("int", "read", map(str, tokens.tolist())), classifier_logits(model, tokens))


def classifier_logits(model: TextClassifier, tokens: np.ndarray) -> np.ndarray:
    """Compute the logits (labels,) of a text of these tokens (T,), by the specification."""
    network = ClassifierNetwork(model.config, model.parameters, "numpy", 1)
    chunk = Chunk.rectangle(tokens[:, None], np.zeros((1, 1), np.int32), fresh=True)
    return network.outputs(chunk, network.initial_state(1))[0][0]


def _mean(graph: Graph, rows: str, places: str, lengths: str, named: Named, c: Any) -> str:
    """The mean over a text's steps."""
    there = add_float(graph, graph.node("Less", places, lengths))
    return add_sum(graph, rows, graph.node("Div", there, add_float(graph, lengths)))


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
    return add_sum(graph, rows, graph.node("Softmax", kept, axis=0))


POOLINGS_OF_ONNX = {"last": add_last, "mean": _mean, "max": _max, "attention": _attention}


def _graph(graph: Graph, named: Named, c: Any) -> dict[str, str]:
    """Add the network; what its metadata says."""
    features = add_texts(graph, named, c)
    places, lengths = add_places(graph, features, "lengths")
    add_head(graph, POOLINGS_OF_ONNX[c.pooling](graph, features, places, lengths, named, c), named)
    graph.node("Softmax", "logits", outputs=["probabilities"], axis=-1)
    for name in ("logits", "probabilities"):
        graph.made(name, ["batch", c.num_outputs])
    return {"labels": json.dumps(list(c.labels)), "max_length": str(c.max_length)}


EXPORTED_CLASSIFIER = ExportedKind(
    TextClassifier,
    _header,
    (py_classifier_source.CLASSIFIER_DOC, ENCODE_CODE + py_classifier_source.CLASSIFIER_CODE),
    (CLASSIFIER_BODY, html_engine.ENGINE + html_engine.CLASSIFIER_ENGINE + BARS + html_source.CLASSIFIER_PAGE_SCRIPT),
    _graph,
    ("pooling", "max_length", "labels"),
)
