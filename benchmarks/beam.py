"""Time of a beam search beside that of one greedy text of the same length, the same model, backend and threads.

    python benchmarks/beam.py [--threads 2] [--only 2x256 2x650] [--beam 8] [--tokens 200] [--repeat 5] [--json]

The times include all that the library does from a state to a text. Before anything is timed, a beam of 1 must write the
greedy text. A beam that cost as much as its hypotheses one by one would have the ratio --beam.
"""

from __future__ import annotations

from typing import Any

import common  # first: it sets the environment that the others read  # isort: skip

from sample import MODELS, weights_like_text

from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.text.vocabulary import Words

BACKENDS = ("cpu", "numpy")
CHECKED_TOKENS = 50


def a_model(shape: LanguageConfig, threads: int) -> LanguageModel:
    """A model of that shape over words that mean nothing; <unk>, which is never written, is the first."""
    words = Words(("<unk>", *(f"w{k}" for k in range(1, shape.vocab_size))))
    model = LanguageModel(shape, words, weights_like_text(shape), {})
    model._networks.update({(backend, 0): model.network(backend, threads) for backend in BACKENDS})
    return model


def measure(name: str, model: LanguageModel, backend: str, args: Any) -> dict[str, Any]:
    """Check, then time one model on one backend: seconds a run, one number a round."""
    start = model.state("w1", backend=backend)

    def greedy(n: int = args.tokens) -> str:
        return "".join(model.generate(state=start, n=n, temperature=0.0, backend=backend))

    def beam(n: int = args.tokens, width: int = args.beam) -> str:
        return model.beam(state=start, n=n, beam=width, backend=backend)[0].text

    if beam(CHECKED_TOKENS, 1) != greedy(CHECKED_TOKENS):
        raise SystemExit(f"{name}, {backend}: a beam of 1 does not write the greedy text; nothing was timed")
    times = common.interleaved({"greedy": greedy, "beam": beam}, args.repeat)
    return {"model": name, "backend": backend, "seconds": times, "ratio": common.ratios(times["beam"], times["greedy"])}


def row_of(row: dict[str, Any], args: Any) -> dict[str, str]:
    """A row of the table."""
    per_token = 1e6 / args.tokens
    return {
        "model": row["model"],
        "backend": row["backend"],
        "greedy us/token": common.spread(row["seconds"]["greedy"], per_token, 0),
        f"beam of {args.beam} us/token": common.spread(row["seconds"]["beam"], per_token, 0),
        "beam / greedy": common.spread(row["ratio"], digits=2),
    }


def main() -> None:
    parser = common.parser(__doc__, repeat=5)
    parser.add_argument("--only", nargs="+", metavar="MODEL", help=f"of: {', '.join(MODELS)}")
    parser.add_argument("--beam", type=int, default=8, metavar="N", help="hypotheses (default %(default)s)")
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="of a text (default %(default)s)")
    args = parser.parse_args()
    models = common.chosen(MODELS, args.only)
    rows = []
    for name, shape in models.items():
        model = a_model(shape, args.threads)
        rows += [measure(name, model, backend, args) for backend in BACKENDS]
    title = f"beam search of {args.beam} hypotheses beside one greedy text, {args.tokens} tokens"
    common.report(title, args, [row_of(row, args) for row in rows], figures=rows)


if __name__ == "__main__":
    main()
