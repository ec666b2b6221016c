"""A training step of every cell beside the LSTM: time, and time per floating-point operation. Or a sampled token.

    python benchmarks/cells.py [--sample] [--threads 2] [--only gru rnn] [--hidden-size 256] [--repeat 5] [--peers] [--json]

Whole steps (forward, backward, clip, Adam) of two layers on the same chunk of 64 x 64 tokens, 65 distinct. A GRU has
three quarters of an LSTM's operations, an RNN a quarter, an update-LSTM five quarters, a Mogrifier LSTM of five rounds 13
eighths and none that distinct inputs spare. --sample: one text, the compiled kernels and NumPy. --peers: the Mogrifier LSTM
on NumPy, and a loop over time in PyTorch, whose loss and gradient must be the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import common  # first: it sets the environment that the others read  # isort: skip

import limits
from sample import Ours
from train import CLIP, LR, Case, Training

from nblstm.nn.parameters import initial
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.masked.config import MaskedConfig

CASES = {"lstm": {}, "gru": {"cell": "gru"}, "rnn": {"cell": "rnn"}, "update-lstm": {"cell": "update-lstm"},
         "residual": {"residual": True}, "residual gru": {"cell": "gru", "residual": True},
         "bidirectional": {},
         "cell head": {"head": "cell"}, "learned state": {"learned_state": True},
         "weight dropout": {"weight_dropout": 0.3}, "variational dropout": {"variational_dropout": 0.3},
         "layer norm": {"layer_norm": True}, "peepholes": {"peepholes": True},
         "projection": {"proj_size": 64}, "mogrifier": {"cell": "mogrifier-lstm"}}  # fmt: skip
TOLERANCE = 1e-4


def config_of(name: str) -> type[LanguageConfig | MaskedConfig]:
    """The kind of network that a case is."""
    return MaskedConfig if name == "bidirectional" else LanguageConfig


def main() -> None:
    parser = common.parser(__doc__, repeat=5)
    parser.add_argument("--only", nargs="+", metavar="CELL", help=f"beside the LSTM, of: {', '.join(CASES)}")
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--sample", action="store_true", help="time a sampled token instead")
    parser.add_argument("--peers", action="store_true", help="the mogrifier on NumPy and in PyTorch, too")
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


def peers(shape: LanguageConfig, case: Case, threads: int) -> dict[str, Callable[[], object]]:
    """The training step of a Mogrifier LSTM by others, ready to be called; the program ends if PyTorch's is another."""
    import torch
    from torch_peer import TorchModel, TorchTraining, rectangle

    torch.set_num_threads(threads)
    chunk, parameters = case.chunk(), initial(shape, 0)
    ours, theirs = Training(shape, parameters.copy(), case.batch_size, threads), TorchModel(shape, parameters)
    loss, _ = ours.network.loss_and_gradient(ours.gradient, chunk, ours.state, 0, 0)
    other, _ = theirs.loss(*rectangle(chunk), None)
    other.backward()
    common.require_close("mogrifier: loss", loss, other.item(), TOLERANCE)
    common.require_close("mogrifier: gradient", ours.gradient, theirs.flat_gradient(), TOLERANCE)
    numpy, step = (
        Training(shape, parameters.copy(), case.batch_size, threads, backend="numpy"),
        TorchTraining(theirs, LR, CLIP),
    )
    return {"mogrifier, NumPy": lambda: numpy.step(chunk), "mogrifier, PyTorch": lambda: step.step(*rectangle(chunk))}


def training(args: argparse.Namespace, case: Case, shapes: dict[str, LanguageConfig]) -> None:
    """Milliseconds a step."""
    chunk, calls, operations, compiled = case.chunk(), {}, {}, {}
    for name, shape in shapes.items():
        one = Training(shape, initial(shape, 0), case.batch_size, args.threads)
        compiled[name] = common.timed(lambda: one.step(chunk))
        calls[name] = lambda one=one: one.step(chunk)
        operations[name] = limits.training_operations(shape, case.tokens, case.vocab_size)
    for name, call in peers(shapes["mogrifier"], case, args.threads).items() if args.peers else ():
        calls[name], operations[name], compiled[name] = call, operations["mogrifier"], 0.0
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
