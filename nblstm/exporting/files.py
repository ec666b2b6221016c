"""From a model to an exported file: the format by the name's ending, the text, the file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nblstm import checks
from nblstm.errors import ConfigError, ModelFileError
from nblstm.exporting.formats import FORMATS
from nblstm.exporting.plan import plan, rounded
from nblstm.files.atomic import replacing
from nblstm.files.safetensors import Path

DEFAULT_WEIGHTS = {"c": "int8", "py": "float32", "html": "int8", "onnx": "float32"}

MADE = b"ade by nblstm export"  # within the first bytes of every export


@dataclass(frozen=True)
class Exported:
    """What was written: its format, weights, the bytes of the weights and of the file."""

    format: str
    weights: str
    weight_bytes: int
    file_bytes: int
    model: Any  # the language model that the stored numbers are, to measure what a rounding has cost


def export(
    model: Any, path: Path, *, format: str | None = None, weights: str | None = None, name: str = "nblstm"
) -> Exported:
    """Write a model to a file that needs no nblstm.

    format: one of FORMATS; None takes it from the path's ending. weights: one of `plan.WEIGHTS` (onnx: float32); None
    is the format's default. name: what all names of a C header begin with. ConfigError names what the format cannot
    do, ModelFileError a file that cannot be written.
    """
    path, name = checks.path("path", path), checks.a(str, "name", name)
    format = _format(path) if format is None else _named(format)
    weights = DEFAULT_WEIGHTS[format] if weights is None else weights
    if format == "onnx":
        from nblstm.exporting.onnx import render_onnx

        content, weight_bytes, after = render_onnx(model, weights), 4 * model.config.num_parameters, model
    else:
        prepared = plan(model, weights, format)
        content = _render(format)(prepared, os.path.basename(os.fspath(path)), name).encode("utf-8", "backslashreplace")
        weight_bytes, after = prepared.nbytes, rounded(prepared)
    check_made_here(path)
    with replacing(path) as file:
        file.write(content)
    return Exported(format, weights, weight_bytes, len(content), after)


def check_made_here(path: Path) -> None:
    """Raise ModelFileError if a file is there that no export has written."""
    begin = b""
    if os.path.isfile(path):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            begin = file.read(len(MADE) + 2000)
    if begin and MADE not in begin:
        raise ModelFileError(f"{path} exists and was not made by an export; it is not replaced, choose another name.")


def _named(format: Any) -> str:
    """The format. ConfigError unless it is one."""
    checks.choice("format", format, tuple(FORMATS))
    return str(format)


def _format(path: Path) -> str:
    """The format whose files end as the path does."""
    ending = os.path.splitext(os.fspath(checks.path("path", path)))[1].lower()
    for format, own in FORMATS.items():
        if ending == own:
            return format
    raise ConfigError(
        f"the name of an export must end with {', '.join(FORMATS.values())}, or its format be given, got "
        f"{str(path)!r:.80}."
    )


def _render(format: str) -> Callable[..., str]:
    """The function that writes a format's text."""
    from nblstm.exporting import c, html, py

    return {"c": c.render_c, "py": py.render_py, "html": html.render_html}[format]
