"""Mutated files of every kind, loaded and used: python tests/stress/files.py --seed 0 --count 20000

No crash, no hang, no foreign exception, under a second and 2 n + 32 MiB each (memory is measured of a share of them, as
that takes time); nothing accepted that the safetensors package rejects (where it is installed); whatever loads can be
sampled, scored and reported on. What breaks this is printed, kept in --keep, and the exit code is 1.
"""

import argparse
import collections
import faulthandler
import os
import sys
import tempfile
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from support import mutations

import nblstm

SHARED = "/dev/shm"  # a file system in memory


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument(
        "--cpu", type=float, default=0.05, help="share of the accepted files used with compiled kernels"
    )
    parser.add_argument("--keep", type=Path, default=Path("broken"), help="folder for files that went wrong")
    parser.add_argument("--traced", type=float, default=0.1, help="share of the files whose memory is measured")
    asked = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=SHARED if os.path.isdir(SHARED) else None) as name:
        sys.exit(run(asked, Path(name)))


def run(asked, folder):
    """Judge the files; the exit code."""
    random, reference = np.random.default_rng(asked.seed), reference_reader()
    (folder / "corpus.txt").write_text(mutations.TEXT * 20, encoding="utf-8")
    settings = {"hidden_size": 4, "num_layers": 1, "batch_size": 4, "bptt": 8, "epochs": 2, "threads": 1}
    nblstm.train(folder / "corpus.txt", folder / "model.safetensors", schedule="plateau", optimizer="asgd", **settings)
    contents = {kind: path.read_bytes() for kind, path in mutations.originals(folder, folder).items()}
    path, counts, wrong, slowest = folder / "mutated", collections.Counter(), 0, 0.0
    for number in range(asked.count):
        kind, damage, content = mutations.mutated(random, contents)
        path.write_bytes(content)
        backends = ("numpy", "cpu") if random.random() < asked.cpu or kind in mutations.RUNS else ("numpy",)
        if random.random() < asked.traced or damage == "craft":
            tracemalloc.start()
        started = time.process_time()
        verdict = mutations.judge(kind, path, folder, backends, reference)
        slowest = max(slowest, time.process_time() - started)
        tracemalloc.stop()
        counts[damage, "accepted" if verdict.accepted else "refused"] += 1
        if verdict.wrong:
            wrong += 1
            asked.keep.mkdir(exist_ok=True)
            (asked.keep / f"{asked.seed}-{number}-{kind}-{damage}").write_bytes(content)
            print(f"{number} {kind} {damage}: {verdict.wrong}", flush=True)
    for (damage, outcome), count in sorted(counts.items()):
        print(f"{damage:<15} {outcome:<9} {count:>9,}")
    print(f"{asked.count:,} files of seed {asked.seed}: {wrong:,} went wrong; the slowest took {slowest:.2f} s")
    return 1 if wrong else 0


def reference_reader():
    """What raises for a content that is no safetensors file, by the reference implementation; None without it."""
    try:
        from safetensors import deserialize
    except ImportError:
        return None
    return deserialize


if __name__ == "__main__":
    main()
