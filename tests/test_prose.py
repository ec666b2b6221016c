"""The house's words, read from the sources: no message names a flag, a public name is one thing, docstrings say what is done."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KERNELS = (
    ROOT / "nblstm" / "kernels"
)  # its folders share the names of their contract, and equations stand for summaries
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

FLAG = re.compile(r"(?<![\w`(+*/<>=-])(--[a-z][\w-]+|-[a-zA-Z])(?![\w(])")
NOT_FLAGS = {
    "nblstm/__main__.py",
    "nblstm/reporting/style.py",
    "nblstm/reporting/theme.py",
    "nblstm/reporting/recipe.py",
    "nblstm/exporting/c_products.py",
    "nblstm/exporting/c_source.py",
    "nblstm/exporting/c_steps.py",
    "nblstm/exporting/c_texts.py",
    "nblstm/exporting/c_classifier_source.py",
    "nblstm/exporting/c_tagger_source.py",
    "nblstm/exporting/py_classifier_source.py",
    "nblstm/exporting/py_language_source.py",
}  # `python -m`; a command line for readers of a report; names of colours; rules of comments

PROPERTIES = ("property", "remembered")  # decorators
VERBS = set(
    """Add Advance Answer Apply Break Build Call Change Check Choose Clip Close Compile Compute Continue Convert Copy Count Cut
    Decode Delete Describe Draw Encode End Escape Estimate Evaluate Find Finish Fit Flush Format Generate Give Go Hear Hold
    Import Join Judge Keep Lay Learn Leave Lend Let List Load Lock Look Make Mark Mask Measure Merge Mix Move Name Note Open
    Pack Parse Predict Prepare Print Put Quote Raise Read Record Release Remember Render Replace Report Resume Return Run
    Round Save Say Scale Score Search Select Serve Set Show Silence Sort Spell Split Start Step Stop Take Tell Tie Train Translate
    Turn Type Undo Update
    Use Wait Warn Write Yield Zero""".split()
)


def sources(*folders: Path) -> Iterator[tuple[str, ast.Module]]:
    """Yield (path, tree) of every module in the folders, the kernels left out."""
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            if KERNELS not in path.parents:
                yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def docstrings(tree: ast.AST) -> set[int]:
    """Return the ids of the nodes that are docstrings: they may show commands."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)))
    return {id(node.body[0].value) for node in nodes if node.body and isinstance(node.body[0], ast.Expr)}


def flags(tree: ast.AST) -> list[str]:
    """Return the constant strings of a module, those of f-strings included, that name a flag."""
    skipped = docstrings(tree)
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [
        f"line {node.lineno}: {node.value}" for node in constants if id(node) not in skipped and FLAG.search(node.value)
    ]


def test_no_message_of_the_library_names_a_flag():
    """People who call Python read "lr"; the command line spells it as its option, see `nblstm.cli.spelling`."""
    found = {path: flags(tree) for path, tree in sources(ROOT / "nblstm") if path not in NOT_FLAGS}
    assert not {path: lines for path, lines in found.items() if lines}


@pytest.mark.parametrize(
    "text", ["try a smaller --lr", "choose another -o", "name it (--corpus)", "use --hidden-size."]
)
def test_a_flag_is_noticed(text):
    """In constants and in f-strings; a docstring may show a command."""
    text = text.replace("(", "")
    assert flags(ast.parse(f"x = {text!r}")) and flags(ast.parse(f"x = f'{{y}} {text}'"))
    assert not flags(ast.parse(f"def f():\n    '''{text}'''"))


@pytest.mark.parametrize("text", ["log-probability", "a line-end", "exp(-x)", "x - y", "1e-5", "utf-8", "---"])
def test_a_hyphen_is_no_flag(text):
    """Words and formulas have hyphens, too."""
    assert not flags(ast.parse(f"x = {text!r}"))


def public_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module defines on its top level, imports left out."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, *FUNCTIONS)):
            yield node.name
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            yield from (name.id for name in ast.walk(target) if isinstance(name, ast.Name))


def test_a_public_name_is_one_thing():
    """None is defined in two files, outside of the kernels."""
    homes = defaultdict(set)
    for path, tree in sources(ROOT / "nblstm"):
        for name in public_names(tree):
            if not name.startswith("_"):
                homes[name].add(path)
    assert not {name: sorted(paths) for name, paths in homes.items() if len(paths) > 1}


def public_functions(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef, str]]:
    """Yield (function, docstring) of the public functions and methods that have one; a property may begin with a noun."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from public_functions(node)
        elif isinstance(node, FUNCTIONS) and not node.name.startswith("_"):
            is_property = any(
                word in ast.unparse(decorator) for decorator in node.decorator_list for word in PROPERTIES
            )
            text = ast.get_docstring(node)
            if text and not is_property:
                yield node, text


def test_a_public_docstring_begins_with_a_verb():
    """In the imperative: "Return the ...", not "The ..."; a new verb is added to VERBS when it is needed."""
    wrong = [
        f"{path}:{node.lineno} {node.name}: {text.splitlines()[0]}"
        for path, tree in sources(ROOT / "nblstm", ROOT / "cli")
        for node, text in public_functions(tree)
        if re.split(r"\W", text, maxsplit=1)[0] not in VERBS
    ]
    assert not wrong, "\n".join(wrong)


MOST_LINES, MOST_BODY, MOST_NEST = 400, 40, 70  # of a file; of a function's body; of one that is a kernel's loop nest


def test_files_and_functions_are_short():
    """A file has at most MOST_LINES lines; a body MOST_BODY, of a kernel MOST_NEST, its docstring left out."""
    long = []
    for path in sorted([*(ROOT / "nblstm").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]):
        text, name = path.read_text("utf-8"), path.relative_to(ROOT).as_posix()
        long += [f"{name}: {text.count(chr(10))} lines"] * (text.count("\n") > MOST_LINES)
        most = MOST_NEST if KERNELS in path.parents else MOST_BODY
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, FUNCTIONS):
                body = node.body[1 if ast.get_docstring(node) is not None else 0 :]
                size = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                long += [f"{name}:{node.lineno} {node.name}: {size} lines"] * (size > most)
    assert not long, "\n".join(long)
