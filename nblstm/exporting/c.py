"""Format c: a model of text as one C header, vocabulary, sampling and a test of itself included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nblstm.errors import ConfigError
from nblstm.exporting import c_classifier_source, c_products, c_source, c_sparse, c_steps, c_tagger_source, c_texts
from nblstm.exporting.plan import GROUP, SPELL, Matrix, Plan, rounded
from nblstm.tasks.classification.model import TextClassifier
from nblstm.tasks.classification.network import ClassifierNetwork
from nblstm.tasks.tagging.model import Tagger
from nblstm.text.batches import Chunk
from nblstm.text.vocabulary import Vocabulary

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
C_WIDTH = 118  # characters of a line of numbers
TEST_TOKENS, TEST_LOGITS = 32, 64  # that the header's test reads and compares, at most
ALLOWED = {"float32": 1e-5, "bfloat16": 1e-5, "int8": 1e-2, "int4": 1e-2}  # of the rounded weights' logits, which are
# about 1 in size; that of integers is what 16 bits of an activation cost


def render_c(plan: Plan, file: str, name: str = "nblstm") -> str:
    """Write the header. file: its name, for the comment. ConfigError for a name that is no identifier of C."""
    if not IDENTIFIER.fullmatch(name):
        raise ConfigError(f"name must be letters, digits and underscores, a letter first, got {name!r:.80}.")
    from nblstm.exporting import c_tagger  # which is made of what is here

    values = _facts(plan) | step_of(plan) | {"file": commented(file), "name": name}
    vectors, product, kind = _kernels(plan.weights)
    classifies, tags = isinstance(plan.model, TextClassifier), isinstance(plan.model, Tagger)
    kernels = filled(vectors, kind) + filled(product, kind)
    if _is_sparse(plan):
        kernels = c_sparse.with_sparse_product(
            kernels, filled(c_sparse.SPARSE_PRODUCT, c_sparse.SPARSE_KINDS[plan.weights])
        )
    if plan.weights == "int4":
        kernels = kernels.replace("\n/* y (count", c_products.NIBBLE + "\n/* y (count", 1)
    step = filled(c_steps.STEP, {"step": c_steps.STEP_CODE + ("" if classifies or tags else c_steps.FEED)})
    head = c_tagger.head_of(plan) if tags else c_classifier_source.CLASSIFIER_HEAD if classifies else c_source.HEAD
    parts = [
        filled(head, values),
        c_products.BITS, c_products.BFLOAT if plan.weights in ("bfloat16", "int4") else "", kind["types"], kernels,
        weights_of(plan), *(c_tagger.words_of(plan) if tags else text_of_vocabulary(plan.model.vocabulary, classifies)),
        filled(step, values),
    ]  # fmt: skip
    if tags:
        parts += c_tagger.tagging_of(plan, values)
        parts.append(filled(c_tagger_source.TAGGER_MAIN, c_tagger.reference_of(plan)))
    elif classifies:
        parts += [label_names(plan.model.config.labels), *_classifying(plan, values)]
        parts.append(filled(c_classifier_source.CLASSIFIER_MAIN, _reference(plan)))
    else:
        parts += [c_source.SAMPLE, filled(c_source.MAIN, _reference(plan))]
    return _prefixed("".join(parts), name)


def commented(file: str) -> str:
    """Write a file's name as a comment can hold it."""
    return re.sub(r"[^A-Za-z0-9._ -]", "_", file)


def filled(text: str, values: Mapping[str, Any]) -> str:
    """Replace the @names@ of a text that are among the values."""
    return re.sub(r"@(\w+)@", lambda found: str(values.get(found[1], found[0])), text)


def _prefixed(text: str, name: str) -> str:
    """The text with every name of ours under the model's prefix, but for the NBLSTM_MAIN that is asked for."""
    if name == "nblstm":
        return text
    text = re.sub(r"\bnblstm_(?=\w)", f"{name}_", text)
    return re.sub(r"\bNBLSTM_(?!MAIN\b)(?=\w)", f"{name.upper()}_", text)


def _kernels(weights: str) -> tuple[str, str, dict[str, str]]:
    """(the vectors, the product, what is filled in) of a kind of weights."""
    if weights.startswith("int"):
        return c_products.INT_VECTORS, c_products.INT_PRODUCT, c_products.INT8 if weights == "int8" else c_products.INT4
    return (
        c_products.FLOAT_VECTORS,
        c_products.FLOAT_PRODUCT,
        c_products.FLOAT32 if weights == "float32" else c_products.BFLOAT16,
    )


