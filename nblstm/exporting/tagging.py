"""The exports of a tagger: how words are looked up and spelled, and its chain of tags. Its graph:

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
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm.exporting import c_steps, c_tagger_source, c_texts, html_engine, html_tagger_source, py_tagger_source
from nblstm.exporting.c import array, code_ranges, compared, filled, label_names, layers_read, quoted, step_of
from nblstm.exporting.formats import ExportedKind, HeaderParts
from nblstm.exporting.onnx_graph import BOOL, FLOAT, INT64, Graph
from nblstm.exporting.onnx_layers import Named, add_both_ways, add_embedding, add_head, add_last, add_places, add_texts
from nblstm.exporting.page_parts import BARS, READING_CONTROLS
from nblstm.exporting.plan import Plan, chain_scores, rounded
from nblstm.nn.spelling import below
from nblstm.tasks.tagging.batches import TaggedSentences
from nblstm.tasks.tagging.model import Tagger
from nblstm.tasks.tagging.network import TaggerNetwork
from nblstm.text.vocabulary import code_points

TEST_WORDS = 12  # that the header's test of itself reads
SIZES = r"\bNBLSTM_(?=(H|P|GATES)\b)"  # of the layers, in the code of a step

TAGGER_BODY = f"""\
{READING_CONTROLS}
<section class="card"><h2>The text, a sentence a line</h2><div id="view" class="reading" role="status"></div></section>
</div>
<aside class="card"><h2>What is found</h2><p id="none" class="soft">Nothing yet.</p><ul id="found"></ul></aside>
</main>"""


def _header(plan: Plan, values: Mapping[str, Any]) -> HeaderParts:
    """What the C of a tagger has."""
    c = plan.model.config
    spelling = plan.spelling.model.config.hidden_size if plan.spelling else 0
    types = {"from_type": "uint16_t" if c.num_outputs <= 1 << 16 else "uint32_t"}
    sizes = {"spelled_room": max(1, 2 * spelling), "spell_hidden": max(1, spelling)}
    head = {name: filled(text, types | sizes) for name, text in c_tagger_source.TAGGER_HEAD.items()}
    behind = [*_tagging(plan, {**values, **types}), filled(c_tagger_source.TAGGER_MAIN, _test(plan))]
    return HeaderParts(head, _words(plan), behind)


def _words(plan: Plan) -> list[str]:
    """The words of the vocabulary, how one is looked up, and the characters that are known."""
    c, vocabulary = plan.model.config, plan.model.vocabulary
    texts = [word.encode("utf-8", "surrogatepass") for word in vocabulary.tokens]
    offsets = np.cumsum([0, *map(len, texts)])
    parts = [
        array("uint8_t", "bytes", map(str, b"".join(texts))),
        array("uint32_t", "offsets", map(str, offsets.tolist())),
        f"#define NBLSTM_LONGEST {max(map(len, texts))}  /* bytes of a word that it knows */\n",
    ]
    fold = ""
    if c.lowercase:
        small = _small_letters({letter for word in vocabulary.tokens for letter in word})
        written = [lower.encode() for lower in small.values()]
        parts += [
            array("uint32_t", "capital", map(str, small)),
            array("uint8_t", "small", map(str, b"".join(written))),
            array("uint16_t", "small_at", map(str, np.cumsum([0, *map(len, written)]).tolist())),
        ]
        fold += c_tagger_source.FOLD_CASE
    if c.zero_digits:
        parts.append(array("uint32_t", "digit", map(str, code_ranges(r"\d"))))
        fold += c_tagger_source.FOLD_DIGITS
    parts.append(filled(c_texts.FIND, dict.fromkeys(("blank_parameter", "skip", "blank"), "")))
    parts += [c_texts.RANGES] if c.zero_digits else []
    parts.append(filled(c_tagger_source.LOOK_UP, {"fold": fold}))
    return [*parts, *_characters(c.characters)] if plan.spelling else parts


def _small_letters(known: set[str]) -> dict[int, str]:
    """Code point -> its lower case, of all whose lower case is another, made of known characters; at least one.

    A capital without such a lower case is in no word that is known.
    """
    letters = map(chr, range(0x110000))
    found = {
        ord(letter): lower for letter in letters if (lower := letter.lower()) != letter and known.issuperset(lower)
    }
    return found or {ord("A"): "a"}


def _characters(characters: str) -> list[str]:
    """The known characters in order of their code points, and the number of each."""
    points = code_points(characters or "\0")
    order = np.argsort(points, kind="stable")
    numbers = order + 1 if characters else np.zeros(1, np.int64)
    return [
        array("uint32_t", "known", map(str, points[order].tolist())),
        array("int", "known_as", map(str, numbers.tolist())),
    ]


def _tagging(plan: Plan, values: Mapping[str, Any]) -> list[str]:
    """What reads a sentence and finds its tags."""
    c, parts = plan.model.config, [label_names(plan.model.config.tags)]
    spell = more = ""
    if plan.spelling is not None:
        own = plan.spelling.model.config
        step = step_of(plan.spelling)
        names = {"spell_row": step["widest"], "spell_embedding": own.embedding_size, "characters": c.max_characters}
        code = re.sub(SIZES, "NBLSTM_SPELL_", filled(c_steps.STEP_CODE, step))
        parts.append(code.replace("nblstm_step", "nblstm_spell_step").replace("nblstm_layer", "nblstm_spell_layer"))
        parts.append(filled(c_tagger_source.SPELLING, names))
        spell = "        nblstm_spell(words[t], end, work->spelled + (long)t * 2 * NBLSTM_SPELL_H);"
        more = c_tagger_source.READ_SPELLED
    chained, marks = c.head == "crf", c.scheme != "none"
    best = c_tagger_source.VITERBI if chained else c_tagger_source.EACH_BEST
    names = {
        "spell": spell,
        "scheme": c.scheme,
        "letter": c_tagger_source.LETTERS.get(c.scheme, ""),
        "rewrite": "    nblstm_rewrite(tags, count);" if marks else "",
    }
    every = {**values, **names}
    parts += [
        layers_read(plan, values, filled(more, values)),
        filled(c_tagger_source.TAG_SCORES, every),
        filled(best, every),
    ]
    parts += [filled(c_tagger_source.SPANS, every)] if marks else []
    return [*parts, filled(c_tagger_source.TAG, every)]


def _test(plan: Plan) -> dict[str, str]:
    """The test's words, and the scores that the rounded weights give them.

    Some words of the vocabulary, and one that is not there; none with a NUL or a blank in it.
    """
    model = rounded(plan)
    tokens, V = model.vocabulary.tokens, len(model.vocabulary)
    words = [tokens[(k * 7919) % V] for k in range(1, TEST_WORDS)] + ["Zzyzx9"]
    words = [word for word in words if not re.search(r"[\s\0\ud800-\udfff]", word)]
    names = ", ".join(f'"{quoted(word)}"' for word in words)
    return compared(plan, f"static const char *const nblstm_read[] = {{{names}}};\n", tag_scores(model, words))


def tag_scores(model: Any, words: list[str]) -> np.ndarray:
    """Compute the scores (T, tags) of the tags of each word of a sentence, by the specification."""
    network = TaggerNetwork(model.config, model.parameters, "numpy", 1)
    chunk = TaggedSentences([words], np.zeros(len(words), np.int32), model.vocabulary, model.config, 1).epoch(0)[0]
    return network.outputs(chunk, network.initial_state(1))[0]


def _add_spelled(graph: Graph, named: Named, c: Any) -> str:
    """What the first layer reads: the vectors of words and what their characters make, side by side."""
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


def _graph(graph: Graph, named: Named, c: Any) -> dict[str, str]:
    """Add the network; what its metadata says."""
    K = c.num_outputs
    add_head(graph, add_texts(graph, named, c, _add_spelled), named, "scores")
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


EXPORTED_TAGGER = ExportedKind(
    Tagger,
    _header,
    (py_tagger_source.TAGGER_DOC, py_tagger_source.TAGGER_CODE),
    (TAGGER_BODY, html_engine.ENGINE + html_tagger_source.TAGGER_ENGINE + BARS + html_tagger_source.TAGGER_PAGE_SCRIPT),
    _graph,
    ("max_length", "tags", "scheme", "characters", "max_characters", "lowercase", "zero_digits"),
)
