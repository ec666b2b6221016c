"""What editors complete: the types of settings and of public names are those that there are."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import typed

import nblstm


def test_typed_settings_are_those_of_the_configs():
    """Every field, by name and type; after a change of a config run tests/support/typed.py."""
    written = ast.parse(typed.PATH.read_text(encoding="utf-8"))
    assert ast.dump(written) == ast.dump(ast.parse(typed.source()))


def test_public_names_are_known_to_type_checkers():
    """Each name that is imported on its first use stands in the stub, from the same place."""
    tree = ast.parse(typed.STUB.read_text(encoding="utf-8"))
    found = {
        alias.asname: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert found == {name: home for name, home in nblstm._HOMES.items() if name != "__version__"}


def test_a_type_checker_finds_wrong_settings(tmp_path):
    """A misspelt setting and one of another type are errors; right ones are none."""
    pytest.importorskip("mypy")
    code = (
        'import nblstm\nmodel = nblstm.train("a", hidden_size=8)\nnblstm.train("a", hidden_sise=8)\n'
        'nblstm.train("a", hidden_size="x")\nm = nblstm.LanguageModel.load("a")\nm.generate("a", temprature=1)\n'
    )
    (tmp_path / "a.py").write_text(code)
    parent = Path(nblstm.__file__).parents[1]
    beside = {} if parent.name == "site-packages" else {"MYPYPATH": str(parent)}  # where it is installed, mypy finds it
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--follow-imports=silent", tmp_path / "a.py"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **beside}, timeout=300,
    )  # fmt: skip
    lines = [line.split(":")[1] for line in done.stdout.splitlines() if "error" in line and "a.py:" in line]
    assert sorted(set(lines)) == ["3", "4", "6"], done.stdout
