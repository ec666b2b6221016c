"""What editors read: `python tests/support/typed.py` writes nblstm/tasks/typed.py (the types of keyword settings) and
nblstm/__init__.pyi (the public names, which the package imports on their first use) anew."""

import dataclasses
import re
from pathlib import Path

import nblstm
from nblstm.config import BeamConfig, SampleConfig, WriteConfig
from nblstm.tasks.registry import RUNS, settings_of

PATH = Path(nblstm.__file__).parent / "tasks" / "typed.py"
STUB = Path(nblstm.__file__).with_suffix(".pyi")
HEAD = '''"""Types of keyword settings, for editors and type checkers: a field for each of the configs.

Written by tests/support/typed.py, and held to the configs by tests/test_typed.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypedDict

AnyPaths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
'''


def typed(kind):
    """The type of a config's field as a checker reads it."""
    return re.sub(r"\bdict\b(?!\[)", "dict[str, Any]", kind).replace("tuple[str, ...]", "str | Sequence[str]")


def fields_of_runs():
    """Name -> type of every setting of `nblstm.train`, whatever the task."""
    found = {"bidirectional": ["bool"]}
    for task in RUNS:
        settings = settings_of(task)
        for name, field in settings.fields().items():
            found.setdefault(name, []).extend(str(field.type).split(" | "))
        for name in settings.places[2:]:
            found.setdefault(name, ["AnyPaths"])
    return {name: typed(" | ".join(dict.fromkeys(kinds))) for name, kinds in sorted(found.items())}


def fields_of(config):
    """Name -> type of every field of a config."""
    return {field.name: typed(field.type) for field in dataclasses.fields(config)}


def source():
    """The module's text."""
    classes = {
        "TrainSettings": ("Settings of `nblstm.train`.", fields_of_runs()),
        "SampleSettings": ("Settings of `generate` and its like.", fields_of(SampleConfig)),
        "BeamSettings": ("Settings of `beam`.", fields_of(BeamConfig)),
        "WriteSettings": ("Settings of `cowriter`.", fields_of(WriteConfig)),
    }
    parts = [HEAD]
    for name, (text, fields) in classes.items():
        rows = "\n".join(f"    {field}: {kind}" for field, kind in fields.items())
        parts.append(f'\n\nclass {name}(TypedDict, total=False):\n    """{text}"""\n\n{rows}\n')
    return "".join(parts)


def stub():
    """The text of the package's stub."""
    names = "".join(
        f"from {home} import {name} as {name}\n"
        for name, home in sorted(nblstm._HOMES.items(), key=lambda item: (item[1], item[0]))
        if name != "__version__"
    )
    return f'"""Public names, for editors and type checkers; written by tests/support/typed.py."""\n\n{names}\n__version__: str\n'


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
    PATH.write_text(source(), encoding="utf-8")
