"""The copy task: which cell still knows some symbols after a gap of growing length, at equal parameters and updates.

    python benchmarks/copying.py [-o copying.svg] [--gaps 1 3 5 10 20 40] [--steps 1000] [--only lstm rnn] [--json]

A text is K symbols out of 8, a gap of blanks with a mark behind, and blanks again, during which the symbols are to be
told in their order; only there is anything predicted. A network that remembers nothing gets 1 of 8 right. A model is
trained from scratch for every gap and every learning rate, always on new texts, and asked about others; the best rate
counts.

Sources: Hochreiter & Schmidhuber 1997, section 5.4 (long time lags); Arjovsky, Shah & Bengio 2016, section 5.1 (this
form).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import common  # first: it sets the environment that the others read  # isort: skip

import numpy as np
from family import sized

from nblstm.config import TrainConfig
from nblstm.errors import TrainingError
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.reporting.charts import Curve, line_chart, standalone
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Chunk
from nblstm.training.trainer import Trainer

CELLS = {"lstm": {}, "gru": {"cell": "gru"}, "update-lstm": {"cell": "update-lstm"}, "rnn": {"cell": "rnn"}}
SYMBOLS, BLANK, MARK = 8, 8, 9  # the symbols are the tokens 0 ... 7
ASKED = 512  # texts of the test


class Copying:
    """The task as a source of training: `epoch` gives chunks of texts that are a function of (seed, epoch, place)."""

    UPDATES = 100  # of an epoch

    def __init__(self, gap: int, length: int, batch_size: int, seed: int) -> None:
        self.gap, self.length, self.batch_size, self.seed = gap, length, batch_size, seed

    def epoch(self, number: int) -> Sequence[Chunk]:
        """The chunks of an epoch."""
        random = np.random.default_rng((self.seed, number))
        return [self.chunk(self.batch_size, random) for _ in range(self.UPDATES)]

    def chunk(self, num_texts: int, random: np.random.Generator) -> Chunk:
        """New texts side by side, whole; only the recall counts."""
        K, symbols = self.length, random.integers(0, SYMBOLS, (self.length, num_texts))
        tokens = np.full((self.gap + 2 * K, num_texts), BLANK)
        tokens[:K], tokens[-K - 1] = symbols, MARK
        targets, counts = np.full_like(tokens, BLANK), np.zeros(tokens.shape)
        targets[-K:], counts[-K:] = symbols, 1
        packed = Chunk.rectangle(tokens, targets, fresh=True)
        return Chunk(packed.tokens, packed.targets, packed.offsets, True, counts.reshape(-1))


def recall(network: Network, task: Copying) -> float:
    """The share of symbols that are told right, of texts that no training has seen."""
    chunk, right = task.chunk(ASKED, np.random.default_rng((task.seed, 1 << 32))), []
    state, decoder = network.initial_state(ASKED), network.decoder(ASKED)
    steps = (part.reshape(-1, ASKED) for part in (chunk.tokens, chunk.targets, chunk.weights))
    for tokens, targets, counts in zip(*steps):
        logits = decoder(tokens, state)
        if counts[0]:
            right.append(np.mean(logits.argmax(axis=1) == targets))
    return float(np.mean(right))


def train(shape: LanguageConfig, task: Copying, config: TrainConfig) -> float:
    """The recall after training; that of guessing where it diverges."""
    network = Network(shape, initial(shape, config.seed), "cpu", config.threads)
    try:
        for _ in Trainer(network, config, task).run():
            pass
    except TrainingError:
        return 1 / SYMBOLS
    return recall(network, task)


def chart(gaps: list[int], found: dict[str, list[float]]) -> str:
    """Recall over the gap, a curve a cell, as an SVG file's text."""
    curves = [Curve(np.array(gaps), np.array(shares), run, bold=True) for run, shares in enumerate(found.values())]
    legend = [(name, run, True) for run, name in enumerate(found)]
    labels = "gap (steps)", "symbols recalled (share)"
    return standalone(line_chart(curves, legend, *labels, log_x=True, title="Copy task"))


def main() -> None:
    parser = common.parser(__doc__, repeat=0)
    parser.add_argument("--gaps", nargs="+", type=int, default=[1, 3, 5, 10, 20, 40], metavar="STEPS")
    parser.add_argument("--length", type=int, default=3, help="symbols to remember (default %(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="updates (default %(default)s)")
    parser.add_argument("--lr", nargs="+", type=float, default=[0.01, 0.003], help="the best of these rates counts")
    parser.add_argument("--hidden-size", type=int, default=64, help="of the LSTM (default %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="CELL", help=f"of: {', '.join(CELLS)}")
    parser.add_argument("-o", "--output", metavar="FILE", help="draw the table as an SVG")
    args = parser.parse_args()
    recipes = [TrainConfig(optimizer="adam", steps=args.steps, clip=1.0, lr=lr, threads=args.threads) for lr in args.lr]
    config, found, rows = recipes[0], {}, []
    for name, options in common.chosen(CELLS, args.only).items():
        shape = sized(options, SYMBOLS + 2, args.hidden_size, num_layers=1)
        found[name] = []
        for gap in args.gaps:
            task = Copying(gap, args.length, config.batch_size, config.seed)
            shares = [train(shape, task, recipe) for recipe in recipes]
            found[name].append(max(shares))
            print(f"{name}: {' '.join(f'{share:.1%}' for share in shares)} after {gap} steps", file=sys.stderr)
        sizes = {"cell": name, "parameters": f"{shape.num_parameters:,}", "hidden size": str(shape.hidden_size)}
        rows.append({**sizes, **{f"gap {gap}": f"{share:.1%}" for gap, share in zip(args.gaps, found[name])}})
    note = (
        f"share of {args.length} symbols recalled behind the gap, 1 layer, {args.steps} updates of {config.batch_size} "
        f"texts, {config.optimizer}, best of lr {', '.join(map(str, args.lr))}, {config.schedule}; guessing gets "
        f"{1 / SYMBOLS:.1%}"
    )
    if args.output:
        Path(args.output).write_text(chart(args.gaps, found), encoding="utf-8")
    common.report("the copy task", args, rows, [note], {"gaps": args.gaps, "recall": found})


if __name__ == "__main__":
    main()