def _facts(plan: Plan) -> dict[str, Any]:
    """The sizes of the network and of its vocabulary."""
    c, vocabulary = plan.model.config, plan.model.vocabulary
    words = f"{c.description}: {c.num_parameters:,} parameters, {len(vocabulary):,} tokens"
    prompt = re.sub(r"[^A-Za-z0-9 ]", "", "".join(vocabulary.tokens[-3:]))[:20]
    banned = vocabulary.never_written
    h, memory = plan.own_vectors["h"], plan.own_vectors["c"]
    return {
        "description": re.sub(r"\*/|[^ -~]", "?", words),
        "weights": plan.weights, "bytes": f"{plan.nbytes:,}", "prompt": prompt, "vocab": len(vocabulary),
        "start": vocabulary.start_id, "end": -1 if vocabulary.end_id is None else vocabulary.end_id,
        "banned": banned[0] if banned else -1, "layers": c.num_layers, "hidden": c.hidden_size,
        "outputs": c.cells[0].output_size, "gates": c.cells[0].gates, "features": c.head_size,
        "h_size": h.size, "c_size": max(1, memory.size), "embedding": c.embedding_size,
        "directions": c.directions, "labels": c.num_outputs, "max_length": getattr(c, "max_length", 0),
        "buffers": min(2, c.num_layers), "outputs_of_layer": c.output_size,
    }  # fmt: skip


def step_of(plan: Plan) -> dict[str, Any]:
    """Return the pieces of a step: what this network has."""
    c = plan.model.config
    columns = [matrix.shape[1] for name, matrix in plan.matrices.items() if name != "tokens" or not plan.table_rows]
    widest = max(*columns, c.output_size, c.input_size, c.hidden_size)
    read = f"nblstm_rows(z, &nblstm_tokens, (long)token * {plan.table_rows}, {plan.table_rows});"
    if not plan.table_rows:
        read = "nblstm_rows(@row@, &nblstm_tokens, token, 1);"
    kind = c.nonlinearity if c.cell == "rnn" else "peepholes" if c.peepholes else c.cell
    apart = c.cell == "gru" or (c.layer_norm and c.cell != "mingru")
    squash = c_steps.NORMALIZED_MEMORY if c.layer_norm else ""
    adds_first = int(c.embedding_size == c.output_size)
    carried = filled(c_steps.RESIDUAL, {"first": "1" if adds_first else "layer"}) if c.residual else c_steps.PLAIN
    memory = "state->c + layer * NBLSTM_H" if c.cells[0].has_memory else "0"
    spells = plan.spelling is not None  # by an LSTM
    needs_tanh = spells or kind not in ("mingru", "relu") or getattr(c, "pooling", "") == "attention"
    return {
        "widest": widest, "pre": max(plan.table_rows * GROUP, c.cells[0].gates * c.hidden_size),
        "read": filled(f"    {read}", {"row": "x"}), "products": _products(plan, apart),
        "other": " float b[NBLSTM_GATES * NBLSTM_H];" if apart else "",
        "cell": filled(c_steps.CELLS_CODE[kind], {"squash": squash}),
        "output": c_steps.PROJECTED if c.proj_size else c_steps.OUTPUT_CODE, "carry": carried,
        "first_input": "layer ? x : 0" if plan.table_rows else "x", "memory": memory,
        "functions": (c_steps.SIGMOID if spells or c.cell != "rnn" else "") + (c_steps.TANH if needs_tanh else "")
        + (c_steps.NORMALIZE if c.layer_norm else ""),
        "beside": _beside(c) if c.head == "cell" else "",
    }  # fmt: skip


def _products(plan: Plan, apart: bool) -> str:
    """The products of a step: with its input, unless the table holds that of the only layer, and with h.

    apart: the second is not added to the first, for a reset gate or a normalisation comes between them.
    """
    c, found = plan.model.config, []
    if any("input" in layer.matrices for layer in plan.layers):
        normalized, begin = (c_steps.NORMALIZED_INPUT, "0.0f") if c.layer_norm else ("", "l->bias[i]")
        found.append(filled(c_steps.PRODUCT_OF_INPUT, {"begin": begin, "normalized": normalized}))
    if "recurrent" in plan.layers[0].matrices:
        joined = c_steps.HIDDEN_BIAS if c.cell == "gru" else c_steps.SUM_OF_BOTH
        normalized = c_steps.NORMALIZED_RECURRENT if c.layer_norm else ""
        code = c_steps.RECURRENT_APART if apart else c_steps.RECURRENT_CODE
        found.append(filled(code, {"joined": joined, "normalized": normalized}))
    return "\n".join(found)


