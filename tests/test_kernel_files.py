"""The kernels' files: the same names in the same places, few arguments, and cells that do without numba."""

import ast
import importlib
from dataclasses import replace
from pathlib import Path

import pytest
from support.cases import each
from support.kernels import CONTRACT

import nblstm
from nblstm.kernels.cells import KINDS, Cell

FOLDER = Path(nblstm.__file__).parent / "kernels"
FILES = sorted(FOLDER.rglob("*.py"))
MOST_ARGUMENTS = 10


def functions(tree, within=""):
    """(name, number of arguments) of every function of a syntax tree."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            a, name = node.args, getattr(node, "name", "lambda")
            yield within + name, len([*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])])
        yield from functions(node, f"{node.name}." if isinstance(node, ast.ClassDef) else "")


@each("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_functions_take_few_arguments(path):
    """At most 10."""
    for name, count in functions(ast.parse(path.read_text(encoding="utf-8"))):
        assert count <= MOST_ARGUMENTS, f"{name} takes {count} arguments"


def test_backends_have_the_same_names_in_the_same_files():
    """Every function of the contract lies in the file of one name in each folder that can be imported here."""
    homes = {}
    for backend in ("reference", "cpu"):
        module = importlib.import_module(f"nblstm.kernels.{backend}")
        homes[backend] = {name: getattr(module, name).__module__.split(".")[-1] for name in CONTRACT}
        assert set(homes[backend].values()) <= {path.stem for path in (FOLDER / backend).glob("*.py")}
    assert homes["reference"] == homes["cpu"]
    for name, home in homes["cpu"].items():
        text = (FOLDER / "cuda" / f"{home}.py").read_text(encoding="utf-8")
        assert f"\ndef {name}(" in text or f"\n{name} = " in text, name


def test_cells_do_without_numba(python):
    """Importing every cell, its facts and the specification loads no numba."""
    code = "import sys; import nblstm.kernels.cells, nblstm.kernels.reference; assert 'numba' not in sys.modules"
    outcome = python("-c", code)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("name", KINDS)
def test_what_a_kind_says_fits_together(name):
    """Its panel holds each gate of both halves once, within its blocks; its first biases are of gates that it has."""
    kind = KINDS[name]
    assert {gate for gate, _ in kind.initial_biases} <= set(kind.inputs)
    assert (kind.cpu is None) == (kind.panel is None)
    if kind.panel:
        for gates, half in ((kind.inputs, kind.panel.inputs), (kind.hidden, kind.panel.hidden)):
            first, order = half or (0, ())
            assert sorted(order) == list(range(len(gates))) and first + len(order) <= kind.panel.blocks
        assert kind.panel.units % 16 == 0 and Cell(name, 2, 3).compiled
    cell = Cell(name, 2, 3)
    assert cell.num_parameters > 0 and set(cell.rounds) <= set(cell.shapes)


def test_which_loop_computes_a_cell(monkeypatch):
    """Plain, options, rounds; the specification where there are no kernels for what x and h do to each other."""
    loop = lambda kind, **options: Cell(kind, 2, 3, **options).loop
    assert {name: loop(name) for name in KINDS} == {
        name: "rounds" if name == "mogrifier-lstm" else "plain" for name in KINDS
    }
    assert loop("lstm", peepholes=True) == loop("lstm", proj_size=2) == loop("gru", layer_norm=True) == "options"
    assert loop("mogrifier-lstm", mogrifier_rounds=0) == "rounds" and loop("mogrifier-lstm", layer_norm=True) is None
    mogrifier = KINDS["mogrifier-lstm"]
    for other in ({"rounds": None}, {"panel": KINDS["gru"].panel}, {"panel": None}):
        monkeypatch.setitem(KINDS, "other", replace(mogrifier, name="other", **other))
        assert loop("other") is None
