"""Runs that are stopped at random steps, half of them by SIGKILL, and go on: they must end where one whole run ends.

    python tests/stress/resume.py --seed 0 --count 50

Every optimizer and schedule, dropout, a stream of text or shuffled documents in buckets, several numbers of threads; the
hashes of all arrays and facts of the last checkpoints are compared.
"""

import random
import signal
import tempfile
import time
from pathlib import Path

from children import arguments, digest, start, write_corpus

from nblstm.config import OPTIMIZERS, SCHEDULES

BASE = ["--hidden-size", "16", "--num-layers", "2", "--dropout", "0.3", "--bptt", "16", "--steps", "400"]


def recipe(choose, run):
    """Settings of a run; optimizers and schedules take turns."""
    optimizers, schedules = tuple(OPTIMIZERS), tuple(SCHEDULES)
    optimizer, schedule = optimizers[run % len(optimizers)], schedules[run // len(optimizers) % len(schedules)]
    args = ["corpus.txt", *BASE, "--optimizer", optimizer, "--schedule", schedule, "--seed", run]
    args += ["--lr", {"sgd": 0.1, "asgd": 0.5}.get(optimizer, 0.003)]
    args += ["--averaging-patience", "1"] if optimizer == "asgd" else []
    args += ["--decay-after", "1"] if schedule in ("step", "plateau") else []
    documents = ["--documents", "line", "--num-buckets", "3", "--batch-size", "16"]
    return args + choose.choice([["--batch-size", "8"], documents])


def threads(choose):
    return ["--threads", choose.choice([1, 2, 3])]


def stop(process, folder, choose, number):
    """Send the signal once the first checkpoint is there and some more time has passed; whether it was in time."""
    checkpoint = folder / "model.checkpoint.safetensors"
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.005)
    time.sleep(choose.uniform(0.0, 0.6))
    in_time = process.poll() is None
    process.send_signal(number)
    process.communicate(timeout=120)
    return in_time


def main():
    options = arguments(__doc__, 50)
    choose, failures, stops = random.Random(options.seed), 0, 0
    for run in range(options.count):
        with tempfile.TemporaryDirectory() as name:
            folder, args = Path(name), recipe(choose, run)
            write_corpus(folder, 120)
            whole = start(folder, "train", *args, *threads(choose), "--quiet", "-o", "whole.safetensors")
            _, err = whole.communicate(timeout=120)
            number = signal.SIGKILL if run % 2 else choose.choice([signal.SIGINT, signal.SIGTERM])
            process = start(folder, "train", *args, *threads(choose), "--quiet", save_seconds=0.05)
            stops += stop(process, folder, choose, number)
            going_on = start(folder, "train", "--resume", *threads(choose), "--quiet")
            _, more = going_on.communicate(timeout=120)
            same = not err and not more
            same = same and digest(folder / "whole.checkpoint.safetensors") == digest(
                folder / "model.checkpoint.safetensors"
            )
        failures += not same
        print(
            f"{run:4} {signal.Signals(number).name} {'same' if same else 'OTHER ' + err + more}: {' '.join(map(str, args[11:]))}"
        )
    print(f"{failures} of {options.count} ended elsewhere; {stops} were stopped before their end")
    raise SystemExit(failures > 0)


if __name__ == "__main__":
    main()
