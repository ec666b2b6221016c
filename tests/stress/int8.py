"""Random networks with int8 weights against the specification: python tests/stress/int8.py --seed 1 --count 200.

Each try decodes some tokens, and reads some texts, with a network of random kind, sizes, texts and threads. State, logits
and losses must be the specification's, but for a step of a rounded number here and there; what is not is printed, and the
exit code is then 1.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
from support.rounded import NETS, decoded, read, rounded_net

from nblstm.kernels import load
from nblstm.kernels.cpu import decoding, recurrent

TOLERANCE = 5e-4


def difference(random):
    """(what was tried, the largest difference)."""
    name, kept = random.choice(list(NETS)), int(random.choice([0, 5000, 1 << 23]))
    V, E, H = (int(random.choice([1, 2, 3, 7, 16, 33, 64, 65, 100, 200])) for _ in range(3))
    texts, threads, layers = int(random.integers(1, 12)), int(random.integers(1, 5)), int(random.integers(1, 4))
    recurrent.SHARED_BYTES, decoding.KEPT_BYTES = int(random.choice([0, 1 << 30])), kept
    made = rounded_net(sizes=(V, E, H), num_layers=layers, scale=0.1, **{"kind": "lstm", **NETS[name]})
    lengths = sorted(random.integers(1, 12, texts).tolist(), reverse=True)
    both = [
        *zip(decoded(None, made, texts), decoded(load("cpu"), made, texts, threads)),
        *zip(read(None, made, lengths), read(load("cpu"), made, lengths, threads)),
    ]
    most = max(float(np.abs(a - b).max()) if a.size else 0.0 for a, b in both)
    return f"{name}, V, E, H = {V}, {E}, {H}, {layers} layers, {texts} texts, {threads} threads, kept {kept}", most


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    args = parser.parse_args()
    random, failures, largest = np.random.default_rng(args.seed), 0, 0.0
    for _ in range(args.count):
        tried, most = difference(random)
        largest = max(largest, most)
        if not most <= TOLERANCE:
            failures += 1
            print(f"{tried}: {most:.1e}", flush=True)
    print(f"{args.count} networks, {failures} beyond {TOLERANCE:g}, the largest difference {largest:.1e}")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
