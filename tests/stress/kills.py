"""SIGKILL at random moments of a training command that saves every 50 ms, again and again on the same output.

    python tests/stress/kills.py --seed 0 --count 200

After each, the model and the checkpoint must load, and the checkpoint must not be older than the time between two saves
and the updates around it. Temporary files of the dead are swept by the next run: never more than one is there.
"""

import random
import tempfile
import time
from pathlib import Path

from children import arguments, check_model, remains, start, write_corpus

from nblstm.files.model_file import load_checkpoint

INTERVAL = 0.05
RECIPE = ["--hidden-size", "96", "--batch-size", "8", "--bptt", "16", "--num-layers", "1", "--epochs", "100000"]


def kill(folder, choose, args):
    """Run until there is a new checkpoint and a random moment more, then kill: what was wrong, seconds lost."""
    checkpoint, before = folder / "model.checkpoint.safetensors", time.time()
    process = start(folder, "train", *args, "--quiet", save_seconds=INTERVAL)
    while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime > before):
        time.sleep(0.01)
    time.sleep(choose.uniform(0.0, 0.4))
    process.kill()
    killed = time.time()
    _, err = process.communicate()
    wrong = [f"it wrote {err!r}"] if err else []
    wrong += [f"{len(remains(folder, lock=False))} temporary files"] if len(remains(folder, lock=False)) > 1 else []
    wrong += [check_model(folder)] if check_model(folder) else []
    return wrong, killed - checkpoint.stat().st_mtime


def main():
    options = arguments(__doc__, 200)
    choose, failures, lost, left, last = random.Random(options.seed), 0, [], 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder)
        for run in range(options.count):
            wrong, seconds = kill(folder, choose, ["--resume"] if run else ["corpus.txt", *RECIPE])
            step = load_checkpoint(folder / "model.checkpoint.safetensors")[1]["trainer"]["step"]
            wrong += [f"the step fell from {last} to {step}"] if step < last else []
            last, left = step, left + len(remains(folder, lock=False))
            failures += bool(wrong)
            lost.append(seconds)
            print(
                f"{run:4} at step {step:6}, {seconds:.3f} s after the last save: {'; '.join(wrong) or 'whole'}",
                flush=True,
            )
        process = start(folder, "train", "--resume", "--steps", last, "--quiet")
        process.communicate()
        swept = not remains(folder)
    lost.sort()
    print(
        f"{failures} of {options.count} went wrong; the last save was {lost[len(lost) // 2]:.3f} s old in the median, "
        f"at most {lost[-1]:.3f} s; {left} temporary files were left, {'all' if swept else 'NOT all'} are swept"
    )
    raise SystemExit(failures > 0 or not swept)


if __name__ == "__main__":
    main()
