"""Many generations, many failing calls and many forks in one process: memory stays, every child answers.

    python tests/stress/endurance.py --seed 1 --count 100000

A tenth as many calls fail, and 100 children are forked. Exit status 1 if the process grows by more than GROWTH, or a
child does not answer.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from nblstm.errors import NblstmError
from nblstm.nn.parameters import initial
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.text.vocabulary import Vocabulary

GROWTH = 5.0  # MB at most
FORKS = 100
FAILING = [
    {"temperature": -1.0},
    {"top_p": 2.0},
    {"nonsense": 1},
    {"stop": ""},
    {"backend": "abacus"},
    {"until_end": True},
]


def resident() -> float:
    """The memory of this process in MB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def fails(model: LanguageModel, settings: dict[str, object]) -> None:
    """A call that must end in an error of the library."""
    try:
        "".join(model.generate("a", n=5, **settings))
    except NblstmError:
        return
    raise AssertionError(f"{settings} was accepted")


def answers(model: LanguageModel, expected: str, backend: str) -> bool:
    """Whether a forked child writes the expected text within 20 seconds."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit("".join(model.generate("abc", n=20, seed=0, backend=backend)) != expected)
    return os.waitpid(child, 0)[1] == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100_000, help="generations")
    parser.add_argument("--backend", choices=("numpy", "cpu"), default="cpu")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*multi-threaded.*", category=DeprecationWarning)
    vocabulary = Vocabulary.build(["".join(map(chr, range(97, 123)))], "char")
    config = LanguageConfig(len(vocabulary), hidden_size=32, num_layers=1)
    model, chance, started = (
        LanguageModel(config, vocabulary, initial(config, 0), {}),
        random.Random(args.seed),
        time.time(),
    )

    def generations(count: int) -> None:
        for number in range(count):
            prompt = "".join(chance.choices(vocabulary.tokens[1:], k=chance.randint(0, 8)))
            "".join(model.generate(prompt, n=chance.randint(1, 12), seed=number, backend=args.backend))
            if number % 10 == 0:
                fails(model, chance.choice(FAILING))

    generations(min(1000, args.count))  # compile, and fill what is kept
    before = resident()
    generations(args.count)
    grown = resident() - before
    expected = "".join(model.generate("abc", n=20, seed=0, backend=args.backend))
    answered = sum(answers(model, expected, args.backend) for _ in range(FORKS))
    print(
        f"{args.backend}, seed {args.seed}: {args.count} generations and {args.count // 10} failing calls grew the process "
        f"by {grown:.2f} MB; {answered} of {FORKS} children answered; {time.time() - started:.0f} s"
    )
    return int(grown > GROWTH or answered < FORKS)


if __name__ == "__main__":
    sys.exit(main())
