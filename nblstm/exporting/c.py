"""Format c: a model of text as one C header, vocabulary, sampling and a test of itself included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nblstm.errors import ConfigError
from nblstm.exporting import c_classifier_source, c_products, c_source, c_sparse, c_steps, c_texts
from nblstm.exporting.cells import EXPORTED_CELLS
from nblstm.exporting.plan import GROUP, SPELL, Matrix, Plan
from nblstm.text.vocabulary import Vocabulary

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
C_WIDTH = 118  # characters of a line of numbers
TEST_TOKENS = 32  # that the header's test reads, at most
ALLOWED = {"float32": 1e-5, "bfloat16": 1e-5, "int8": 1e-2, "int4": 1e-2}  # of the rounded weights' logits, which are
# about 1 in size; that of integers is what 16 bits of an activation cost


def render_c(plan: Plan, file: str, name: str = "nblstm") -> str:
    """Write the header. file: its name, for the comment. ConfigError for a name that is no identifier of C."""
    if not IDENTIFIER.fullmatch(name):
        raise ConfigError(f"name must be letters, digits and underscores, a letter first, got {name!r:.80}.")
    values = _facts(plan) | step_of(plan) | {"file": commented(file), "name": name}
    head, text, behind = plan.kind.c(plan, values)
    vectors, product, kind = _kernels(plan.weights)
    kernels = filled(vectors, kind) + filled(product, kind)
    if _is_sparse(plan):
        kernels = c_sparse.with_sparse_product(
            kernels, filled(c_sparse.SPARSE_PRODUCT, c_sparse.SPARSE_KINDS[plan.weights])
        )
    if plan.weights == "int4":
        kernels = kernels.replace("\n/* y (count", c_products.NIBBLE + "\n/* y (count", 1)
    frame = filled(c_source.FRAME, {"include": "", "more_sizes": "", **head})
    parts = [
        filled(frame, values), c_products.BITS, c_products.BFLOAT if plan.weights in ("bfloat16", "int4") else "",
        kind["types"], kernels, weights_of(plan), *text, filled(c_steps.STEP, {"step": filled(c_steps.STEP_CODE, values)}),
        *behind,
    ]  # fmt: skip
    header = "".join(parts)
    functions = "".join(code for called, code in c_steps.FUNCTIONS.items() if f"{called}(" in header)
    return _prefixed(header.replace("@functions@", functions, 1), name)


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


def description(plan: Plan) -> str:
    """Say what the model is."""
    c = plan.model.config
    return f"{c.description}: {c.num_parameters:,} parameters, {len(plan.model.vocabulary):,} tokens"


def prompt(vocabulary: Vocabulary) -> str:
    """Make a prompt for an example, of tokens that are easy to quote."""
    return re.sub(r"[^A-Za-z0-9 ]", "", "".join(vocabulary.tokens[-3:]))[:20]


def _facts(plan: Plan) -> dict[str, Any]:
    """The sizes of the network and of its vocabulary."""
    c, vocabulary = plan.model.config, plan.model.vocabulary
    banned = vocabulary.never_written
    h, memory = plan.own_vectors["h"], plan.own_vectors["c"]
    return {
        "description": re.sub(r"\*/|[^ -~]", "?", description(plan)),
        "weights": plan.weights, "bytes": f"{plan.nbytes:,}", "prompt": prompt(vocabulary), "vocab": len(vocabulary),
        "start": vocabulary.start_id, "end": -1 if vocabulary.end_id is None else vocabulary.end_id,
        "banned": banned[0] if banned else -1, "layers": c.num_layers, "hidden": c.hidden_size,
        "outputs": c.cells[0].output_size, "gates": c.cells[0].gates, "features": c.head_size,
        "h_size": h.size, "c_size": max(1, memory.size), "embedding": c.embedding_size,
        "directions": c.directions, "labels": c.num_outputs, "buffers": min(2, c.num_layers),
        "outputs_of_layer": c.output_size, "max_length": getattr(c, "max_length", 0),
    }  # fmt: skip


def step_of(plan: Plan) -> dict[str, Any]:
    """Return the pieces of a step: what this network has."""
    c = plan.model.config
    columns = [matrix.shape[1] for name, matrix in plan.matrices.items() if name != "tokens" or not plan.table_rows]
    widest = max(*columns, c.output_size, c.input_size, c.hidden_size)
    read = f"nblstm_rows(z, &nblstm_tokens, (long)token * {plan.table_rows}, {plan.table_rows});"
    if not plan.table_rows:
        read = "nblstm_rows(@row@, &nblstm_tokens, token, 1);"
    cell = EXPORTED_CELLS[c.cell]
    apart = "recurrent" in plan.layers[0].matrices and (cell.apart or c.layer_norm)
    squash = c_steps.NORMALIZED_MEMORY if c.layer_norm else ""
    adds_first = int(c.embedding_size == c.output_size)
    carried = filled(c_steps.RESIDUAL, {"first": "1" if adds_first else "layer"}) if c.residual else c_steps.PLAIN
    memory = "state->c + layer * NBLSTM_H" if c.cells[0].has_memory else "0"
    return {
        "widest": widest, "pre": max(plan.table_rows * GROUP, c.cells[0].gates * c.hidden_size),
        "read": filled(f"    {read}", {"row": "x"}), "products": _products(plan, apart),
        "other": " float b[NBLSTM_GATES * NBLSTM_H];" if apart else "",
        "cell": filled(cell.c(c) if callable(cell.c) else cell.c, {"squash": squash}),
        "output": c_steps.PROJECTED if c.proj_size else c_steps.OUTPUT_CODE, "carry": carried,
        "first_input": "layer ? x : 0" if plan.table_rows else "x", "memory": memory,
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
        joined = c_steps.HIDDEN_BIAS if EXPORTED_CELLS[c.cell].apart else c_steps.SUM_OF_BOTH
        normalized = c_steps.NORMALIZED_RECURRENT if c.layer_norm else ""
        code = c_steps.RECURRENT_APART if apart else c_steps.RECURRENT_CODE
        found.append(filled(code, {"joined": joined, "normalized": normalized}))
    return "\n".join(found)


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


def compared(plan: Plan, read: str, numbers: np.ndarray, asked: Any = slice(None)) -> dict[str, str]:
    """Write what the test reads, the numbers that the rounded weights give it, those that are asked, and what may be wrong."""
    allowed = ALLOWED[plan.weights] * max(1.0, float(np.abs(numbers).max()))
    expected = array("float", "reference", written_numbers(numbers[asked].astype(np.float32)))
    return {"reference": read + expected, "allowed": f"{allowed:.3g}"}
