"""How the cost of training grows with hidden size, batch, vocabulary, threads and corpus, beside the operations.

    python benchmarks/scaling.py [--only hidden batch vocabulary threads corpus] [--corpus-mb 1 16] [--repeat 5]

Each row is compared with the one above it, measured in turns with it: how many times the operations of a token grew,
how many times its seconds did, and by how much the second differs from the first (+10% costs a tenth more than the
operations say). Operations are those of the matrix products; for threads, the ideal is time / threads.

The corpus rows train a small model for a fixed number of steps on a generated text of that many megabytes, in a
process of their own: memory should not grow with the text.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import common  # first: it sets the environment that the others read  # isort: skip

import limits
import numpy as np
from train import Case, Training

from nblstm.config import TextConfig, TrainConfig
from nblstm.nn.parameters import initial
from nblstm.tasks.session import Session

BASE = Case(num_layers=2, hidden_size=256, batch_size=64, bptt=64)
WORDS = replace(BASE, hidden_size=128, bptt=32)  # smaller, so that the largest vocabulary takes a second a step
SWEEPS = {
    "hidden": {f"hidden size {H}": replace(BASE, hidden_size=H, bptt=32) for H in (128, 256, 512, 1024)},
    "batch": {f"batch {N}": replace(BASE, batch_size=N) for N in (16, 32, 64, 128)},
    "vocabulary": {f"vocabulary {V:,}": replace(WORDS, vocab_size=V) for V in (65, 10_000, 100_000)},
}
CORPUS_STEPS = 300


# ---------------------------------------------------------------- sizes and threads


def sweep(cases: dict[str, Case], args: Any) -> list[dict[str, Any]]:
    """One row a case: seconds per token of each round, and its growth against the row above."""
    calls, cost = {}, {}
    for name, case in cases.items():
        chunk = case.chunk()
        training = Training(case.shape, initial(case.shape, 0), case.batch_size, args.threads)
        calls[name] = lambda t=training, chunk=chunk: t.step(chunk)
        cost[name] = limits.training_operations(case.shape, case.tokens, len(np.unique(chunk.tokens))) / case.tokens
    times = common.interleaved(calls, args.repeat)
    seconds = {name: [turn / cases[name].tokens for turn in times[name]] for name in cases}
    return grown(seconds, cost)


def threads(args: Any) -> list[dict[str, Any]]:
    """As `sweep`, for one case on 1, 2, 4 ... threads."""
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= args.threads]
    calls = {}
    chunk = BASE.chunk()
    for n in counts:
        training = Training(BASE.shape, initial(BASE.shape, 0), BASE.batch_size, n)
        calls[f"threads {n}"] = lambda t=training: t.step(chunk)
    times = common.interleaved(calls, args.repeat)
    seconds = {name: [turn / BASE.tokens for turn in times[name]] for name in calls}
    operations = limits.training_operations(BASE.shape, BASE.tokens, len(np.unique(chunk.tokens))) / BASE.tokens
    return grown(seconds, {f"threads {n}": operations / n for n in counts})


def grown(seconds: dict[str, list[float]], cost: dict[str, float]) -> list[dict[str, Any]]:
    """Rows of a sweep. cost: what the seconds should be proportional to."""
    rows, above = [], None
    for name in seconds:
        row: dict[str, Any] = {"case": name, "seconds_per_token": seconds[name], "operations_per_token": cost[name]}
        if above:
            row["growth_of_operations"] = cost[name] / cost[above]
            row["growth_of_seconds"] = common.ratios(seconds[name], seconds[above])
            row["deviation"] = common.median(row["growth_of_seconds"]) / row["growth_of_operations"] - 1
        rows.append(row)
        above = name
    return rows


def rendered(row: dict[str, Any]) -> dict[str, str]:
    """A row of figures as a row of the table."""
    cells = {
        "case": row["case"],
        "us / token": common.spread(row["seconds_per_token"], 1e6, 2),
        "MFLOP / token": f"{row['operations_per_token'] / 1e6:.1f}",
    }
    if "deviation" in row:
        cells |= {
            "operations x": f"{row['growth_of_operations']:.2f}",
            "time x": common.spread(row["growth_of_seconds"], digits=2),
            "deviation": f"{row['deviation']:+.0%}",
        }
    return cells


# ---------------------------------------------------------------- corpus


def corpus(args: Any) -> list[dict[str, Any]]:
    """Steps on texts of different sizes: seconds a step, seconds to read the text, peak memory of the process."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="nblstm-scaling-") as folder:
        for turn, megabytes in enumerate([args.corpus_mb[0], *args.corpus_mb]):
            text = Path(folder, "text.txt")
            write_text(text, megabytes)
            command = [sys.executable, __file__, "--train-on", str(text), "--threads", str(args.threads)]
            output = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
            if turn:  # the first process may have compiled the kernels
                rows.append({"megabytes": megabytes, **json.loads(output)})
    return rows


