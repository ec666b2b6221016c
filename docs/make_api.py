"""Write docs/api.md from the signatures and docstrings of the public names.

    python docs/make_api.py             # writes the page
    python docs/make_api.py --check     # ends with 1 if the page is out of date

The fields of settings are shown with the comments of their source.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import groupby
from pathlib import Path
from types import FunctionType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "api.md"
HEAD = """# API

Every public name of `nblstm`, from its signature and its docstring. This page is written by
`python docs/make_api.py`; change the docstrings, not the page.
"""
SECTIONS = {
    "Train, load and export": ("train", "prune", "load", "export"),
    "Models": (
        "LanguageModel", "MaskedLanguageModel", "SeriesModel", "MLPLanguageModel", "TextGenerator",
        "TextClassifier", "Translator", "Tagger",
    ),
    "What they return": ("Score", "Surprisals", "State"),
    "Text": ("Vocabulary", "texts_to_sequences", "pad_sequences", "read_labelled", "read_pairs", "read_parallel", "read_tagged"),
    "Settings": (
        "LanguageConfig", "MaskedConfig", "SeriesConfig", "ClassifierConfig", "TextConfig", "TrainConfig", "SampleConfig",
        "TranslatorConfig", "TranslateConfig", "TaggerConfig",
    ),
    "Errors": (
        "NblstmError", "ConfigError", "TextError", "ModelFileError", "TrainingError", "DivergenceError", "NonFiniteError",
        "DeviceError", "ReportError",
    ),
}  # fmt: skip
WIDTH = 100  # of a signature
NEWLINE = "\n"
STARS = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def page() -> str:
    """The page. ValueError if a public name has no section."""
    import nblstm

    missing = set(nblstm.__all__) - {"__version__"} ^ {name for names in SECTIONS.values() for name in names}
    if missing:
        raise ValueError(f"SECTIONS and nblstm.__all__ must name the same, and differ in {', '.join(sorted(missing))}.")
    parts = [HEAD]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in names:
            parts += _entry(f"nblstm.{name}", getattr(nblstm, name))
    return "\n".join(parts)


def _entry(title: str, thing: Any) -> Iterator[str]:
    """The parts about a function, or about a class with its fields and methods."""
    yield f"### {title}\n"
    if inspect.isclass(thing) and issubclass(thing, Exception):
        bases = ", ".join(f"`{base.__name__}`" for base in thing.__bases__)
        yield f"Derived from {bases}. {_text(thing)}"
        return
    fields = _fields(thing)
    yield _code(f"{thing.__name__}(\n{fields})" if fields else f"{thing.__name__}{_signature(thing)}")
    yield _text(thing)
    if inspect.isclass(thing):
        for name, member in _members(thing):
            yield f"#### {thing.__name__}.{name}\n"
            if isinstance(member, FunctionType):
                yield _code(f"{name}{_signature(member)}")
            yield _text(member)


def _fields(thing: Any) -> str:
    """The fields of a dataclass as its source has them, a line each with its comment; nothing for other things."""
    if not dataclasses.is_dataclass(thing):
        return ""
    lines: dict[str, str] = {}
    for base in filter(dataclasses.is_dataclass, reversed(thing.__mro__)):
        for line in inspect.getsource(base).splitlines():
            field = re.match(r"    (\w+): ", line)
            if field:
                lines[field[1]] = line + "\n"
    own_first = sorted(dataclasses.fields(thing), key=lambda field: field.kw_only)
    return "".join(lines.get(field.name, "") for field in own_first if field.init)


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class that have a docstring, in the order of their definition."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__[:-1]):
        found.update({name: value for name, value in vars(base).items() if not name.startswith("_")})
    for name, value in found.items():
        value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if isinstance(value, (FunctionType, property, cached_property)) and inspect.getdoc(value):
            yield name, value


def _signature(thing: Any) -> str:
    """The arguments and what is returned, on one line or with one argument a line."""
    signature = inspect.signature(thing)
    arguments = list(_arguments(part for part in signature.parameters.values() if part.name not in ("self", "cls")))
    returned = signature.return_annotation
    arrow = "" if inspect.isclass(thing) or returned is signature.empty else f" -> {_annotation(returned)}"
    line = f"({', '.join(arguments)}){arrow}"
    return line if len(line) <= WIDTH else f"(\n    {f',{NEWLINE}    '.join(arguments)},\n){arrow}"


def _arguments(parameters: Iterable[inspect.Parameter]) -> Iterator[str]:
    """Each argument as it is written, with a star before the first that is a keyword only."""
    starred = False
    for part in parameters:
        if part.kind is part.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        typed = "" if part.annotation is part.empty else f": {_annotation(part.annotation)}"
        default = "" if part.default is part.empty else f" = {_default(part.default)}"
        yield STARS.get(part.kind, "") + part.name + typed + default


def _annotation(annotation: Any) -> str:
    """A type as it is written in the code."""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(value: Any) -> str:
    """A default, the same in every version of Python: functions and factories by dots."""
    return repr(value) if isinstance(value, (str, int, float, bool, tuple, type(None))) else "..."


def _text(thing: Any) -> str:
    """The docstring as Markdown: indented lines are code, and what looks like a tag is none."""
    parts: list[str] = []
    for indented, lines in groupby(inspect.getdoc(thing).splitlines(), lambda line: line.startswith("    ")):
        text = "\n".join(lines)
        parts.append(_code(textwrap.dedent(text)) if indented else text.replace("<", "\\<"))
    return "\n".join(parts) + "\n"


def _code(text: str) -> str:
    return f"```py\n{text}\n```\n"


def main() -> None:
    text = page()
    if sys.argv[1:] == ["--check"]:
        current = PAGE.read_text(encoding="utf-8") == text
        sys.exit(None if current else "docs/api.md is out of date: python docs/make_api.py")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
