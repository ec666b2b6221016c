"""SIGKILL of one of two processes that train together, at random moments; one process goes on each time.

    python tests/stress/ranks.py --seed 0 --count 20

Each time mpiexec must end the run, and the checkpoint, if there was time for one, must load; one process then trains to
the planned number of updates, and its weights are those of a run that nothing has happened to, to 1e-4.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from children import ROOT, arguments, start, write_corpus

import nblstm

STEPS = 300
RECIPE = [
    "--hidden-size", "48", "--batch-size", "8", "--bptt", "16", "--num-layers", "1", "--dropout", "0", "--steps", STEPS,
    "--valid-every", "40", "--patience", "0", "--threads", "1", "--quiet",
]  # fmt: skip


def processes_of(folder):
    """The processes that train in a folder, from Linux's /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            arguments_of = (path / "cmdline").read_bytes().split(b"\0")
            if b"nblstm" in arguments_of and b"-n" not in arguments_of and (path / "cwd").resolve() == folder.resolve():
                found.append(int(path.name))
        except OSError:
            pass
    return found


def kill_one(folder, choose, longest):
    """Start two processes, kill one of them after a while; what was wrong, and whether there was time for a checkpoint."""
    for path in folder.glob("model*"):
        path.unlink()
    command = ["mpiexec", "-n", "2", sys.executable, "-m", "nblstm", "train", "corpus.txt", *map(str, RECIPE)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(command, cwd=folder, env=variables, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    time.sleep(choose.uniform(0.5, longest))
    mine = processes_of(folder)
    if mine:
        subprocess.run(["kill", "-9", str(choose.choice(mine))], check=False, stderr=subprocess.DEVNULL)
    try:
        run.wait(30)
    except subprocess.TimeoutExpired:
        run.kill()
        return ["mpiexec did not end"], False
    left = processes_of(folder)
    return [f"processes {left} are left"] if left else [], (folder / "model.checkpoint.safetensors").exists()


def main():
    options = arguments(__doc__, 20)
    if shutil.which("mpiexec") is None:
        sys.exit("there is no mpiexec: pip install mpi4py mpich")
    choose, failures, resumed = random.Random(options.seed), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder)
        started = time.monotonic()
        start(folder, "train", "corpus.txt", *RECIPE).communicate()
        longest, whole = 2 + time.monotonic() - started, nblstm.load(folder / "model.safetensors").parameters
        for run in range(options.count):
            wrong, there = kill_one(folder, choose, longest)
            if there:
                process = start(folder, "train", "--resume", "--quiet")
                _, err = process.communicate()
                difference = np.abs(nblstm.load(folder / "model.safetensors").parameters - whole).max()
                wrong += [f"resumed: {err!r}"] if process.returncode else []
                wrong += [f"weights differ by {difference:.2g}"] if difference > 1e-4 else []
            failures, resumed = failures + bool(wrong), resumed + there
            print(f"{run:4} {'went on' if there else 'no checkpoint yet'}: {'; '.join(wrong) or 'right'}", flush=True)
    print(f"{failures} of {options.count} went wrong; {resumed} went on from a checkpoint")
    raise SystemExit(failures > 0)


if __name__ == "__main__":
    main()
