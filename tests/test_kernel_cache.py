"""What a fresh process makes of a damaged cache, of an edited kernel and of other instruction sets."""

import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import nblstm

pytest.importorskip("numba")

PACKAGE = Path(nblstm.__file__).parent
TESTS = Path(__file__).parent
X86 = platform.machine().lower() in ("x86_64", "amd64")

# prints 3^2 + 4^2, which a few compiled lines with vectors in them find
NORM = """
import numpy as np
from nblstm.kernels import cpu
print(cpu.squared_norm(np.array([3.0, 4.0]), 1))
"""
EXPECTED = "25.0"
NARROW = NORM.replace("4.0])", "4.0], np.float32)")

# a kernel of the package around a function of somebody's own file
OWN = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from own import multiply
from nblstm.kernels.cpu.layouts import _make_projection
from nblstm.kernels.cpu.tiles import PANEL
project = _make_projection("own", PANEL, multiply, 0, PANEL)
z, no = np.zeros(PANEL), np.zeros(PANEL)
project(z, no, no, no, 1, 1, 0, (0, 0, 1, 1, np.zeros(3, np.int64)))
print(z[0])
"""
OWN_FILE = """
from nblstm.kernels.cpu.jit import inlined
@inlined
def multiply(C, rows, A, packed, start):
    C.numbers[C.place] = 1.5
"""

# one small odd layer of each tile's width on texts that end, and a head, forward and backward, against the specification
LAYER = """
import sys
import numpy as np
from nblstm.kernels import cpu, reference
from nblstm.kernels.cells import Cell
from support.compare import close
from support.kernels import random_head, run_layer, softmax_head
D, H = map(int, sys.argv[1:])
for kind in ("lstm", "gru", "update-lstm"):
    given = Cell(kind, D, H), [3, 3, 1], np.float64, True
    expected, actual = (run_layer(kernels, 2, *given) for kernels in (reference, cpu))
    for name, value in expected.items():
        close(actual[name], value, 1e-12)
head, scales, classes = random_head(5, 7, H, np.float64)
for expected, actual in zip(*(softmax_head(kernels, *head, scales, classes, 0.1) for kernels in (reference, cpu))):
    close(actual, expected, 1e-12)
"""


def python(code, *arguments, path=PACKAGE.parent, **environment):
    """Run code in a fresh interpreter with warnings as errors; its output. An error in it is a failure here."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "NBLSTM_"))}
    variables |= {"PYTHONPATH": os.pathsep.join([str(path), str(TESTS)]), "PYTHONWARNINGS": "error"}
    variables |= {name: str(value) for name, value in environment.items()}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=path, env=variables, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def norm(folder, **options):
    """The squared norm that a fresh process finds, with its compiled kernels in `folder`."""
    return python(NORM, NUMBA_CACHE_DIR=folder, **options)[: len(EXPECTED)]


def copy_of_the_kernels(folder):
    """A package nblstm below `folder` that holds the kernels alone; the folder of the kernels."""
    shutil.copytree(PACKAGE / "kernels", folder / "nblstm" / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "nblstm" / "__init__.py").write_text("")
    for name in ("errors.py", "interrupts.py"):
        shutil.copy(PACKAGE / name, folder / "nblstm")
    return folder / "nblstm" / "kernels"


