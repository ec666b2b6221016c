"""The house stands: imports run downwards only, nothing below the commands talks, and the package is what it says."""

import ast
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.cases import each

import nblstm

PACKAGE = Path(nblstm.__file__).parent
ROOT = PACKAGE.parent
CLI = PACKAGE / "cli" if (PACKAGE / "cli").is_dir() else ROOT / "cli"

# Room -> the rooms it may import from, itself apart. Every room may import those of EVERYWHERE.
BELOW = {
    "cli": {
        "adapting", "config", "convert", "exporting", "files", "generation", "kernels", "nn", "reporting", "scoring",
        "serving", "tasks", "text", "training",
    },
    "serving": {
        "checks", "config", "exporting", "generation", "kernels", "nn", "reporting", "scoring", "tasks", "text",
    },
    "exporting": {"checks", "config", "files", "generation", "kernels", "nn", "reporting", "scoring", "tasks", "text"},
    "convert": {"checks", "config", "files", "nn", "tasks", "text"},
    "reporting": {"checks", "config", "files", "kernels", "nn", "scoring", "tasks", "text", "training"},
    "tasks": {"adapting", "checks", "config", "files", "generation", "kernels", "nn", "scoring", "text", "training"},
    "training": {"checks", "config", "files", "kernels", "nn", "scoring", "text"},
    "generation": {"checks", "config", "kernels", "nn", "text"},
    "scoring": {"checks", "config", "kernels", "nn", "text"},
    "adapting": {"checks", "config", "nn", "text"},
    "files": {"checks", "config", "nn", "text"},
    "nn": {"checks", "config", "kernels"},
    "text": {"checks", "config", "kernels"},
    "config": {"kernels"},
    "kernels": set(),
    "checks": set(),
    "arrays": set(),
    "errors": set(),
    "interrupts": set(),
    "launched": set(),
    "remembered": set(),
    "version": set(),
}  # fmt: skip
EVERYWHERE = {"arrays", "errors", "interrupts", "launched", "remembered", "version"}
MODULES = sorted([*PACKAGE.rglob("*.py"), *CLI.glob("*.py")])
MODULES = [path for path in MODULES if path != PACKAGE / "__init__.py" and path != PACKAGE / "__main__.py"]


