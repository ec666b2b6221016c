"""Format c: a language model as one C header, vocabulary, sampling and a test of itself included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nblstm.errors import ConfigError
from nblstm.exporting import c_source as source
from nblstm.exporting.plan import GROUP, Matrix, Plan, rounded
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
    values = _facts(plan) | {"file": commented(file), "name": name}
    vectors, product, kind = _kernels(plan.weights)
    parts = [
        filled(source.HEAD, values), source.BITS, source.BFLOAT if plan.weights in ("bfloat16", "int4") else "",
        kind["types"], filled(vectors, kind), filled(product, kind),
        _vectors_of(plan),
        *_text(plan.model.vocabulary), filled(source.STEP, _step(plan) | values), source.SAMPLE,
        filled(source.MAIN, _reference(plan)),
    ]  # fmt: skip
    if plan.weights == "int4":
        parts[5] = parts[5].replace("\n/* y (count", source.NIBBLE + "\n/* y (count", 1)
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
        return source.INT_VECTORS, source.INT_PRODUCT, source.INT8 if weights == "int8" else source.INT4
    return source.FLOAT_VECTORS, source.FLOAT_PRODUCT, source.FLOAT32 if weights == "float32" else source.BFLOAT16


def _facts(plan: Plan) -> dict[str, Any]:
    """The sizes of the network and of its vocabulary."""
    c, vocabulary = plan.model.config, plan.model.vocabulary
    words = f"{c.description}: {c.num_parameters:,} parameters, {len(vocabulary):,} tokens"
    prompt = re.sub(r"[^A-Za-z0-9 ]", "", "".join(vocabulary.tokens[-3:]))[:20]
    banned = vocabulary.never_written
    return {
        "description": re.sub(r"\*/|[^ -~]", "?", words),
        "weights": plan.weights, "bytes": f"{plan.nbytes:,}", "prompt": prompt, "vocab": len(vocabulary),
        "start": vocabulary.start_id, "end": -1 if vocabulary.end_id is None else vocabulary.end_id,
        "banned": banned[0] if banned else -1, "layers": c.num_layers, "hidden": c.hidden_size,
        "outputs": c.output_size, "gates": c.cells[0].gates, "features": c.head_size,
        "h_size": max(1, plan.h.size), "c_size": max(1, plan.c.size),
    }  # fmt: skip


def _step(plan: Plan) -> dict[str, Any]:
    """The pieces of a step: what this network has."""
    c = plan.model.config
    columns = [matrix.shape[1] for name, matrix in plan.matrices.items() if name != "tokens" or not plan.table_rows]
    widest = max(*columns, c.output_size, c.embedding_size, c.hidden_size)
    table = plan.table_rows * GROUP
    gru, memory = c.cell == "gru", c.cells[0].has_memory
    read = f"nblstm_rows(z, &nblstm_tokens, (long)token * {plan.table_rows}, {plan.table_rows});"
    if not plan.table_rows:
        read = "nblstm_rows(x, &nblstm_tokens, token, 1);"
    given = source.INPUT_BEHIND_TABLE if plan.table_rows else source.PRODUCT_OF_INPUT
    if plan.table_rows and c.num_layers == 1:
        given = ""
    given = filled(given, {"embedding": c.embedding_size})
    output = source.PROJECTED if c.proj_size else source.OUTPUT_CODE
    adds_first = int(c.embedding_size == c.output_size)
    first = "1" if adds_first else "layer"
    output += filled(source.RESIDUAL, {"first": first}) if c.residual else source.PLAIN
    kind = c.nonlinearity if c.cell == "rnn" else "peepholes" if c.peepholes else c.cell
    sigmoid = c.cell != "rnn"
    return {
        "widest": widest, "pre": max(table, c.cells[0].gates * c.hidden_size), "read": f"    {read}",
        "other": " float b[NBLSTM_GATES * NBLSTM_H];" if gru else "",
        "memory": " float *c = state->c + layer * NBLSTM_H;" if memory else "",
        "products": "\n".join(filter(None, [given, source.RECURRENT_APART if gru else source.RECURRENT_CODE])),
        "cell": source.CELLS_CODE[kind], "output": output,
        "functions": (source.SIGMOID if sigmoid else "") + ("" if kind == "relu" else source.TANH),
        "beside": _beside(c) if c.head == "cell" else "",
    }  # fmt: skip


def _beside(config: Any) -> str:
    """Put the last layer's memory beside its output, as the cell head sees it."""
    last = (config.num_layers - 1) * config.hidden_size
    return f"\n    for (i = 0; i < NBLSTM_H; i++) state->features[NBLSTM_P + i] = state->c[{last} + i];"


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


def _numbers(numbers: np.ndarray) -> Iterable[str]:
    flat = numbers.reshape(-1)
    return map(number, flat.tolist()) if flat.dtype == np.float32 else map(str, flat.tolist())


TYPES = {"float32": "float", "int8": "int8_t", "uint8": "uint8_t", "uint16": "uint16_t"}


