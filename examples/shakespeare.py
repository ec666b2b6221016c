"""One long text: the article's two programs learn it as a stream, are stored, loaded and asked.

python examples/shakespeare.py tinyshakespeare.txt [EPOCHS]
"""

import sys
import tempfile
from pathlib import Path

import nblstm


def main(path: str, epochs: int = 1) -> None:
    text = Path(path).read_text(encoding="utf-8")
    for kind in (nblstm.MLPLanguageModel, nblstm.TextGenerator):
        program = kind(epochs=epochs).fit(text)
        with tempfile.TemporaryDirectory() as folder:
            program.save(Path(folder, "program.safetensors"))
            program = kind.load(Path(folder, "program.safetensors"))
        print(f"{kind.__name__}: {program.config.description}, validation loss {program.training['valid_loss']:.3f}")
        print("ROMEO:" + program.generate_text("ROMEO:", n=150, temperature=0.5, seed=1), end="\n\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