def room_of(path):
    """The room a file lies in: its folder, or the module itself at the top."""
    if path.parent == CLI:
        return "cli"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path):
    """The rooms of nblstm that a file imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {module.split(".")[1] for module in modules if module.startswith("nblstm.")}


def test_there_is_something_to_check():
    """All rooms are found, and the walk sees imports inside functions."""
    assert {room_of(path) for path in MODULES} == set(BELOW)
    assert imported_rooms(CLI / "sample.py") >= {"config", "text"}


def test_imports_run_downwards():
    """A file imports its own room and those below, never one above or beside."""
    for path in MODULES:
        room = room_of(path)
        assert imported_rooms(path) <= BELOW[room] | {room} | EVERYWHERE, path


def test_the_rooms_have_no_circle():
    """The table above is itself a ladder."""
    order = list(BELOW)
    assert all(order.index(room) < order.index(other) for room, others in BELOW.items() for other in others)


@each("room", ["text", "files", "config", "errors", "nn", "generation", "scoring", "tasks"])
def test_only_the_kernels_know_numba(room):
    """No other room below training imports it."""
    for path in (path for path in MODULES if room_of(path) == room):
        assert "import numba" not in path.read_text(encoding="utf-8").replace("from numba", "import numba")


def test_only_the_commands_talk():
    """Nothing below them prints, exits, asks, or knows of a terminal, the standard streams' text or click."""
    for path in (path for path in MODULES if room_of(path) != "cli"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            place = f"{path}, line {getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Name):
                assert node.id not in ("print", "input", "exit", "quit", "breakpoint"), place
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("exit", "_exit", "isatty", "stdout", "stderr", "get_terminal_size"), place
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert "click" not in ast.unparse(node), place


# ---------------------------------------------------------------- what starts quickly


def modules_after(python, code):
    """The modules that are loaded once the code has run in a process of its own."""
    outcome = python("-c", f"import sys\n{code}\nprint(*sys.modules, file=sys.__stderr__)")
    assert outcome.code == 0, outcome.err
    return set(outcome.err.split())


def test_import_nblstm_is_light(python):
    """It loads neither numba nor NumPy nor click; the names come with their first use."""
    assert not {"numba", "numpy", "click"} & modules_after(python, "import nblstm; dir(nblstm)")
    assert "numba" not in modules_after(
        python, "import nblstm; [getattr(nblstm, n) for n in nblstm.__all__ if n != 'train']"
    )


@each(
    "args",
    [
        ["sample", "-n", "100"], ["sample", "--beam", "8"], ["score", "corpus.txt"], ["eval", "corpus.txt"],
        ["info"], ["info", "--json"], ["train", "-h"], ["--version"],
    ],
)  # fmt: skip
def test_these_commands_load_no_numba(python, folder, args):
    """Sampling or scoring a short text and describing a model need NumPy alone."""
    code = f"from nblstm.cli.main import main\ntry: main({args!r})\nexcept SystemExit as ended: assert ended.code == 0"
    loaded = modules_after(python, f"import io; sys.stdout = io.StringIO()\n{code}")
    assert "click" in loaded and "numba" not in loaded


def test_writing_a_text_loads_what_it_needs(python, folder):
    """Nothing of training, of other tasks' configs, of heads and kernels that the model does not have, or of tables."""
    code = "import nblstm; ''.join(nblstm.load('model.safetensors').generate(n=9, backend='numpy'))"
    needless = (
        "nblstm.config.training", "nblstm.config.text", "nblstm.tasks.masked", "nblstm.tasks.window", "nblstm.nn.card",
        "nblstm.nn.adaptive", "nblstm.kernels.reference.crf", "nblstm.kernels.reference.optimizers", "nblstm.text.tables",
        "nblstm.generation.beam", "nblstm.training", "nblstm.scoring", "numpy.ma.core", "concurrent.futures",
        "nblstm.config.writing", "nblstm.text.batches", "numpy.random",
    )  # fmt: skip
    loaded = modules_after(python, code) - modules_after(python, "import numpy")  # an old one loads more
    assert not [name for name in loaded if name.startswith(needless)]


def test_the_options_of_a_command_need_no_numpy(python):
    """Help, and a wrong option, come without it."""
    code = "from nblstm.cli.main import main\ntry: main({!r})\nexcept SystemExit: pass"
    for args in (["sample", "-h"], ["sample", "--warmth", "2"]):
        assert "numpy" not in modules_after(python, f"import io; sys.stdout = io.StringIO()\n{code.format(args)}")


def test_co_writing_loads_no_numba(python, folder):
    """Typing and being offered continuations need NumPy alone."""
    code = "import nblstm; writer = nblstm.load('model.safetensors').cowriter(); writer.type('S')"
    assert "numba" not in modules_after(python, code + "; writer.continuations()")


def test_every_public_name_exists():
    """`from nblstm import *` works, and an unknown name is an AttributeError."""
    assert all(getattr(nblstm, name) is not None for name in nblstm.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        nblstm.no_such_name


def test_only_the_commands_are_found_beside_the_package(python):
    """`nblstm.tests` and `nblstm.setup` do not import, though they lie beside `nblstm.cli` in a checkout."""
    code = "from nblstm.cli.main import main; from importlib.util import find_spec"
    for name in ("tests", "setup", "benchmarks", "docs", "examples", "nblstm"):
        code += f"; assert find_spec('nblstm.{name}') is None, '{name}'"
    outcome = python("-c", code)
    assert outcome.code == 0, outcome.err
    assert "No module named 'nblstm.tests'" in python("-c", "import nblstm.tests").err


def test_the_commands_import_as_any_subpackage(python):
    """By every form of import, as a module to run, and as an attribute once they are imported."""
    for code in (
        "import nblstm.cli; nblstm.cli",
        "from nblstm import cli; cli.__path__",
        "from nblstm.cli import main",
    ):
        outcome = python("-c", code)
        assert outcome.code == 0, outcome.err
    assert python("-m", "nblstm", "--version").out.startswith("nblstm, version")


# ---------------------------------------------------------------- the package


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of the files in a wheel built from a copy of the checkout."""
    pytest.importorskip("setuptools", minversion="70.1")  # from there on it builds wheels on its own
    if not (ROOT / "setup.py").exists():
        pytest.skip("not run from a checkout")
    copy, built = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("built")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            (copy / name).write_bytes((ROOT / name).read_bytes())
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.glob("py.typed"), *CLI.glob("*.py")]:
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    code = "from setuptools.build_meta import build_wheel; build_wheel(__import__('sys').argv[1])"
    subprocess.run([sys.executable, "-c", code, built], cwd=copy, check=True, capture_output=True, timeout=120)
    (file,) = built.iterdir()
    return zipfile.ZipFile(file).namelist()


def test_the_wheel_has_the_commands_inside_nblstm(wheel):
    """nblstm/cli/*.py is there, and no top-level name but nblstm: no cli, tests or benchmarks."""
    assert {f"nblstm/cli/{path.name}" for path in CLI.glob("*.py")} <= set(wheel)
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"nblstm"}


def test_the_wheel_is_complete(wheel):
    """Every module of the package is in it, once, and the mark that it is typed."""
    modules = {f"nblstm/{path.relative_to(PACKAGE).as_posix()}" for path in PACKAGE.rglob("*.py")}
    assert modules | {"nblstm/py.typed"} <= set(wheel) and len(wheel) == len(set(wheel))
    assert any(name.endswith("entry_points.txt") for name in wheel)


def test_scripts_import_what_there_is():
    """What benchmarks, examples and stress tests take from the package exists there, wherever in a script they ask."""
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("not run from a checkout")
    asked = 0
    for path in [path for name in ("benchmarks", "examples", "tests/stress") for path in (ROOT / name).glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nblstm"):
                continue
            if ".cuda" in node.module:
                continue  # imports only where there is a card, or its simulator
            home = importlib.import_module(node.module)
            for name in (alias.name for alias in node.names):
                found = hasattr(home, name) or importlib.util.find_spec(f"{node.module}.{name}")
                assert found, f"{path.name} imports {name} from {node.module}, where it is not"
                asked += 1
    assert asked > 50