def write_text(path: Path, megabytes: float) -> None:
    """Random lower-case text with spaces and line ends, a megabyte at a time."""
    random = np.random.default_rng(0)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz      \n", np.uint8)
    with open(path, "wb") as file:
        for start in range(0, round(megabytes * 1e6), 10**6):
            size = min(10**6, round(megabytes * 1e6) - start)
            file.write(letters[random.integers(0, len(letters), size)].tobytes())


def train_on(path: str, count: int) -> None:
    """In a process of its own: train for CORPUS_STEPS, print what it took."""
    config = TrainConfig(steps=CORPUS_STEPS, threads=count)
    sessions: list[Session] = []

    def start() -> None:
        text, model = TextConfig(valid_fraction=0.0), {"hidden_size": 64, "num_layers": 1}
        sessions.append(
            Session.start(
                [path], Path(path).with_suffix(".safetensors"), text=text, model=model, config=config, overwrite=True
            )
        )

    reading = common.timed(start)
    run = sessions[0].trainer.run()
    seconds = [common.timed(lambda: next(run)) for _ in range(CORPUS_STEPS)]
    facts = {"reading_seconds": reading, "step_seconds": common.median(seconds), "peak_bytes": common.peak_memory()}
    print(json.dumps(facts))


def rendered_corpus(row: dict[str, Any], smallest: dict[str, Any]) -> dict[str, str]:
    """A row of figures as a row of the table."""
    return {
        "corpus": f"{row['megabytes']:g} MB",
        "reading s": f"{row['reading_seconds']:.2f}",
        "reading MB/s": f"{row['megabytes'] / row['reading_seconds']:.0f}",
        "ms / step": f"{row['step_seconds'] * 1e3:.1f}",
        "peak MB": f"{row['peak_bytes'] / 1e6:.0f}",
        "peak x": f"{row['peak_bytes'] / smallest['peak_bytes']:.2f}",
    }


def main() -> None:
    parser = common.parser(__doc__, repeat=5)
    known = [*SWEEPS, "threads", "corpus"]
    parser.add_argument("--only", nargs="+", choices=known, default=known, help="what is varied (default: all)")
    parser.add_argument("--corpus-mb", nargs="+", type=float, default=[1, 16], metavar="MB", help="sizes (1 16)")
    parser.add_argument("--train-on", help="(used by --only corpus)")
    args = parser.parse_args()
    if args.train_on:
        return train_on(args.train_on, args.threads)
    compiling = common.timed(lambda: compile_kernels(args.threads))
    rows = [row for name in SWEEPS if name in args.only for row in sweep(SWEEPS[name], args)]
    rows += threads(args) if "threads" in args.only else []
    corpora = corpus(args) if "corpus" in args.only else []
    if args.json:
        return common.report("scaling", args, rows, figures={"sweeps": rows, "corpora": corpora})
    common.report("scaling of training, float32", args, [rendered(row) for row in rows])
    print(f"\ncompile {compiling:.1f} s (before the first measurement); each row is compared with the one above it")
    if corpora:
        print(f"\n{CORPUS_STEPS} steps of a 1x64 model on texts of different sizes\n")
        common.table([rendered_corpus(row, corpora[0]) for row in corpora])


def compile_kernels(count: int) -> None:
    """One step of a small model: no measurement waits for a compiler."""
    case = Case(2, 16, 4, 4)
    Training(case.shape, initial(case.shape, 0), case.batch_size, count).step(case.chunk())


if __name__ == "__main__":
    main()
