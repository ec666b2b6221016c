"""The export of a masked language model: a graph."""

from __future__ import annotations

from typing import Any

from nblstm.exporting.formats import ExportedKind
from nblstm.exporting.onnx_graph import Graph
from nblstm.exporting.onnx_layers import Named, add_head, add_texts
from nblstm.tasks.masked.model import MaskedLanguageModel


def _graph(graph: Graph, named: Named, c: Any) -> dict[str, str]:
    """Add the network; what its metadata says."""
    add_head(graph, add_texts(graph, named, c), named)
    graph.made("logits", ["steps", "batch", c.vocab_size])
    return {"mask_id": "0"}


EXPORTED_MASKED = ExportedKind(MaskedLanguageModel, onnx=_graph)
