"""The article's two programs on one text: a window and an MLP beside an LSTM, by perplexity.

    python benchmarks/article.py CORPUS [--documents line] [--minutes 1 | --epochs 5] [--window 10] [--json]

Both have the same vocabulary, learn the same text and are validated on its same last tenth, with the settings of the
article (128 units with relu, 256 units of an LSTM, dropout 0.5) and the package's recipe. Each trains for the same time
(--minutes, validation included) or reads the same tokens (--epochs). Kernels are compiled before.
"""

from __future__ import annotations

import common  # first: it sets the environment that the others read  # isort: skip

import math
from pathlib import Path
from typing import Any

import nblstm

DOCUMENTS = ("line", "blank-line")


def row(program: Any) -> dict[str, Any]:
    """What one program has come to."""
    facts, loss = program.training, program.training["valid_loss"]
    return {
        "program": type(program).__name__,
        "network": program.config.description,
        "parameters": f"{program.config.num_parameters:,}",
        "vocabulary": f"{len(program.vocabulary):,}",
        "epochs": f"{facts['epochs']:.2f}",
        "seconds": f"{facts['seconds']:.0f}",
        "valid nats per token": f"{loss:.4f}",
        "perplexity": f"{math.exp(loss):.2f}",
    }


def written(program: Any, n: int) -> list[str]:
    """What it writes at the article's temperature."""
    count = 1 if program.vocabulary.end_id is None else 6
    text = "\n".join(program.generate_text(n=n, seed=seed) for seed in range(count))
    return ["", f"{type(program).__name__}, temperature 0.5:", *(f"  {line}" for line in text.split("\n"))]


def main() -> None:
    parser = common.parser(__doc__, repeat=0)
    parser.add_argument("corpus", help="a text file")
    parser.add_argument("--documents", choices=DOCUMENTS, help="what is a text of its own; else all is one stream")
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument("--minutes", type=float, default=1.0, help="of training, each (default %(default)s)")
    limits.add_argument("--epochs", type=int, help="passes over the text, each")
    parser.add_argument("--window", type=int, default=10, help="tokens that the MLP sees (default %(default)s)")
    args = parser.parse_args()
    text = Path(args.corpus).read_text(encoding="utf-8")
    limit = {"epochs": args.epochs} if args.epochs else {"minutes": args.minutes}
    rows, notes = [], []
    settings = {"documents": args.documents, "threads": args.threads}
    for program in (nblstm.MLPLanguageModel(window=args.window, **settings), nblstm.TextGenerator(**settings)):
        program.set_params(steps=2).fit(text[: 1 << 14])
        program.set_params(steps=None, **limit).fit(text)
        rows.append(row(program))
        notes += written(program, n=100 if args.documents is None else 40)
    asked = f"{args.epochs} epochs" if args.epochs else f"{args.minutes:g} minutes"
    common.report(f"the article's two programs on {Path(args.corpus).name}, {asked} each", args, rows, notes)


if __name__ == "__main__":
    main()
