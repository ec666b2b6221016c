"""Shortening: sentences lose what can be left out; what stays is copied, also names that the model has never seen.

python examples/shortening.py [EPOCHS]
"""

import random
import sys

import nblstm

SYLLABLES = ["ka", "to", "mi", "re", "su", "be", "ra", "lin", "mo", "tas", "ven", "dor"]
KNOWN = ["anna", "tom", "maria", "sam", "vera", "otto"]
DEEDS = [
    "met {} at the station",
    "waited for {} in the garden",
    "lost sight of {} near the harbour",
    "wrote to {} from rome",
]
FILLERS = ["as far as we know , ", "to be honest , ", "on a rainy tuesday , ", "according to the papers , ", ""]
TAILS = [", which surprised nobody", ", or so it is said", "without saying a word", ""]


def name(r: random.Random) -> str:
    """A name that many have, or one that nobody else has."""
    return r.choice(KNOWN) if r.random() < 0.7 else "".join(r.sample(SYLLABLES, 4))


def pair(r: random.Random) -> tuple[str, str]:
    """A long sentence, and the short one within it."""
    short = f"{name(r)} {r.choice(DEEDS).format(name(r))}"
    return " ".join(f"{r.choice(FILLERS)}{short} {r.choice(TAILS)} .".split()), f"{short} ."


def main(epochs: int = 8) -> None:
    """Train on pairs, and shorten others. Rare names are <unk> to the model, which puts the one that it looked at there."""
    r = random.Random(0)
    sources, targets = zip(*(pair(r) for _ in range(2500)))
    model = nblstm.Translator(
        hidden_size=64, num_layers=1, epochs=epochs, lr=0.01, min_count=3, dropout=0.1, input_dropout=0.1
    )
    model.fit(sources, targets)
    unseen = [pair(r) for _ in range(300)]
    print(f"{model.config.description}: {model.evaluate(*zip(*unseen)).exact_match:.1%} of 300 sentences to the letter")
    for source in (unseen[0][0], "to be honest , wilhelmina met barnaby at the station , which surprised nobody ."):
        print(f"  {source}\n  {model.translate([source])[0]}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
