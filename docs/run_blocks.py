"""Run every ```sh and ```python block of README.md and docs/, in order, and compare what it prints with what is shown.

    python docs/run_blocks.py                       # all pages; some minutes
    python docs/run_blocks.py README.md docs/series.md
    python docs/run_blocks.py --texts FOLDER        # with the real tinyshakespeare.txt and names.txt of that folder

Each page runs in a fresh folder that holds small stand-ins for the texts it downloads. Comments above a block say how:

    <!-- run: NBLSTM_TRAIN_STEPS=20 -->             with these environment variables, which make it shorter
    <!-- not run: downloads a file -->              not at all, and why
    <!-- exits: 2 -->                               it is to end with this code
    <!-- output: apart from compiling|buckets -->   lines that begin like these may be on one side only
    <!-- output: not compared: drawn from a model -->

A ```text block behind such a block shows its output, stdout and stderr. Numbers are masked, and lines of one form that
follow each other count once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 600  # that a block may take
RUNNABLE = ("sh", "python")
NUMBER = re.compile(r"[-−]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?")
COMMENT = re.compile(r"<!-- (run|not run|exits|output): (.*) -->")
PROGRESS = re.compile(r"(epoch|validating|# tokens)\b.*# %( .*)?")  # a line that a terminal overwrites
SHORTENED = re.compile(r"warning only # update.*")  # of runs that are longer on the page
VERSE = """ROMEO:
To be, or not to be: that is the question.
The quick brown fox jumps over the lazy dog; what is the King?

"""


@dataclass
class Block:
    """A fenced block of a page, the comments above it by their first word, and the output block that follows it."""

    page: Path
    line: int
    language: str
    text: str
    notes: dict[str, str] = field(default_factory=dict)
    output: Block | None = None

    @property
    def runs(self) -> bool:
        return self.language in RUNNABLE and "not run" not in self.notes


def pages() -> list[Path]:
    """README.md and the guides, in a fixed order; the API page has nothing to run."""
    return [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "api.md")]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page. ValueError if one has no language or no end."""
    found: list[Block] = []
    notes: dict[str, str] = {}
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    for number, line in lines:
        comment = COMMENT.fullmatch(line)
        if comment:
            notes[comment[1]] = comment[2]
        elif line.startswith("```"):
            block = Block(page, number, line[3:].strip(), _body(lines, page, number), notes)
            if not block.language:
                raise ValueError(f"{page.name}:{number}: a block must name its language.")
            if block.language == "text" and found and found[-1].language in RUNNABLE:
                found[-1].output = block
            found.append(block)
            notes = {}
        elif line.strip():
            notes = {}
    return found


def _body(lines: Iterator[tuple[int, str]], page: Path, number: int) -> str:
    """The lines up to the closing fence."""
    body = []
    for _, line in lines:
        if line.startswith("```"):
            return "\n".join(body) + "\n"
        body.append(line)
    raise ValueError(f"{page.name}:{number}: a block must end.")


# ---------------------------------------------------------------- running


def run_page(page: Path, texts: Path | None = None) -> list[str]:
    """Run a page's blocks in a fresh folder and describe what went wrong, a line or more each."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "work")
        work.mkdir()
        environment = _environment(Path(folder))
        _put_texts(work, texts)
        names: dict[str, object] = {"__name__": "__main__"}
        for block in (block for block in blocks(page) if block.runs):
            code, printed = _run(block, work, environment, names)
            problem = _problem(block, code, printed)
            if problem:
                wrong.append(f"{page.name}:{block.line}: {problem}")
    return wrong


def _environment(folder: Path) -> dict[str, str]:
    """An environment in which `nblstm` and `python` are this checkout's and this interpreter."""
    programs = folder / "bin"
    programs.mkdir()
    for name, rest in (("nblstm", " -m nblstm"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{rest} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NBLSTM_")}
    path = f"{programs}{os.pathsep}{variables.get('PATH', '')}"
    return {**variables, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}


def _put_texts(work: Path, texts: Path | None) -> None:
    """The texts that pages download, or stand-ins, and the programs that they name."""
    shutil.copytree(ROOT / "examples", work / "examples")
    for name, make in (("tinyshakespeare.txt", lambda: VERSE * 300), ("names.txt", _names)):
        if texts is not None:
            shutil.copy(texts / name, work / name)
        else:
            (work / name).write_text(make(), encoding="utf-8")


def _names() -> str:
    """A sorted list of 1,500 made-up names, a line each."""
    draw = random.Random(0).choice
    syllables = ["ma", "ri", "an", "el", "lo", "qui", "nn", "jo", "sa", "be", "th", "ka", "len", "da"]
    names = {draw(syllables) + draw(syllables) + draw(["", "a", *syllables]) for _ in range(3000)}
    return "\n".join(sorted(names)) + "\n"


def _run(block: Block, work: Path, environment: dict[str, str], names: dict[str, object]) -> tuple[int, str]:
    """The exit code of a block and what it printed; Python blocks of a page share their names."""
    if block.language == "python":
        return _run_python(block, work, names)
    extra = dict(part.split("=", 1) for part in block.notes.get("run", "").split())
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text], cwd=work, env={**environment, **extra}, timeout=SECONDS,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _run_python(block: Block, work: Path, names: dict[str, object]) -> tuple[int, str]:
    """0 and what the block printed, or 1 and the traceback of what it raised."""
    printed, before = io.StringIO(), os.getcwd()
    os.chdir(work)
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(block.text, f"{block.page.name}:{block.line}", "exec"), names)
    except Exception:
        return 1, traceback.format_exc()
    finally:
        os.chdir(before)
    return 0, printed.getvalue()


# ---------------------------------------------------------------- comparing


def _problem(block: Block, code: int, printed: str) -> str:
    """What is wrong with how a block ended, or nothing."""
    expected = int(block.notes.get("exits", 0))
    if code != expected:
        return f"ended with code {code}, not {expected}:\n{printed}"
    if block.output is None or block.output.notes.get("output", "").startswith("not compared"):
        return ""
    shown, real = shapes(block.output.text), shapes(printed)
    apart = block.output.notes.get("output", "").removeprefix("apart from ")
    if apart:
        free = re.compile(apart)
        shown, real = (
            [line for line in lines if line in others or not free.match(line)]
            for lines, others in ((shown, real), (real, shown))
        )
    if shown != real:
        return "shows\n  " + "\n  ".join(shown) + "\nbut prints\n  " + "\n  ".join(real)
    return ""


def shapes(text: str) -> list[str]:
    """The forms of a text's lines: numbers masked, blanks as one, and the same form in a row once."""
    found: list[str] = []
    for line in text.splitlines():
        shape = " ".join(NUMBER.sub("#", line).split())
        if not PROGRESS.fullmatch(shape) and not SHORTENED.fullmatch(shape) and [shape] != found[-1:]:
            found.append(shape)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, help="pages to run; all without any")
    parser.add_argument("--texts", type=Path, help="a folder with the real tinyshakespeare.txt and names.txt")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    wrong = []
    for page in args.pages or pages():
        found = run_page(page.resolve(), args.texts and args.texts.resolve())
        print(f"{page.name}: {'; '.join(found) or 'right'}", flush=True)
        wrong += found
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
