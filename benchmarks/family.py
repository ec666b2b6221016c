"""Every kind of network on one text: validation loss at equal parameters and equal steps.

    python benchmarks/family.py tinyshakespeare.txt [--steps 600] [--only gru residual] [--json]

Each variant has the hidden size that brings its number of parameters closest to that of the 2 x 128 LSTM; all read the
same batches (32 x 64 tokens) with the same recipe (Adam, 0.005, cosine; dropout 0.2 between layers unless it is what is
looked at). The last tenth of the text validates.
"""

from __future__ import annotations

import common  # first: it sets the environment that the others read  # isort: skip

import math
from typing import Any

from nblstm.config import ModelConfig, TrainConfig
from nblstm.model.network import Network
from nblstm.model.parameters import initial
from nblstm.scoring import validation_streams
from nblstm.text.batches import Streams
from nblstm.text.corpus import load_corpus
from nblstm.training.trainer import Trainer

BASE = {"num_layers": 2, "dropout": 0.2}
VARIANTS: dict[str, dict[str, Any]] = {
    "lstm": {}, "gru": {"cell": "gru"}, "rnn, tanh": {"cell": "rnn"}, "rnn, relu": {"cell": "rnn", "nonlinearity": "relu"},
    "update-lstm": {"cell": "update-lstm"}, "lstm, 1 layer": {"num_layers": 1}, "lstm, 3 layers": {"num_layers": 3},
    "lstm, 3 layers, residual": {"num_layers": 3, "residual": True}, "lstm, residual": {"residual": True},
    "lstm, layer norm": {"layer_norm": True}, "lstm, peepholes": {"peepholes": True},
    "lstm, projection": {"proj_size": 64}, "lstm, learned state": {"learned_state": True},
    "lstm, cell head": {"head": "cell"}, "lstm, tied": {"tie": True}, "lstm, no dropout": {"dropout": 0.0},
    "lstm, weight dropout 0.2": {"weight_dropout": 0.2}, "lstm, variational 0.1": {"variational_dropout": 0.1},
    "lstm, embedding dropout 0.05": {"embedding_dropout": 0.05},
}  # fmt: skip


def sized(options: dict[str, Any], vocab_size: int, parameters: int) -> ModelConfig:
    """The variant whose number of parameters is closest to `parameters`."""
    shape = lambda hidden: ModelConfig(vocab_size, hidden_size=hidden, **{**BASE, **options})  # noqa: E731
    smallest = options.get("proj_size", 0) + 1
    return min((shape(hidden) for hidden in range(smallest, 400)), key=lambda c: abs(c.num_parameters - parameters))


def train(shape: ModelConfig, corpus: Any, args: Any) -> dict[str, Any]:
    """A whole training of `args.steps` updates."""
    config = TrainConfig(batch_size=32, bptt=64, steps=args.steps, threads=args.threads)
    network = Network(shape, initial(shape, 0), "cpu", args.threads)
    trainer = Trainer(network, config, Streams(corpus.train, 32, 64), validation_streams(corpus.valid))
    *_, last = trainer.run()
    return {"train": last.smooth_loss, "valid": trainer.best_loss, "tokens_per_second": last.tokens_per_second}


def main() -> None:
    parser = common.parser(__doc__, repeat=0)
    parser.add_argument("corpus", help="a text file")
    parser.add_argument("--steps", type=int, default=600, help="updates of each (default %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="KIND", help=f"of: {', '.join(map(repr, VARIANTS))}")
    args = parser.parse_args()
    corpus = load_corpus([args.corpus])
    V = len(corpus.vocabulary)
    wanted = ModelConfig(V, hidden_size=128, **BASE).num_parameters
    rows, figures = [], []
    for name, options in common.chosen(VARIANTS, args.only).items():
        shape = sized(options, V, wanted)
        found = train(shape, corpus, args)
        figures.append({"kind": name, "hidden_size": shape.hidden_size, "parameters": shape.num_parameters, **found})
        rows.append({
            "kind": name, "hidden": str(shape.hidden_size), "parameters": f"{shape.num_parameters:,}",
            "train": f"{found['train']:.4f}", "valid": f"{found['valid']:.4f}",
            "perplexity": f"{math.exp(found['valid']):.2f}", "tokens/s": f"{found['tokens_per_second']:,.0f}",
        })  # fmt: skip
        print(f"{name}: valid {found['valid']:.4f}", file=common.sys.stderr, flush=True)
    common.report(f"nats per character after {args.steps} steps of 32 x 64 tokens", args, rows, figures=figures)


if __name__ == "__main__":
    main()