def _matrix(name: str, matrix: Matrix) -> tuple[str, str]:
    """(the arrays of a matrix, its initialiser)."""
    arrays, fields = (
        array(TYPES[matrix.numbers.dtype.name], f"{name}_w", _numbers(matrix.numbers)),
        f"nblstm_{name}_w, ",
    )
    if matrix.scales is not None:
        arrays += array(TYPES[matrix.scales.dtype.name], f"{name}_scale", _numbers(matrix.scales))
        fields += f"nblstm_{name}_scale, "
    return arrays, f"{{{fields}{matrix.shape[0]}, {matrix.shape[1]}}}"


def _vectors_of(plan: Plan) -> str:
    """All weights, and the layers that are made of them."""
    text, made = "\n/* " + "-" * 64 + " weights */\n\n", {}
    for name, matrix in plan.matrices.items():
        arrays, made[name] = _matrix(name, matrix)
        text += arrays
    tokens = made.get("tokens", made["head"])
    none = "{0, 0, 0}" if next(iter(plan.matrices.values())).scales is None else "{0, 0, 0, 0}"
    rows = []
    for k, layer in enumerate(plan.layers):
        vectors = {
            "bias": layer.bias if layer.inputs is not None else None,
            "hidden_bias": layer.hidden_bias,
            "peepholes": layer.peepholes,
        }
        text += "".join(array("float", f"{name}{k}", _numbers(v)) for name, v in vectors.items() if v is not None)
        parts = [made.get(f"{name}{k}", none) for name in ("input", "recurrent", "projection")]
        parts += ["0" if v is None else f"nblstm_{name}{k}" for name, v in vectors.items()]
        rows.append(f"    {{{', '.join(parts)}}},\n")
    text += array("float", "head_bias", _numbers(plan.head_bias))
    text += array("float", "h0", _numbers(plan.h)) + array("float", "c0", _numbers(plan.c) if plan.c.size else ["0.0f"])
    declared = f"static const nblstm_matrix nblstm_tokens = {tokens}, nblstm_head = {made['head']};\n"
    layers = "static const nblstm_layer nblstm_layers[] = {\n" + "".join(rows) + "};\n"
    return text + declared + source.LAYER_CODE + layers


# ---------------------------------------------------------------- text


def _text(vocabulary: Vocabulary) -> list[str]:
    """The vocabulary's bytes and the code that reads and writes them."""
    spaced = vocabulary.level == "word" and vocabulary.tokenizer == "whitespace"
    texts = [_bytes(vocabulary, id, spaced) for id in range(len(vocabulary))]
    offsets = np.cumsum([0, *map(len, texts)])
    data = b"".join(texts) or b"\0"
    size = "uint16_t" if offsets[-1] < 1 << 16 else "uint32_t"
    parts = [array("uint8_t", "bytes", map(str, data)), array(size, "offsets", map(str, offsets.tolist()))]
    parts.append(filled(source.TEXT_CODE, {"spacing": source.SPACING if spaced else ""}))
    if vocabulary.level == "byte":
        return [*parts, source.ENCODE_BYTES]
    parts.append(filled(source.FIND, {"skip": source.SKIP if spaced else ""}))
    if vocabulary.level == "char":
        return [*parts, source.ENCODE_CHARS]
    if not spaced:
        parts.append(array("uint32_t", "letter", map(str, _ranges(r"\w"))))
    parts.append(array("uint32_t", "space", map(str, _ranges(r"\s"))))
    return [*parts, source.RANGES, source.ENCODE_SPACED if spaced else source.ENCODE_WORDS]


def _bytes(vocabulary: Vocabulary, id: int, spaced: bool) -> bytes:
    """The bytes of a token, of words that blanks part with the blank before them; of <end> none."""
    token = vocabulary.tokens[id]
    if id == vocabulary.end_id:
        return b""
    if vocabulary.level == "byte":
        return bytes([id])
    encoded = token.encode("utf-8", "surrogatepass")
    return b" " + encoded if spaced and token != "\n" else encoded


def _ranges(pattern: str) -> list[int]:
    """The code points of a class of characters: the first and the last of each range, in rising order."""
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
    tokens, V = test_tokens(model.vocabulary), len(model.vocabulary)
    logits = reference_logits(model, tokens)[-1]
    asked = np.unique(np.linspace(0, V - 1, min(V, TEST_LOGITS)).astype(int))
    arrays = array("int", "read", map(str, tokens.tolist())) + array("int", "asked", map(str, asked.tolist()))
    arrays += array("float", "reference", _numbers(logits[asked].astype(np.float32)))
    allowed = ALLOWED[plan.weights] * max(1.0, float(np.abs(logits).max()))
    return {"reference": arrays, "allowed": f"{allowed:.3g}"}


def reference_logits(model: Any, tokens: np.ndarray) -> np.ndarray:
    """Compute the logits (T, V) behind each of the tokens (T,), by the specification."""
    network = model.network("numpy")
    decoder, state, rows = network.decoder(1), network.initial_state(1), []
    for token in tokens:
        rows.append(decoder(np.array([token], np.int64), state)[0])
    return np.array(rows)
