"""Translation: a small English that it makes, and its German, in which verbs and articles stand and bend otherwise.

python examples/translation.py [EPOCHS]
"""

import random
import sys

import nblstm

NOUNS = [("dog", "hund", "m"), ("cat", "katze", "f"), ("child", "kind", "n"), ("man", "mann", "m"), ("woman", "frau", "f"),
         ("horse", "pferd", "n"), ("bird", "vogel", "m"), ("mouse", "maus", "f")]  # fmt: skip
VERBS = [
    ("sees", "sieht", "sehen"),
    ("hears", "hört", "hören"),
    ("finds", "findet", "finden"),
    ("looks for", "sucht", "suchen"),
]
PLAIN = {"sees": "see", "hears": "hear", "finds": "find", "looks for": "look for"}
ADJECTIVES = [("small", "klein"), ("old", "alt"), ("young", "jung"), ("black", "schwarz"), ("white", "weiß")]
WHEN = [("today", "heute"), ("here", "hier"), ("often", "oft"), ("at night", "nachts")]
ARTICLES = {"subject": {"m": "der", "f": "die", "n": "das"}, "object": {"m": "den", "f": "die", "n": "das"}}


def phrase(r: random.Random, case: str) -> tuple[str, str]:
    """A noun with its article, and an adjective at times."""
    (english, german, gender), article = r.choice(NOUNS), ""
    article = ARTICLES[case][gender]
    if r.random() < 0.5:
        return f"the {english}", f"{article} {german}"
    (adjective, adjektiv), ending = r.choice(ADJECTIVES), "en" if article == "den" else "e"
    return f"the {adjective} {english}", f"{article} {adjektiv}{ending} {german}"


def pair(r: random.Random) -> tuple[str, str]:
    """A sentence and its translation: with a time in front the German verb comes second, with "can" last."""
    (who, wer), (whom, wen), (verb, verb_, infinitive) = phrase(r, "subject"), phrase(r, "object"), r.choice(VERBS)
    kind = r.random()
    if kind < 0.3:
        return f"{who} {verb} {whom} .", f"{wer} {verb_} {wen} ."
    if kind < 0.6:
        return f"{who} can {PLAIN[verb]} {whom} .", f"{wer} kann {wen} {infinitive} ."
    when, wann = r.choice(WHEN)
    return f"{when} {who} {verb} {whom} .", f"{wann} {verb_} {wer} {wen} ."


def main(epochs: int = 10) -> None:
    """Train on pairs, translate others, and show which source word each word of a translation looked at."""
    r = random.Random(0)
    sources, targets = zip(*(pair(r) for _ in range(3000)))
    unseen = [(a, b) for a, b in (pair(r) for _ in range(600)) if a not in set(sources)]
    model = nblstm.Translator(hidden_size=64, num_layers=1, epochs=epochs, lr=0.01, dropout=0.1, input_dropout=0.1)
    model.fit(sources, targets)
    found = model.evaluate(*zip(*unseen))
    print(
        f"{model.config.description}: BLEU {found.bleu:.1f}, {found.exact_match:.1%} of {found.pairs} new sentences exact"
    )
    for source in ("the old man can look for the white bird .", "at night the small mouse hears the black cat ."):
        ((best,),) = model.translations([source])
        print(f"  {source}\n  {best.text}")
        looked = [best.source_tokens[place].strip() for place in best.attention.argmax(axis=1)]
        print("   ", ", ".join(f"{word.strip()} < {at}" for word, at in zip(best.tokens[:-1], looked)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