# ---------------------------------------------------------------- the cache


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache folder with the kernels of NORM in it."""
    folder = tmp_path_factory.mktemp("filled")
    assert norm(folder) == EXPECTED
    return folder


def test_compiled_kernels_are_kept(filled):
    """A first process leaves an index and a machine-code file; a second adds and rewrites nothing."""
    before = {path: path.stat().st_mtime_ns for path in filled.rglob("*.nb?")}
    assert {path.suffix for path in before} == {".nbc", ".nbi"}
    assert norm(filled) == EXPECTED
    assert {path: path.stat().st_mtime_ns for path in filled.rglob("*.nb?")} == before


@pytest.mark.parametrize("suffix", [".nbc", ".nbi"])
@pytest.mark.parametrize("left", [0, 100])
def test_a_truncated_cache_means_compiling(filled, tmp_path, suffix, left):
    """Files cut to nothing or to 100 bytes, as a full disk leaves them, are replaced by whole ones."""
    folder = tmp_path / "cache"
    shutil.copytree(filled, folder)
    damaged = list(folder.rglob("*" + suffix))
    for path in damaged:
        path.write_bytes(path.read_bytes()[:left])
    assert norm(folder) == EXPECTED
    assert all(path.stat().st_size > 100 for path in folder.rglob("*squared_norm*.nb?"))


@pytest.mark.parametrize("where", ["missing", "below a file"])
def test_a_cache_folder_that_cannot_be_used_means_compiling(tmp_path, where):
    """A folder that is not there is made; where none can be made, nothing is kept and nothing fails."""
    (tmp_path / "file").write_text("")
    folder = {"missing": tmp_path / "a" / "b", "below a file": tmp_path / "file" / "cache"}[where]
    assert norm(folder) == EXPECTED
    assert folder.exists() == (where == "missing")


def test_no_cache_folder_at_all_means_compiling(tmp_path):
    """Where numba finds no folder to write to, neither named nor beside the kernels nor at home, nothing fails."""
    file = copy_of_the_kernels(tmp_path) / "__pycache__"
    file.write_text("")
    nowhere = dict.fromkeys(["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE"], file / "home")
    assert norm(file / "cache", path=tmp_path, **nowhere) == EXPECTED


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes into read-only folders")
def test_a_read_only_cache_folder_means_compiling(tmp_path):
    """A cache folder without the right to write is no reason to fail."""
    tmp_path.chmod(0o500)
    assert norm(tmp_path) == EXPECTED


def test_an_edit_in_any_kernel_file_is_noticed(tmp_path):
    """lane_sum is edited in vectors.py: elementwise.py, whose cached kernel had the old one inlined, compiles again.

    The edit subtracts where the halves of a vector are added: of 9, 16 and zeros, all that is left is 9 - 16.
    """
    cache, kernels = tmp_path / "cache", copy_of_the_kernels(tmp_path / "copy")
    vectors = kernels / "cpu" / "vectors.py"
    source = vectors.read_text(encoding="utf-8")
    assert source.count("builder.fadd(a, b)") == 1
    assert norm(cache, path=tmp_path / "copy") == EXPECTED
    before = {path: path.read_bytes() for path in cache.rglob("*.nb?")}
    vectors.write_text(source.replace("builder.fadd(a, b)", "builder.fsub(a, b)"), encoding="utf-8")
    assert norm(cache, path=tmp_path / "copy") == "-7.0"
    for path in cache.rglob("*.nbc"):  # as a process from before the edit leaves it that writes at the same time
        path.write_bytes(before[path])
    assert norm(cache, path=tmp_path / "copy") == "-7.0"


def test_code_in_the_place_of_another_is_not_run(filled, tmp_path):
    """Of two processes that write a function's code for different types at once, one may overwrite the other's file."""
    folder = tmp_path / "cache"
    shutil.copytree(filled, folder)
    assert python(NARROW, NUMBA_CACHE_DIR=folder) == EXPECTED
    first, second = folder.rglob("*._squared_norm-*.nbc")
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    assert [python(code, NUMBA_CACHE_DIR=folder)[: len(EXPECTED)] for code in (NORM, NARROW)] == [EXPECTED] * 2


def test_an_edit_in_a_file_outside_the_kernels_is_noticed(tmp_path):
    """A kernel that is made of a function from elsewhere, as of a cell that a user has registered, is not kept."""
    run = lambda: python(OWN, tmp_path, NUMBA_CACHE_DIR=tmp_path / "cache", **QUICKLY)
    (tmp_path / "own.py").write_text(OWN_FILE)
    assert run() == "1.5"
    (tmp_path / "own.py").write_text(OWN_FILE.replace("1.5", "2.5"))
    os.utime(tmp_path / "own.py", (0, 0))  # no older bytecode is taken for it
    assert run() == "2.5"


def test_a_switch_of_the_compiler_is_noticed(filled, tmp_path):
    """Code that was compiled without optimization, to find a fault, is not what later processes run."""
    before = {path.name for path in filled.rglob("*.nbi")}
    folder = tmp_path / "cache"
    shutil.copytree(filled, folder)
    stamps = lambda: {path.read_bytes() for path in folder.rglob("*_squared_norm-*.nbi")}
    optimized = stamps()
    assert norm(folder, **QUICKLY) == EXPECTED and stamps() != optimized
    assert norm(folder) == EXPECTED and stamps() == optimized
    assert {path.name for path in folder.rglob("*.nbi")} == before


# ---------------------------------------------------------------- other ways to run the kernels

QUICKLY = {"NUMBA_OPT": "0", "PYTHONWARNINGS": "ignore"}  # compiles in half the time; numba warns that it cannot cache
SETTINGS = {
    "plain loops": {"NBLSTM_TILES": "off", **QUICKLY},
    "bounds checked": {"NUMBA_BOUNDSCHECK": "1", **QUICKLY},
    "SSE2": {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2"},
    "AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
}
if not X86:
    del SETTINGS["SSE2"], SETTINGS["AVX2"]


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    """Name of a setting -> the future of a process that compiles and checks odd layers of more than a panel."""
    with ThreadPoolExecutor(2) as pool:
        yield {
            name: pool.submit(python, LAYER, 5, 70, NUMBA_CACHE_DIR=tmp_path_factory.mktemp("layer"), **settings)
            for name, settings in SETTINGS.items()
        }


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_layer_compiled_otherwise_equals_the_specification(setting, layers):
    """Outputs and gradients without register tiles, with every index checked, and for other processors."""
    layers[setting].result()


def test_kernels_run_as_python():
    """With numba switched off the same kernels are NumPy code that a debugger can step through."""
    python(LAYER, 3, 5, NUMBA_DISABLE_JIT="1")
