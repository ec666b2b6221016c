"""Every cell and every option on one text, at equal parameters and equal steps: losses and speed.

    python benchmarks/family.py CORPUS [--steps 600] [--hidden-size 128] [--only lstm gru rnn] [--json]

A variant's hidden size is the one whose network comes closest to the parameters of a plain LSTM of two layers, which is
within 2 %. All read the same chunks with the recipe of the package's defaults; only the dropout that names a row is on.
The training loss is the mean of about the last 50 updates, dropout included; the validation loss is that of the last
tenth of the text after the last update. A few hundred updates tell how fast a variant learns, not how far it comes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import common  # first: it sets the environment that the others read  # isort: skip

from nblstm.config import TrainConfig
from nblstm.errors import TrainingError
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.scoring import validation_streams
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Streams
from nblstm.text.corpus import Corpus, load_corpus
from nblstm.training.report import Report
from nblstm.training.trainer import Trainer

VARIANTS: dict[str, dict[str, Any]] = {  # a callable is asked for its value with the hidden size
    "lstm": {}, "gru": {"cell": "gru"}, "rnn, tanh": {"cell": "rnn"},
    "rnn, relu": {"cell": "rnn", "nonlinearity": "relu"}, "update-lstm": {"cell": "update-lstm"},
    "minGRU": {"cell": "mingru"}, "mogrifier-lstm": {"cell": "mogrifier-lstm"},
    "lstm, peepholes": {"peepholes": True}, "lstm, projected to half": {"proj_size": lambda size: size // 2},
    "residual": {"residual": True}, "layer norm": {"layer_norm": True}, "learned state": {"learned_state": True},
    "cell head": {"head": "cell"}, "tied": {"tie": True}, "dropout 0.2": {"dropout": 0.2},
    "input dropout 0.2": {"input_dropout": 0.2}, "output dropout 0.2": {"output_dropout": 0.2},
    "embedding dropout 0.1": {"embedding_dropout": 0.1}, "variational dropout 0.2": {"variational_dropout": 0.2},
    "weight dropout 0.2": {"weight_dropout": 0.2},
}  # fmt: skip
MIN_SIZE = 4  # of a hidden layer
NEARLY = 0.02  # share of the parameters by which a variant may differ


def sized(options: dict[str, Any], vocab_size: int, hidden_size: int, num_layers: int = 2) -> LanguageConfig:
    """The variant's network whose number of parameters comes closest to that of a plain LSTM of this hidden size."""

    def shape_of(options: dict[str, Any], size: int) -> LanguageConfig:
        fixed = {name: value(size) if callable(value) else value for name, value in options.items()}
        return LanguageConfig(vocab_size, hidden_size=size, num_layers=num_layers, **{"dropout": 0.0, **fixed})

    parameters = shape_of({}, hidden_size).num_parameters
    shapes = (shape_of(options, size) for size in range(MIN_SIZE, 4 * hidden_size + MIN_SIZE))
    shape = min(shapes, key=lambda shape: abs(shape.num_parameters - parameters))
    if abs(shape.num_parameters / parameters - 1) > NEARLY:
        sys.exit(
            f"{shape.description}: its parameters cannot come within {NEARLY:.0%} of {parameters:,}; "
            "raise --hidden-size"
        )
    return shape


def train(shape: LanguageConfig, corpus: Corpus, config: TrainConfig, told: Callable[[Report], None]) -> Report | None:
    """The last report of a run; None if it diverged."""
    network = Network(shape, initial(shape, config.seed), "cpu", config.threads)
    source = Streams(corpus.train, config.batch_size, config.bptt)
    last = None
    try:
        for last in Trainer(network, config, source, validation_streams(corpus.valid), corpus.release).run():
            told(last)
    except TrainingError:
        return None
    return last


def row(name: str, shape: LanguageConfig, last: Report | None) -> dict[str, str]:
    """A line of the table."""
    sizes = {"variant": name, "parameters": f"{shape.num_parameters:,}", "hidden size": str(shape.hidden_size)}
    if last is None:
        return {**sizes, "train": "diverged"}
    return {
        **sizes,
        "train": f"{last.smooth_loss:.4f}",
        "valid": f"{last.valid_loss:.4f}",
        "tokens/s": f"{last.tokens_per_second:,.0f}",
    }


def _progress(name: str, report: Report) -> None:
    if report.validated or report.step % 100 == 0:
        valid = f", valid {report.valid_loss:.4f}" if report.validated else ""
        print(f"{name}: step {report.step}, train {report.smooth_loss:.4f}{valid}", file=sys.stderr)


def main() -> None:
    parser = common.parser(__doc__, repeat=0)
    parser.add_argument("corpus", metavar="CORPUS", help="a text file, character level")
    parser.add_argument("--steps", type=int, default=600, help="updates of every variant (default %(default)s)")
    parser.add_argument("--hidden-size", type=int, default=128, help="of the plain LSTM (default %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of: {', '.join(VARIANTS)}")
    args = parser.parse_args()
    config = TrainConfig(optimizer="adam", steps=args.steps, threads=args.threads)
    corpus = load_corpus([args.corpus])
    V = len(corpus.vocabulary)
    rows = []
    for name, options in common.chosen(VARIANTS, args.only).items():
        shape = sized(options, V, args.hidden_size)
        rows.append(row(name, shape, train(shape, corpus, config, lambda report, name=name: _progress(name, report))))
    note = (
        f"{len(corpus.train):,} tokens of {V} kinds; {config.steps} steps of {config.batch_size} x {config.bptt}, "
        f"{config.optimizer}, lr {config.lr:g}, {config.schedule}; losses in nats per token"
    )
    common.report(f"the family at the parameters of an LSTM 2 x {args.hidden_size}", args, rows, [note])


if __name__ == "__main__":
    main()
