"""Chat: pairs of what is said and what is answered; drawing gives another answer each time.

python examples/chat.py [EPOCHS]
"""

import random
import sys

import nblstm

TOPICS = {
    "tea": ("it is in the kitchen", "i like it with lemon"),
    "rain": ("it will stop soon", "take an umbrella"),
    "music": ("play something slow", "i sing a little"),
    "books": ("i read one a week", "the old ones are the best"),
    "running": ("i run in the morning", "my knees do not like it"),
    "chess": ("you begin", "i always lose"),
}
ASKED = [
    ("do you like {} ?", ["yes , {answer} .", "i do : {answer} ."]),
    ("what about {} ?", ["well , {answer} ."]),
    ("tell me something about {} .", ["{topic} ? {answer} .", "let me think : {answer} ."]),
    ("i hate {} .", ["that is a pity ; {answer} .", "oh , why ? {answer} ."]),
]
GREETINGS = [
    ("hello !", ["hi there !", "hello , how are you ?"]),
    ("good night .", ["sleep well .", "see you tomorrow ."]),
]


def pair(r: random.Random) -> tuple[str, str]:
    """Something that is said, and an answer."""
    if r.random() < 0.15:
        said, answers = r.choice(GREETINGS)
        return said, r.choice(answers)
    topic, (asked, answers) = r.choice(list(TOPICS)), r.choice(ASKED)
    return asked.format(topic), r.choice(answers).format(topic=topic, answer=r.choice(TOPICS[topic]))


def main(epochs: int = 6) -> None:
    """Train on pairs, then answer: the most likely way, and three drawn ones."""
    r = random.Random(0)
    model = nblstm.Translator(hidden_size=64, num_layers=1, epochs=epochs, lr=0.01, dropout=0.1, input_dropout=0)
    model.fit(*zip(*(pair(r) for _ in range(2000))))
    print(f"{model.config.description}, {len(model.vocabulary)} words")
    for said in ("hello !", "do you like chess ?", "i hate rain ."):
        drawn = model.translations([said], temperature=0.8, num_samples=3, seed=1)[0]
        print(f"  {said}\n    {model.translate([said])[0]}")
        print(*(f"    drawn: {one.text}" for one in drawn), sep="\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
