"""Random hostile arguments for every public function: python tests/stress/arguments.py --seed 1 --count 20000.

Each try replaces one to three arguments of a call of `tests/support/borders.py` by junk, arrays of random form, or numbers at
the edges of the types. What is not an answer or an error of nblstm's is printed, and the exit code is then 1.
"""

import argparse
import os
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
from support import borders

EDGES = [0, 1, -1, 2**31 - 1, 2**31, -(2**31), 2**32, 2**63 - 1, 2**63, 10**30, 1e308, -1e308, 5e-324, np.nan, np.inf]
TYPES = ["?", "i1", "u1", "i4", "u8", ">i8", "f2", "f4", ">f4", "f8", ">f8", "c16", "O", "U1", "M8[s]"]


def array(random):
    """An array of a random type, shape, layout and content."""
    shape = tuple(random.integers(0, 5, random.integers(0, 4)))
    numbers = random.choice([0.0, 1.0, -1.0, 1e38, np.nan, np.inf, 3.7], shape)
    with np.errstate(all="ignore"):
        try:
            found = np.asarray(numbers).astype(random.choice(TYPES))
        except (TypeError, ValueError):
            found = np.asarray(numbers)
    found = found.T if random.integers(2) else found[..., ::-1] if found.ndim else found
    found.flags.writeable = bool(random.integers(2))
    return found


def hostile(random):
    """A value that nobody means."""
    kind = random.integers(4)
    if kind == 0:
        return array(random)
    if kind == 1:
        return EDGES[random.integers(len(EDGES))]
    return borders.JUNK[random.integers(len(borders.JUNK))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args()
    warnings.simplefilter("error")
    random, found, names = np.random.default_rng(options.seed), Counter(), list(borders.CALLS)
    os.chdir(tempfile.mkdtemp())
    for _ in range(options.count):
        name, backend = names[random.integers(len(names))], borders.BACKENDS[random.integers(len(borders.BACKENDS))]
        function, args, keywords = borders.CALLS[name](backend)
        places, changed, named = [*range(len(args)), *keywords], list(args), dict(keywords)
        for place in random.permutation(len(places))[: random.integers(1, 4)]:
            where = places[place]
            (changed if isinstance(where, int) else named)[where] = hostile(random)
        try:
            found[borders.outcome(function, changed, named)] += 1
        except Exception:
            found["a failure"] += 1
            print(f"{name} on {backend}: {changed!r:.300} {named!r:.300}\n{traceback.format_exc(limit=-2)}")
    print(dict(found))
    sys.exit(bool(found["a failure"]))


if __name__ == "__main__":
    main()
