"""A training step of every cell beside the LSTM: time, and time per floating-point operation. Or a sampled token.

    python benchmarks/cells.py [--sample] [--threads 2] [--only gru rnn] [--hidden-size 256] [--repeat 5] [--json]

Whole steps (forward, backward, clip, Adam) of two layers on the same chunk of 64 x 64 tokens, 65 distinct. A GRU has
three quarters of an LSTM's operations, an RNN a quarter, an update-LSTM five quarters. --sample: one text, the compiled
kernels and NumPy.
"""

from __future__ import annotations

import argparse

import common  # first: it sets the environment that the others read  # isort: skip

import limits
from sample import Ours
from train import Case, Training

from nblstm.nn.parameters import initial
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.masked.config import MaskedConfig

CASES = {"lstm": {}, "gru": {"cell": "gru"}, "rnn": {"cell": "rnn"}, "update-lstm": {"cell": "update-lstm"},
         "residual": {"residual": True}, "residual gru": {"cell": "gru", "residual": True},
         "bidirectional": {},
         "cell head": {"head": "cell"}, "learned state": {"learned_state": True},
         "weight dropout": {"weight_dropout": 0.3}, "variational dropout": {"variational_dropout": 0.3},
         "layer norm": {"layer_norm": True}, "peepholes": {"peepholes": True},
         "projection": {"proj_size": 64}}  # fmt: skip


def config_of(name: str) -> type[LanguageConfig | MaskedConfig]:
    """The kind of network that a case is."""
    return MaskedConfig if name == "bidirectional" else LanguageConfig


def main() -> None:
    parser = common.parser(__doc__, repeat=5)
    parser.add_argument("--only", nargs="+", metavar="CELL", help=f"beside the LSTM, of: {', '.join(CASES)}")
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--sample", action="store_true", help="time a sampled token instead")
    args = parser.parse_args()
    case = Case(2, args.hidden_size, 64, 64)
    shapes = {
        name: config_of(name)(case.vocab_size, hidden_size=args.hidden_size, dropout=0.0, **options)
        for name, options in common.chosen(CASES, args.only and ["lstm", *args.only]).items()
    }
    (sampling if args.sample else training)(args, case, shapes)


def sampling(args: argparse.Namespace, case: Case, shapes: dict[str, LanguageConfig]) -> None:
    """Microseconds a token of one text."""
    texts = {(name, backend): Ours(shape, initial(shape, 0), 1, backend, args.threads)
             for name, shape in shapes.items() if shape.causal for backend in ("cpu", "numpy")}  # fmt: skip
    times = common.interleaved({key: text.call for key, text in texts.items()}, args.repeat)
    times = {key: [seconds / texts[key].turns for seconds in times[key]] for key in times}
    rows = [{
        "cell": name, "us": common.spread(times[name, "cpu"], 1e6),
        "time / lstm": common.spread(common.ratios(times[name, "cpu"], times["lstm", "cpu"]), digits=2),
        "numpy us": common.spread(times[name, "numpy"], 1e6),
        "numpy / compiled": common.spread(common.ratios(times[name, "numpy"], times[name, "cpu"]), digits=2),
    } for name, backend in times if backend == "cpu"]  # fmt: skip
    title = f"a sampled token of one text, 2 x {args.hidden_size}, float32"
    common.report(title, args, rows, ["tests hold every cell to the specification"])


def training(args: argparse.Namespace, case: Case, shapes: dict[str, LanguageConfig]) -> None:
    """Milliseconds a step."""
    chunk, calls, operations, compiled = case.chunk(), {}, {}, {}
    for name, shape in shapes.items():
        one = Training(shape, initial(shape, 0), case.batch_size, args.threads)
        compiled[name] = common.timed(lambda: one.step(chunk))
        calls[name] = lambda one=one: one.step(chunk)
        operations[name] = limits.training_operations(shape, case.tokens, case.vocab_size)
    times = common.interleaved(calls, args.repeat)
    per_operation = {name: [s / operations[name] for s in seconds] for name, seconds in times.items()}
    rows = [{
        "cell": name, "ms": common.spread(times[name], 1e3), "GFLOP": f"{operations[name] / 1e9:.1f}",
        "GFLOP/s": f"{operations[name] / common.median(times[name]) / 1e9:.0f}",
        "time / lstm": common.spread(common.ratios(times[name], times["lstm"]), digits=2),
        "time per operation / lstm": common.spread(common.ratios(per_operation[name], per_operation["lstm"]), digits=2),
        "compile s": f"{max(0.0, compiled[name] - common.median(times[name])):.1f}",
    } for name in times]  # fmt: skip
    title = f"training steps of 2 x {args.hidden_size}, float32"
    common.report(title, args, rows, ["tests hold every cell to the specification"])


if __name__ == "__main__":
    main()
