"""Commands as a user runs them: their environment, how they end, and what an error of theirs looks like."""

import os
from dataclasses import dataclass
from pathlib import Path

import nblstm

VERSE = "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n"
SMALL = ["--hidden-size", "8", "--num-layers", "1", "--batch-size", "4", "--bptt", "8"]
PATIENCE = 120  # seconds that a test waits for a process of its own
USAGE, FAILURE = 2, 1  # exit codes: the user mistyped; something is wrong with a file or the machine


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(**variables):
    """Return the environment of a process that runs this nblstm, warnings being errors."""
    root = str(Path(nblstm.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8", **variables}


def snapshot(folder):
    """Return every file below the folder, and what is in it."""
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def assert_refused(outcome, code, *words):
    """Fail unless one line begins with Error:, says what it should, and nothing else comes anywhere."""
    assert outcome.err.startswith("Error: ") and outcome.err.endswith("\n"), outcome
    assert outcome.err.count("\n") == 1 and len(outcome.err) < 400, outcome.err
    assert not [word for word in words if word not in outcome.err], outcome.err
    assert (outcome.code, outcome.out) == (code, "")
