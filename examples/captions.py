"""Captions: a sentence is written from a vector of numbers, as it is from what a network has seen in an image.

python examples/captions.py [EPOCHS]
"""

import sys

import numpy as np

import nblstm

COUNTS, COLOURS, THINGS = (
    ["one", "two", "three"],
    ["red", "green", "blue", "white"],
    ["circle", "square", "star", "cross"],
)
PLACES = ["on the left", "in the middle", "on the right"]
NOISE = 0.3  # standard deviation of the numbers around what they stand for
FEATURES = 24


def scenes(random: np.random.Generator, count: int) -> tuple[np.ndarray, list[str]]:
    """Draw scenes: a noisy mixture of the numbers that stand for count, colour, thing and place, and their captions."""
    mixing = np.random.default_rng(0).normal(size=(14, FEATURES)) / 4  # the "network" that sees them
    facts, captions = np.zeros((count, 14)), []
    for row in facts:
        parts = [random.integers(len(kind)) for kind in (COUNTS, COLOURS, THINGS, PLACES)]
        row[np.array([0, 3, 7, 11]) + parts] = 1
        number, colour, thing, place = (kind[part] for kind, part in zip((COUNTS, COLOURS, THINGS, PLACES), parts))
        captions.append(f"{number} {colour} {thing}{'es' * (thing == 'cross') or 's' if parts[0] else ''} {place}")
    return facts @ mixing * 4 + random.normal(0, NOISE, (count, FEATURES)), captions


def main(epochs: int = 15) -> None:
    """Train on scenes, and tell what others show."""
    random = np.random.default_rng(1)
    vectors, captions = scenes(random, 3000)
    model = nblstm.Translator(
        attention="none", hidden_size=64, num_layers=1, epochs=epochs, lr=0.01, dropout=0, input_dropout=0
    )
    model.fit(vectors, captions)
    unseen, expected = scenes(random, 500)
    found = model.evaluate(unseen, expected)
    print(f"{model.config.description}: {found.exact_match:.1%} of 500 captions to the letter, BLEU {found.bleu:.1f}")
    for caption, truth in zip(model.translate(unseen[:4]), expected):
        print(f"  {caption:40}  {'right' if caption == truth else truth}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