def _beside(config: Any) -> str:
    """Put the last layer's memory beside its output, as the cell head sees it."""
    last = (config.num_layers - 1) * config.hidden_size
    return f"\n    for (i = 0; i < NBLSTM_H; i++) state->features[NBLSTM_P + i] = state->c[{last} + i];"


def _classifying(plan: Plan, values: Mapping[str, Any]) -> list[str]:
    """What reads a text and finds its label."""
    c, vocabulary = plan.model.config, plan.model.vocabulary
    spaces, words = vocabulary.level == "word", vocabulary.level == "word" and vocabulary.tokenizer == "default"
    trim = c_classifier_source.TRIM if spaces else ""
    trim += c_classifier_source.NOTHING_BUT_BLANKS if words else ""
    reading = filled(c_classifier_source.READ_TEXT, {"trim": trim, "first": ", !count" if words else ""})
    pooling = c_classifier_source.POOLINGS_CODE[c.pooling]
    return [reading, layers_read(plan, values), filled(c_classifier_source.CLASSIFY, {**values, "pooling": pooling})]


def layers_read(plan: Plan, values: Mapping[str, Any], more: str = "") -> str:
    """Write what reads a whole text, layer by layer, in one direction or both. more: read of a token behind its embedding."""
    c, memory = plan.model.config, plan.model.config.cells[0].memory_size
    residual = " + (layer ? x[first + i] : 0.0f)" if c.input_size != c.output_size else " + x[first + i]"
    own = {
        "read": values["read"].replace("(x,", "(row,").replace("    ", " " * 16, 1) + more, "input": c.input_size,
        "memory_size": max(1, memory), "memory_place": "cell * NBLSTM_H + i" if memory else "0",
        "residual": residual if c.residual else "", "given": "layer ? x : 0" if plan.table_rows else "x",
    }  # fmt: skip
    return filled(c_classifier_source.READ_LAYERS, {**values, **own})


def label_names(labels: Iterable[str]) -> str:
    """Write the names of the labels."""
    lines = "".join(f'    "{quoted(name)}",\n' for name in labels)
    return f"\nstatic const char *const nblstm_labels[] = {{\n{lines}}};\n"


def quoted(text: str) -> str:
    """Write a text as it stands between quotes of C: every byte but letters and digits as an octal number."""
    data = text.encode("utf-8", "replace")
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\{byte:03o}" for byte in data)


# ---------------------------------------------------------------- constants


def array(type: str, name: str, numbers: Iterable[str]) -> str:
    """Write a constant array of C; at least one number."""
    lines, line = [], ""
    for number in numbers:
        if len(line) + len(number) + 2 > C_WIDTH:
            lines.append(line)
            line = ""
        line += f"{number}, "
    lines.append(line)
    body = "\n    ".join(text.rstrip() for text in lines)
    return f"static const {type} nblstm_{name}[] = {{\n    {body}\n}};\n"


def number(x: float) -> str:
    """Write a float of C that reads back as the same float32."""
    text = f"{np.float32(x):.9g}"
    return f"{text}f" if "e" in text or "." in text else f"{text}.0f"


def written_numbers(numbers: np.ndarray) -> Iterable[str]:
    flat = numbers.reshape(-1)
    return map(number, flat.tolist()) if flat.dtype == np.float32 else map(str, flat.tolist())


TYPES = {"float32": "float", "int8": "int8_t", "uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint32_t"}


def _is_sparse(plan: Plan) -> bool:
    """Whether some matrix is stored in blocks."""
    return any(matrix.blocks is not None for matrix in plan.matrices.values())


