"""README and guides: their blocks run and print what is shown, their commands parse, their links lead somewhere."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from nblstm.cli.main import nblstm as group
from support.cases import each

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "docs").is_dir():
    pytest.skip("not run from a checkout", allow_module_level=True)


def script(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # which dataclasses look up
    spec.loader.exec_module(module)
    return module


run_blocks, make_api = script("run_blocks"), script("make_api")
PAGES = {page.name: page for page in run_blocks.pages()}
QUICK = ["README.md", "documents.md", "files.md"]  # the others are run by `python docs/run_blocks.py`
every_page = each("name", PAGES)


@pytest.mark.parametrize("name", QUICK)
def test_blocks_run_and_print_what_is_shown(name):
    """In order, in a fresh folder, with small texts and few steps."""
    pytest.importorskip("numba")
    assert run_blocks.run_page(PAGES[name]) == []


@every_page
def test_blocks_are_well_formed(name):
    """Each has a known language, shell and Python parse, and one that is not run says why."""
    for block in run_blocks.blocks(PAGES[name]):
        place = f"{name}:{block.line}"
        assert block.language in ("sh", "python", "text"), place
        if block.language == "python":
            compile(block.text, place, "exec")
        if block.language == "sh":
            assert subprocess.run(["bash", "-n", "-c", block.text], capture_output=True).returncode == 0, place
        assert len(block.notes.get("not run", "a reason of some length")) > 10, place


def commands(text):
    """The nblstm commands of a shell block, each as its arguments."""
    for line in text.splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        try:
            words = list(words)
        except ValueError:  # a line within quotes
            continue
        command, before = [], ""
        for word in [*words, ";"]:
            if word in ("|", ";", "&&", "||"):
                if command[:1] == ["nblstm"]:
                    yield command[1:]
                command = []
            elif word not in ("<", ">") and before not in ("<", ">"):
                command.append(word)
            before = word


@every_page
def test_commands_parse(name):
    """Every command and option of a shell block exists, also in blocks that are not run."""
    for block in run_blocks.blocks(PAGES[name]):
        for command, *args in commands(block.text) if block.language == "sh" else ():
            found = group.get_command(click.Context(group), command)
            assert found is not None, f"{name}:{block.line}: {command}"
            found.make_context(command, args, auto_envvar_prefix="NBLSTM_DOCS")


def anchors(page):
    """What the headings of a page can be linked by."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@each("path", [*PAGES.values(), *sorted(ROOT.glob("*.md"))], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    """Each relative link names a file that is there, and a heading of it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target


def test_the_api_page_is_up_to_date():
    """It is what `python docs/make_api.py` writes, and every public name is on it."""
    assert make_api.PAGE.read_text(encoding="utf-8") == make_api.page()


def test_the_readme_is_one_page():
    """A newcomer reads it in three minutes."""
    assert len(PAGES["README.md"].read_text(encoding="utf-8").splitlines()) <= 170


def test_commands_are_found():
    """Behind pipes and redirections, and without comments."""
    text = "nblstm info | head -3   # so\ncat x > y; nblstm sample -n 5 > /dev/null && nblstm plot\nprintf 'nblstm a'"
    assert list(commands(text)) == [["info"], ["sample", "-n", "5"], ["plot"]]


# ---------------------------------------------------------------- the runner itself


@each(
    "page, problem",
    [
        ("```sh\nfalse\n```", "ended with code 1, not 0"),
        ("<!-- exits: 3 -->\n```sh\nexit 3\n```", None),
        ("```sh\nfalse | true\n```", "ended with code 1"),
        ("```python\nx = 1\n```\n\n```python\nprint(x / 0)\n```", "ZeroDivisionError"),
        ("```python\nx = 1\n```\n\n```python\nprint(x)\n```\n\n```text\n2\n```", None),
        ("```sh\necho loss 1.25e-3\n```\n\n```text\nloss   7\n```", None),
        ("```sh\necho loss 1.25\n```\n\n```text\nlosses 7\n```", "shows\n  losses #\nbut prints\n  loss #"),
        ("```sh\necho a\n```\n\n<!-- output: not compared: drawn -->\n```text\nb\n```", None),
        ("```sh\necho a; echo b\n```\n\n<!-- output: apart from [bc] -->\n```text\na\nc\n```", None),
        ("```sh\necho a; echo b\n```\n\n<!-- output: apart from c -->\n```text\na\nc\n```", "shows"),
        ("<!-- run: WORD=hello -->\n```sh\necho $WORD\n```\n\n```text\nhello\n```", None),
        ("<!-- not run: it fails -->\n```sh\nfalse\n```", None),
    ],
)
def test_the_runner_finds_what_is_wrong(tmp_path, page, problem):
    """Exit codes, exceptions and forms of output; comments say what is expected."""
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    found = run_blocks.run_page(tmp_path / "page.md")
    assert (found == []) if problem is None else (problem in found[0])


@pytest.mark.parametrize("page, message", [("```\na\n```", "language"), ("```sh\na", "end")])
def test_a_malformed_page_is_refused(tmp_path, page, message):
    """With the file and the line."""
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    with pytest.raises(ValueError, match=f"page.md:1: .*{message}"):
        run_blocks.blocks(tmp_path / "page.md")
