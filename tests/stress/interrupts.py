"""SIGINT and SIGTERM at random moments of a training command, a second one after some of them.

    python tests/stress/interrupts.py --seed 0 --count 100

Half of the runs compile their kernels, half save and validate all the time. Each must end with 130 or 143 (or by the
signal, while Python starts), with a model and a checkpoint that load or with none, without a traceback, a temporary file
or a lock. Shown is how long each took from the signal to its end, which is for a quiet machine to judge.
"""

import random
import signal
import tempfile
import time
from pathlib import Path

from children import arguments, check_model, remains, start, write_corpus

RECIPE = ["--epochs", "100000", "--batch-size", "8", "--bptt", "16", "--num-layers", "1", "--overwrite", "--quiet"]


def interrupted(folder, choose, compiles):
    """One run and its signals: (the signal's name, seconds until it was sent, seconds until the end, what was wrong)."""
    number, delay = choose.choice([signal.SIGINT, signal.SIGTERM]), choose.uniform(0.15, 12 if compiles else 4)
    again = choose.uniform(0, 0.05) if choose.random() < 0.3 else None
    with tempfile.TemporaryDirectory() as cache:
        variables = {"NUMBA_CACHE_DIR": cache} if compiles else {}
        size = ["--hidden-size", "16" if compiles else "192"]
        process = start(
            folder, "train", "corpus.txt", *size, *RECIPE, save_seconds=None if compiles else 0.05, **variables
        )
        time.sleep(delay)
        sent = time.monotonic()
        process.send_signal(number)
        if again is not None:
            time.sleep(again)
            process.send_signal(number)
        out, err = process.communicate(timeout=120)
        seconds = time.monotonic() - sent
    ends = (
        128 + number,
        -number,
    )  # killed before Python has come to the command, which a shell shows as 128 + number too
    wrong = [] if process.returncode in ends else [f"it ended with {process.returncode}"]
    wrong += [f"it wrote {err!r}"] if "Traceback" in err or err.count("Error") > 1 or out else []
    wrong += [f"it left {remains(folder)}"] if remains(folder) else []
    wrong += [check_model(folder)] if check_model(folder) else []
    return number.name, delay, seconds, wrong


def main():
    options = arguments(__doc__, 100)
    choose, seconds, failures = random.Random(options.seed), [], 0
    for run in range(options.count):
        with tempfile.TemporaryDirectory() as folder:
            write_corpus(Path(folder))
            name, delay, taken, wrong = interrupted(folder, choose, compiles=run % 2 == 0)
        seconds.append(taken)
        failures += bool(wrong)
        print(f"{run:4} {name:8} after {delay:6.2f} s: ended in {taken:5.2f} s {'; '.join(wrong) or 'as it should'}")
    seconds.sort()
    print(
        f"{failures} of {options.count} went wrong; median {seconds[len(seconds) // 2]:.2f} s, at most {seconds[-1]:.2f} s"
    )
    raise SystemExit(failures > 0)


if __name__ == "__main__":
    main()
