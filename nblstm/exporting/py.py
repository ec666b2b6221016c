"""Format py: a model of text as one Python file that uses NumPy where there is some."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from nblstm.exporting import packing
from nblstm.exporting import py_source as source
from nblstm.exporting.c import commented, description, filled, prompt
from nblstm.exporting.cells import EXPORTED_CELLS
from nblstm.exporting.plan import Plan
from nblstm.kernels.cells import KINDS

PY_WIDTH = 118


def render_py(plan: Plan, file: str, name: str = "nblstm") -> str:
    """Write the file. file: its name, for the text on top; `name` means nothing here."""
    (doc, code), vocabulary = plan.kind.py, plan.model.vocabulary
    cells = {name: cell.py for name, cell in EXPORTED_CELLS.items() if cell.py}
    constants = [
        f"CONFIG = {packing.config(plan)!r}",
        f"TOKENS = {_lines(map(ascii, vocabulary.tokens))}",
        f"MATRICES = {_matrices(packing.matrices(plan))}",
        f"VECTORS = {_vectors(packing.vectors(plan))}",
    ]
    if "SPELLING" in code:
        constants.append(f"SPELLING = {_spelling(packing.spelling(plan))}")
    values = {
        "description": f"{description(plan)}.",
        "weights": plan.weights,
        "bytes": f"{plan.nbytes:,}",
        "prompt": prompt(vocabulary),
        "file": commented(file),
        "module": re.sub(r"\W", "_", os.path.splitext(file)[0]),
        "constants": "\n".join(constants),
        "cells": "\n\n\n".join(cells.values()),
        "cell_names": ", ".join(f'"{name}": {name.replace("-", "_")}' for name in cells),
        "cell_gates": ", ".join(f'"{name}": {len(KINDS[name].inputs)}' for name in cells),
    }
    return filled(doc + source.NETWORK_CODE + code + source.CONSTANTS_CODE, values)


def _lines(items: Iterable[str]) -> str:
    """A list of Python in lines."""
    lines, line = [], ""
    for item in items:
        if len(line) + len(item) + 2 > PY_WIDTH and line:
            lines.append(line.rstrip())
            line = ""
        line += f"{item}, "
    return "[\n    " + "\n    ".join([*lines, line.rstrip()]) + "\n]"


def _spelling(found: tuple[Any, ...] | None) -> str:
    """The layer that reads words, or None."""
    if found is None:
        return "None"
    layers, matrices, vectors = found
    return f"(\n{layers!r},\n{_matrices(matrices)},\n{_vectors(vectors)},\n)"


def _matrices(matrices: Mapping[str, list[Any]]) -> str:
    return f"{{\n{''.join(_matrix(name, *fields) for name, fields in matrices.items())}}}"


def _vectors(vectors: Mapping[str, str]) -> str:
    return f"{{\n{''.join(_vector(name, data) for name, data in vectors.items())}}}"


def _matrix(name: str, rows: int, columns: int, stride: int, numbers: str, scales: str) -> str:
    return f"    {name!r}: ({rows}, {columns}, {stride}, {_text(numbers)}, {_text(scales)}),\n"


def _vector(name: str, data: str) -> str:
    return f"    {name!r}: {_text(data)},\n"


def _text(data: str) -> str:
    """Base64 as a literal of many lines; whoever decodes it passes over line ends."""
    return '"""' + "\n".join(data[k : k + PY_WIDTH] for k in range(0, len(data), PY_WIDTH)) + '"""'