def _matrix(name: str, matrix: Matrix, sparse: bool) -> tuple[str, str]:
    """(the arrays of a matrix, its initialiser). sparse: whether there are matrices in blocks."""
    numbers = matrix.numbers if matrix.blocks is None else matrix.blocks.numbers
    arrays = array(TYPES[numbers.dtype.name], f"{name}_w", written_numbers(numbers) if numbers.size else ["0"])
    fields = f"nblstm_{name}_w, "
    if matrix.scales is not None:
        arrays += array(TYPES[matrix.scales.dtype.name], f"{name}_scale", written_numbers(matrix.scales))
        fields += f"nblstm_{name}_scale, "
    fields += f"{matrix.shape[0]}, {matrix.shape[1]}"
    if matrix.blocks is not None:
        for kind, values in (("places", matrix.blocks.places), ("starts", matrix.blocks.starts)):
            arrays += array(
                TYPES[values.dtype.name], f"{name}_{kind}", written_numbers(values) if values.size else ["0"]
            )
            fields += f", nblstm_{name}_{kind}"
    elif sparse:
        fields += ", 0, 0"
    return arrays, f"{{{fields}}}"


def weights_of(plan: Plan) -> str:
    """Write all weights, and the layers that are made of them."""
    text, made = "\n/* " + "-" * 64 + " weights */\n\n", {}
    for name, matrix in plan.matrices.items():
        arrays, made[name] = _matrix(name, matrix, _is_sparse(plan))
        text += arrays
    for name, vector in plan.vectors.items():
        text += array("float", name, written_numbers(vector) if vector.size else ["0.0f"])
    tokens = made.get("tokens", made["head"])
    declared = {"tokens": tokens, "head": made["head"], "attention": made.get("attention")}
    for name, initialiser in declared.items():
        text += f"static const nblstm_matrix nblstm_{name} = {initialiser};\n" if initialiser else ""
    if plan.spelling is not None:
        text += f"static const nblstm_matrix nblstm_{SPELL}head = {made[SPELL + 'head']};\n"
        text += _layers(plan.spelling, made, SPELL).replace("nblstm_layer", f"nblstm_{SPELL}layer")
    return text + _layers(plan, made)


def _layers(plan: Plan, made: Mapping[str, str], prefix: str = "") -> str:
    """The array of the layers. made: matrix -> its initialiser. A layer has a field for what one of them has.

    prefix: of the names of their weights.
    """
    fields = lambda kind: list(dict.fromkeys(name for layer in plan.layers for name in getattr(layer, kind)))
    matrices, vectors = fields("matrices"), fields("vectors")
    count = 3 + (plan.head.scales is not None) + 2 * _is_sparse(plan)
    none = f"{{{', '.join(['0'] * count)}}}"
    declared = f"    nblstm_matrix {', '.join(matrices)};\n" if matrices else ""
    declared += f"    const float *{', *'.join(vectors)};\n" if vectors else ""
    rows = []
    for k, layer in enumerate(plan.layers):
        parts = [made.get(f"{prefix}{name}{k}", none) for name in matrices]
        parts += [f"nblstm_{prefix}{name}{k}" if name in layer.vectors else "0" for name in vectors]
        rows.append(f"    {{{', '.join(parts) or '0'}}},\n")
    declared = declared or "    int nothing;\n"  # one minGRU whose input is in the table
    return (
        f"\ntypedef struct {{\n{declared}}} nblstm_layer;\n\n"
        f"static const nblstm_layer nblstm_layers[] = {{\n{''.join(rows)}}};\n"
    )


# ---------------------------------------------------------------- text


