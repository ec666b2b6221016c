"""Named entities: a tagger learns persons, places and firms, of one word or several, and finds others it has never seen.

python examples/entities.py [EPOCHS]
"""

import random
import sys

import nblstm

SYLLABLES = [
    "ar",
    "bel",
    "da",
    "gor",
    "hal",
    "in",
    "ka",
    "lo",
    "mar",
    "ni",
    "or",
    "pe",
    "ros",
    "san",
    "ti",
    "ul",
    "ve",
    "wal",
]
FIRST, LAST, TOWNS = (
    ["a", "o", "ine", "us"],
    ["sen", "mann", "ez", "ski", "ov"],
    ["burg", "ford", "stad", "ville", "by"],
)
TRADES = ["Steel", "Foods", "Motors", "Paper", "Media", "Textiles"]
FORMS = ["AG", "Ltd", "Inc", "& Sons"]
FRAMES = [
    "{PER} lives in {LOC} .", "{PER} works for {ORG} .", "yesterday {ORG} opened a shop in {LOC} .",
    "the people of {LOC} like {PER} and {PER} .", "{ORG} has bought {ORG} , says {PER} .",
    "{LOC} is far from {LOC} .", "nobody was there on Monday .", "shares of {ORG} fell after {PER} had left .",
]  # fmt: skip


def name(r: random.Random, endings: list[str]) -> str:
    """Make a name of one of these endings; most names come once."""
    return "".join(r.choices(SYLLABLES, k=r.randint(1, 2))).capitalize() + r.choice(endings)


def entity(r: random.Random, kind: str) -> str:
    """Make a person, a place or a firm; firms are named after both, so that only the words around tell them apart."""
    if kind == "PER":
        return " ".join(r.choice([[name(r, FIRST), name(r, LAST)], [name(r, LAST)], [name(r, FIRST)]]))
    if kind == "LOC":
        return r.choice(["", "", "New ", "Port "]) + name(r, TOWNS)
    return f"{name(r, r.choice([LAST, TOWNS]))} {r.choice(TRADES)} {r.choice(FORMS)}"


def tagged(r: random.Random) -> tuple[list[str], list[str]]:
    """Make a sentence: its words, and their tags in iob2."""
    words, tags = [], []
    for word in r.choice(FRAMES).split():
        kind = word[1:-1] if word.startswith("{") else None
        found = entity(r, kind).split() if kind else [word]
        words += found
        tags += [f"{'I' if place else 'B'}-{kind}" if kind else "O" for place in range(len(found))]
    return words, tags


def main(epochs: int = 4) -> None:
    """Train on sentences, measure on those that are new, and tag one that no template makes."""
    r = random.Random(0)
    sentences, tags = zip(*(tagged(r) for _ in range(1500)))
    model = nblstm.Tagger(hidden_size=48, char_hidden_size=16, epochs=epochs, lr=0.01).fit(sentences, tags)
    learned = {tuple(words) for words in sentences}
    unseen = [(words, own) for words, own in (tagged(r) for _ in range(600)) if tuple(words) not in learned]
    found = model.evaluate(*zip(*unseen))
    print(f"{model.config.description}: F1 {found.f1:.3f} of spans in {len(unseen)} sentences that are new")
    for kind, measures in found.by_type.items():
        print(f"  {kind}  precision {measures.precision:.3f}  recall {measures.recall:.3f}  of {measures.there}")
    sentence = ["Wanda", "Petersen", "has", "bought", "Freiburg", "Steel", "&", "Sons", "in", "New", "Freiburg", "."]
    print(*(f"  {word:10}{tag}" for word, tag in zip(sentence, model.predict([sentence])[0])), sep="\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
