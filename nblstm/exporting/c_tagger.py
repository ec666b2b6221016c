"""What the C of a tagger has that no other has: how words are looked up and spelled, and its chain of tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm.exporting import c_steps, c_tagger_source, c_texts
from nblstm.exporting.c import (
    ALLOWED,
    array,
    code_ranges,
    filled,
    label_names,
    layers_read,
    quoted,
    step_of,
    written_numbers,
)
from nblstm.exporting.plan import Plan, rounded
from nblstm.tasks.tagging.batches import TaggedSentences
from nblstm.tasks.tagging.network import TaggerNetwork
from nblstm.text.vocabulary import code_points

TEST_WORDS = 12  # that the header's test of itself reads
SIZES = r"\bNBLSTM_(?=(H|P|GATES)\b)"  # of the layers, in the code of a step


def head_of(plan: Plan) -> str:
    """Write the declarations; what all headers have is still to be filled in."""
    c = plan.model.config
    spelling = plan.spelling.model.config.hidden_size if plan.spelling else 0
    fits = c.num_outputs <= 1 << 16
    return filled(c_tagger_source.TAGGER_HEAD, {
        "spelled_room": max(1, 2 * spelling), "spell_hidden": max(1, spelling),
        "from_type": "uint16_t" if fits else "uint32_t",
    })  # fmt: skip


def words_of(plan: Plan) -> list[str]:
    """Write the words of the vocabulary, how one is looked up, and the characters that are known."""
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


def tagging_of(plan: Plan, values: Mapping[str, Any]) -> list[str]:
    """Write what reads a sentence and finds its tags."""
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
        "from_type": "uint16_t" if c.num_outputs <= 1 << 16 else "uint32_t",
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


def reference_of(plan: Plan) -> dict[str, Any]:
    """Return the test's words, and the scores that the rounded weights give them."""
    model = rounded(plan)
    words = _test_words(model)
    scores = tag_scores(model, words).astype(np.float32)
    arrays = "static const char *const nblstm_read[] = {" + ", ".join(f'"{quoted(word)}"' for word in words) + "};\n"
    arrays += array("float", "reference", written_numbers(scores))
    return {"reference": arrays, "allowed": f"{ALLOWED[plan.weights] * max(1.0, float(np.abs(scores).max())):.3g}"}


def _test_words(model: Any) -> list[str]:
    """Some words of the vocabulary, and one that is not there; none with a NUL or a blank in it."""
    tokens, V = model.vocabulary.tokens, len(model.vocabulary)
    words = [tokens[(k * 7919) % V] for k in range(1, TEST_WORDS)] + ["Zzyzx9"]
    return [word for word in words if not re.search(r"[\s\0\ud800-\udfff]", word)]


def tag_scores(model: Any, words: list[str]) -> np.ndarray:
    """Compute the scores (T, tags) of the tags of each word of a sentence, by the specification."""
    network = TaggerNetwork(model.config, model.parameters, "numpy", 1)
    chunk = TaggedSentences([words], np.zeros(len(words), np.int32), model.vocabulary, model.config, 1).epoch(0)[0]
    return network.outputs(chunk, network.initial_state(1))[0]