def text_of_vocabulary(vocabulary: Vocabulary, classifies: bool) -> list[str]:
    """Write the vocabulary's bytes and the code that reads and writes them; a classifier writes none."""
    spaced = vocabulary.level == "word" and vocabulary.tokenizer == "whitespace"
    texts = [_bytes(vocabulary, id, spaced) for id in range(len(vocabulary))]
    offsets = np.cumsum([0, *map(len, texts)])
    data = b"".join(texts) or b"\0"
    size = "uint16_t" if offsets[-1] < 1 << 16 else "uint32_t"
    parts = [array("uint8_t", "bytes", map(str, data)), array(size, "offsets", map(str, offsets.tolist()))]
    if not classifies:
        parts.append(filled(c_texts.TEXT_CODE, {"spacing": c_texts.SPACING if spaced else ""}))
    blank = classifies and vocabulary.level == "word" and not spaced
    values = {
        "linkage": "static " if classifies else "", "skip": c_texts.SKIP if spaced else "",
        "blank": c_texts.BLANK if blank else "", "blank_parameter": ", int blank" if blank else "",
        "blank_value": ", blank" if blank else "", "line_end": "",
    }  # fmt: skip
    if vocabulary.newline == "lf":
        newline = "'\\n'" if vocabulary.level == "byte" else f'nblstm_find("\\n", 1{values["blank_value"]})'
        values["line_end"] = filled(c_texts.CARRIAGE_RETURN, {"newline": newline})
    if vocabulary.level == "byte":
        return [*(parts[2:] if classifies else parts), filled(c_texts.ENCODE_BYTES, values)]
    parts.append(filled(c_texts.FIND, values))
    if vocabulary.level == "char":
        return [*parts, filled(c_texts.ENCODE_CHARS, values)]
    if not spaced:
        parts.append(array("uint32_t", "letter", map(str, code_ranges(r"\w"))))
    parts.append(array("uint32_t", "space", map(str, code_ranges(r"\s"))))
    return [*parts, c_texts.RANGES, filled(c_texts.ENCODE_SPACED if spaced else c_texts.ENCODE_WORDS, values)]


def _bytes(vocabulary: Vocabulary, id: int, spaced: bool) -> bytes:
    """The bytes of a token, of words that blanks part with the blank before them; of <end> none."""
    token = vocabulary.tokens[id]
    if id == vocabulary.end_id:
        return b""
    if vocabulary.level == "byte":
        return bytes([id])
    encoded = token.encode("utf-8", "surrogatepass")
    return b" " + encoded if spaced and token != "\n" else encoded


def code_ranges(pattern: str) -> list[int]:
    """List the code points of a class of characters: the first and the last of each range, in rising order."""
    compiled, every = re.compile(pattern), "".join(map(chr, range(0x110000)))
    found = np.fromiter((match.start() for match in compiled.finditer(every)), np.int64)
    breaks = np.flatnonzero(np.diff(found) > 1)
    firsts, lasts = found[np.concatenate([[0], breaks + 1])], found[np.concatenate([breaks, [len(found) - 1]])]
    return np.stack([firsts, lasts], axis=1).reshape(-1).tolist()


# ---------------------------------------------------------------- its test of itself


def test_tokens(vocabulary: Vocabulary) -> np.ndarray:
    """Choose the tokens that an exported model's test of itself reads: some from the whole vocabulary."""
    V = len(vocabulary)
    return np.concatenate([[vocabulary.start_id], (np.arange(1, TEST_TOKENS) * 7919) % V])


def _reference(plan: Plan) -> dict[str, Any]:
    """The test's tokens and the logits that the rounded weights give behind them."""
    model = rounded(plan)
    tokens, V = test_tokens(model.vocabulary), model.config.num_outputs
    if isinstance(model, TextClassifier):
        tokens = tokens[: model.config.max_length]
        logits, asked = classifier_logits(model, tokens), np.arange(V)
    else:
        logits = reference_logits(model, tokens)[-1]
        asked = np.unique(np.linspace(0, V - 1, min(V, TEST_LOGITS)).astype(int))
    arrays = array("int", "read", map(str, tokens.tolist()))
    if not isinstance(model, TextClassifier):
        arrays += array("int", "asked", map(str, asked.tolist()))
    arrays += array("float", "reference", written_numbers(logits[asked].astype(np.float32)))
    allowed = ALLOWED[plan.weights] * max(1.0, float(np.abs(logits).max()))
    return {"reference": arrays, "allowed": f"{allowed:.3g}"}


def reference_logits(model: Any, tokens: np.ndarray) -> np.ndarray:
    """Compute the logits (T, V) behind each of the tokens (T,), by the specification."""
    network = model.network("numpy")
    decoder, state, rows = network.decoder(1), network.initial_state(1), []
    for token in tokens:
        rows.append(decoder(np.array([token], np.int64), state)[0])
    return np.array(rows)


def classifier_logits(model: TextClassifier, tokens: np.ndarray) -> np.ndarray:
    """Compute the logits (labels,) of a text of these tokens (T,), by the specification."""
    network = ClassifierNetwork(model.config, model.parameters, "numpy", 1)
    chunk = Chunk.rectangle(tokens[:, None], np.zeros((1, 1), np.int32), fresh=True)
    return network.outputs(chunk, network.initial_state(1))[0][0]
