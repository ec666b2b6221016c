"""Decode with random cells and options, and compare with the specification.

    python tests/stress/decoding.py --seed 0 --count 100

Each try decodes some tokens with a network of random cell, options, sizes, type, texts and threads. State and logits must be
the specification's; what is not is printed, and the exit code is then 1.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
from support.kernels import CELLS, SPECIFIED, TOLERANCE
from test_kernels import decoded, small_net

from nblstm.kernels import load, reference
from nblstm.kernels.cpu import decoding, recurrent


def difference(random):
    """(what was tried, the largest difference, relative to the largest number, the difference allowed)."""
    cells = {**CELLS, **SPECIFIED}
    name, dtype = random.choice(list(cells)), [np.float32, np.float64][random.integers(2)]
    sizes = [int(random.choice([1, 2, 3, 7, 16, 33, 64, 65, 100, 200])) for _ in range(3)]
    texts, threads, layers = int(random.integers(1, 12)), int(random.integers(1, 5)), int(random.integers(1, 4))
    recurrent.SHARED_BYTES, decoding.KEPT_BYTES = (int(random.choice([0, 1 << 23])) for _ in range(2))
    options = {**cells[name], "residual": bool(random.integers(2))}
    options["with_memory"] = "lstm" in options["kind"] and bool(random.integers(2))
    net = small_net(sizes, dtype, num_layers=layers, seed=int(random.integers(1000)), scale=0.1, **options)
    both = zip(decoded(reference, net, texts, 1), decoded(load("cpu"), net, texts, threads))
    errors = [np.abs(a - b).max() / max(1.0, np.abs(a).max()) for a, b in both if a.size]
    tried = f"{name}, {options}, {sizes}, {layers} layers, {np.dtype(dtype)}, {texts} texts, {threads} threads"
    return tried, float(max(errors)), 10 * TOLERANCE[dtype]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    args = parser.parse_args()
    random, failures = np.random.default_rng(args.seed), 0
    for _ in range(args.count):
        tried, error, allowed = difference(random)
        if not error <= allowed:
            failures += 1
            print(f"{tried}: {error:.1e}", flush=True)
    print(f"{args.count} networks, {failures} not decoded as the specification does")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
