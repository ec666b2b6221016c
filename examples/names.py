"""Names: many short texts, each with an end. Both of the article's programs learn them and write new ones.

python examples/names.py names.txt [EPOCHS]
"""

import sys
from pathlib import Path

import nblstm


def main(path: str, epochs: int = 3) -> None:
    names = Path(path).read_text(encoding="utf-8").split()
    for program in (
        nblstm.MLPLanguageModel(window=10, epochs=epochs),
        nblstm.TextGenerator(hidden_size=128, epochs=epochs),
    ):
        program.fit(names)
        loss = program.training["valid_loss"]
        print(f"{type(program).__name__}: {program.config.description}, validation loss {loss:.3f}")
        print("  new names      ", *(program.generate_text(n=20, temperature=0.8, seed=seed) for seed in range(6)))
        print("  names in mar-  ", *("mar" + program.generate_text("mar", n=20, seed=seed) for seed in range(6)))
        (after_q,) = program.predict(nblstm.texts_to_sequences(program.vocabulary, ["q"]))
        best = program.vocabulary.tokens[after_q.argmax()]
        print(f"  after q        {best!r} with probability {after_q.max():.2f}")
        print(f"  quinn          perplexity {program.score('quinn').perplexity:.2f} a letter, its end included")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
