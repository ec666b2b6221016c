"""Wall time of whole processes, from the start of Python to its end: what a person waits for.

    python benchmarks/startup.py [--repeat 5] [--cold-repeat 2] [--json]

Every command runs once untimed, then in interleaved rounds, as its installed script starts it, with Python's bytecode
kept. "first step" starts a training session on a small text with the default model, and ends as soon as its first update
is made; with an empty kernel cache it includes all compiling.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common  # first: it sets the environment that the others read  # isort: skip

WORDS = "the quick brown fox jumps over a lazy dog and runs away from it again ".split()
TEXT = " ".join(WORDS[(k * k + k // 3) % len(WORDS)] for k in range(4000))  # 20,000 characters
LIMIT = 300.0  # seconds that a process may take

MAKE_MODEL = "import nblstm; nblstm.train('text.txt', 'model.safetensors', hidden_size=128, steps=20)"
FIRST_STEP = """
import os
from nblstm.tasks.session import Session
session = Session.start(["text.txt"], "step.safetensors", overwrite=True)
print(next(session.trainer.run()).loss, flush=True)
os._exit(0)
"""
SCRIPT = ["-c", "from nblstm.__main__ import main; main()"]  # what is installed as `nblstm`
SAMPLE = [*SCRIPT, "sample", "-n", "100", "--seed", "1"]


def commands(peers: list[str]) -> dict[str, list[str]]:
    """What is timed: name -> arguments of Python."""
    rows = {
        "python -c pass": ["-c", "pass"],
        "import numpy": ["-c", "import numpy"],
        "import nblstm": ["-c", "import nblstm"],
        "nblstm --version": [*SCRIPT, "--version"],
        "nblstm info": [*SCRIPT, "info"],
        "nblstm sample -n 100": SAMPLE,
        "nblstm sample -n 100 --backend cpu": [*SAMPLE, "--backend", "cpu"],
        "import numba": ["-c", "import numba"],
        "first step, kernels cached": ["-c", FIRST_STEP],
    }
    if "torch" in peers:
        rows["import torch"] = ["-c", "import torch"]
    return rows


def seconds(arguments: list[str], folder: Path, cache: Path) -> float:
    """The wall time of one process; the program ends with its errors if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(common.ROOT), "NUMBA_CACHE_DIR": str(cache)}
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):  # what no user has
        environment.pop(name, None)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT
    )
    taken = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"python {' '.join(arguments)} failed:\n{done.stderr}")
    return taken


def measure(args: Any, folder: Path) -> dict[str, list[float]]:
    """Seconds a round of every command, and of the first step with an empty cache."""
    (folder / "text.txt").write_text(TEXT)
    warm, times = folder / "warm", {}
    seconds(["-c", MAKE_MODEL], folder, warm)
    cold = [seconds(["-c", FIRST_STEP], folder, folder / f"cold{k}") for k in range(args.cold_repeat)]
    rows = commands(common.installed(args.peers))
    for name, arguments in rows.items():
        seconds(arguments, folder, warm)  # bytecode, kernels and the file system's cache
        times[name] = []
    for turn in range(args.repeat):
        for name in list(rows)[:: 1 if turn % 2 == 0 else -1]:
            times[name].append(seconds(rows[name], folder, warm))
    return times | ({"first step, empty kernel cache": cold} if cold else {})


def main() -> None:
    parser = common.parser(__doc__, repeat=5, peers=["torch"])
    parser.add_argument("--cold-repeat", type=int, default=2, metavar="N", help="with an empty cache (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nblstm-startup-") as folder:
        times = measure(args, Path(folder))
    sample, torch = times["nblstm sample -n 100"], times.get("import torch")
    rows = [{"process": name, "seconds": common.spread(taken, digits=3)} for name, taken in times.items()]
    notes = []
    if torch:
        for row, taken in zip(rows, times.values()):
            row["share of import torch"] = f"{common.median(taken) / common.median(torch):.2f}"
        share = common.spread(common.ratios(sample, torch), digits=2)
        notes.append(f"nblstm sample -n 100 / import torch, round by round: {share}")
    common.report("wall time of whole processes", args, rows, notes, times)


if __name__ == "__main__":
    main()
