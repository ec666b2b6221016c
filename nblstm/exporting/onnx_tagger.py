"""What a tagger's graph has that no other has: spellings, and the most probable tags of a sentence all together.

    tokens (steps, batch)               the numbers of words in the vocabulary, looked up as the metadata says (lowercase,
                                        zero_digits), 0 for unknown ones
    lengths (batch,)                    words of each sentence
    characters (letters, steps, batch)  of each word its characters: 1 for the first of the metadata's, 0 for unknown ones
    spelled (steps, batch)              how many of them each word has; 0 behind a sentence

The last two are there where spellings are read. Tags are numbers of the metadata's tags, those of spans in iobes, whatever
the scheme in which they were learned. The metadata's transitions, start and end are the chain's, for who searches himself.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from nblstm.exporting.onnx_graph import BOOL, FLOAT, INT64, Graph
from nblstm.exporting.onnx_layers import Named, add_both_ways, add_embedding, add_head
from nblstm.exporting.onnx_texts import add_last, add_places
from nblstm.exporting.plan import chain_scores
from nblstm.nn.spelling import below


def add_spelled(graph: Graph, named: Named, c: Any) -> str:
    """Add what the first layer reads: the vectors of words and what their characters make, side by side."""
    words = add_embedding(graph, named, c)
    if c.spelling is None:
        return words
    graph.given("characters", INT64, ["letters", "steps", "batch"])
    graph.given("spelled", INT64, ["steps", "batch"])
    own = below(named)
    letters = graph.node("Reshape", "characters", graph.constant([0, -1]))  # (letters, words of all sentences)
    counts = graph.node("Reshape", "spelled", graph.constant([-1]))
    vectors = graph.node("Gather", graph.constant(own["embedding.weight"]), letters)
    rows = add_both_ways(graph, vectors, counts, own, c.spelling)
    last = add_last(graph, rows, *add_places(graph, rows, counts), own, c.spelling)
    shape = graph.node("Concat", graph.node("Shape", "tokens"), graph.constant([2 * c.char_hidden_size]), axis=0)
    return graph.node("Concat", words, graph.node("Reshape", last, shape), axis=2)


def add_tags(graph: Graph, features: str, named: Named, c: Any) -> dict[str, str]:
    """Add the head of a tagger; what its metadata says."""
    K = c.num_outputs
    add_head(graph, features, named, "scores")
    facts = {name: getattr(c, name) for name in ("tags", "scheme", "characters", "max_characters", "max_length")}
    facts |= {name: int(getattr(c, name)) for name in ("lowercase", "zero_digits")}
    if c.head == "crf":
        chain = {name: array.reshape(named[f"crf.{name}"].shape) for name, array in chain_scores(named, c).items()}
        _add_best(graph, chain, K)
        facts |= {name: array.astype(np.float32).tolist() for name, array in chain.items()}
    else:
        graph.node("ArgMax", "scores", outputs=["tags"], axis=2, keepdims=0)
    graph.made("scores", ["steps", "batch", K])
    graph.made("tags", ["steps", "batch"], INT64)
    return {name: fact if isinstance(fact, str) else json.dumps(fact) for name, fact in facts.items()}


def _add_best(graph: Graph, chain: Named, K: int) -> None:
    """Add the tags of the largest score (Viterbi 1967), as the output "tags": a Scan there and a Scan back."""
    places, lengths = add_places(graph, "scores", "lengths")
    there, first = graph.node("Less", places, lengths), graph.node("Equal", places, graph.constant(0))
    none = graph.node("Mul", graph.node("Gather", "scores", graph.constant(0), axis=0), graph.constant(np.float32(0)))
    best, before = graph.node(
        "Scan", none, "scores", there, first, outputs=2, body=_forwards(chain, K), num_scan_inputs=3
    )
    ends = graph.node("Add", best, graph.constant(chain["end"]))
    last = graph.node("ArgMax", ends, axis=1, keepdims=1)
    _, tags = graph.node(
        "Scan",
        last,
        before,
        outputs=2,
        body=_backwards(K),
        num_scan_inputs=1,
        scan_input_directions=[1],
        scan_output_directions=[1],
    )
    graph.node("Squeeze", tags, graph.constant([2]), outputs=["tags"])


def _forwards(chain: Named, K: int) -> Graph:
    """A step of a sentence: the score of the best tags that end with each, and the tag before. Behind its end nothing changes."""
    body = Graph("there: ")
    best, scores = (body.given(f"there: {name}", FLOAT, ["batch", K]) for name in ("best", "scores"))
    there, first = (body.given(f"there: {name}", BOOL, [size, 1]) for name, size in (("is", "batch"), ("first", 1)))
    # best[j] = score[j] + max over i of best[i] + transition[i, j]
    column = body.node("Unsqueeze", best, body.constant([2]))
    sums = body.node("Add", column, body.constant(chain["transitions"]))
    most = body.node("Where", first, body.constant(chain["start"]), body.node("ReduceMax", sums, axes=[1], keepdims=0))
    after = body.node("Where", there, body.node("Add", scores, most), best)
    itself = body.constant(np.arange(K)[None])
    before = body.node("Where", there, body.node("ArgMax", sums, axis=1, keepdims=0), itself)
    body.made(after, ["batch", K])
    body.made(before, ["batch", K], INT64)
    return body


def _backwards(K: int) -> Graph:
    """A step back: the tag of a word, and from it the tag of the one before."""
    body = Graph("back: ")
    tag, before = body.given("back: tag", INT64, ["batch", 1]), body.given("back: before", INT64, ["batch", K])
    body.made(body.node("GatherElements", before, tag, axis=1), ["batch", 1], INT64)
    body.made(body.node("Identity", tag), ["batch", 1], INT64)
    return body
