"""Sentiment: a classifier learns from reviews which words praise, and that "not" turns them round.

python examples/sentiment.py [EPOCHS]
"""

import random
import sys

import nblstm

WORDS = {
    "good": ["funny", "moving", "clever", "charming", "brilliant", "warm", "thrilling"],
    "bad": ["dull", "clumsy", "boring", "shallow", "noisy", "tired", "pointless"],
}
THINGS = ["the film", "the plot", "its ending", "the acting", "every scene", "the score"]
FRAMES = [
    "{thing} is {word}",
    "i found {thing} {word}",
    "{thing} seems {word} to me",
    "what a {word} evening , for {thing} is long",
]
REVIEWERS = ["", "my sister says ", "as the papers say , ", "to be honest , "]


def review(random: random.Random) -> tuple[str, str]:
    """Make a review and say what it is."""
    label = random.choice(["good", "bad"])
    other = {"good": "bad", "bad": "good"}[label]
    thing, frame = random.choice(THINGS), random.choice(FRAMES)
    word = "not " + random.choice(WORDS[other]) if random.random() < 0.3 else random.choice(WORDS[label])
    return random.choice(REVIEWERS) + frame.format(thing=thing, word=word), label


def main(epochs: int = 20) -> None:
    """Train on reviews, and judge others."""
    r = random.Random(0)
    texts, labels = zip(*(review(r) for _ in range(1200)))
    unseen = [(text, label) for text, label in (review(r) for _ in range(600)) if text not in set(texts)]
    for pooling in ("max", "attention"):
        model = nblstm.TextClassifier(hidden_size=64, pooling=pooling, epochs=epochs).fit(texts, labels)
        accuracy = model.score(*zip(*unseen))
        print(f"{model.config.description}: accuracy {accuracy:.3f} on {len(unseen)} reviews that are new")
        for text in ("its ending is clever", "its ending is not clever", "my sister says every scene is not boring"):
            label, probability = model.predict([text])[0], model.predict_proba([text]).max()
            print(f"  {label:4}  {probability:.2f}  {text}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
