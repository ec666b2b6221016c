"""The copy task: what each cell still knows after a gap of T steps, at equal parameters.

    python benchmarks/copying.py [--gaps 5 10 20 40 80] [--steps 600] [-o copying.svg] [--json]

A text is five symbols of eight, a gap of T blanks, a mark, and the five symbols again (Hochreiter & Schmidhuber 1997,
in the form of Arjovsky, Shah & Bengio 2016, section 4.1). Only the recall counts in training. The table has the share of
the recalled symbols that are right, after the same number of updates for everyone; chance is 1/8.
"""

from __future__ import annotations

import common  # first: it sets the environment that the others read  # isort: skip

from typing import Any

import numpy as np

from nblstm.config import ModelConfig, TrainConfig
from nblstm.model.network import Network
from nblstm.model.parameters import initial
from nblstm.text.batches import Chunk
from nblstm.training.trainer import Trainer

SYMBOLS, LENGTH, BLANK, MARK, TEXTS = 8, 5, 8, 9, 64
CELLS = {"lstm": {}, "gru": {"cell": "gru"}, "update-lstm": {"cell": "update-lstm"}, "rnn": {"cell": "rnn"}}


def batch(random: np.random.Generator, gap: int) -> Chunk:
    """TEXTS texts of the task; the last LENGTH targets of each count."""
    symbols = random.integers(0, SYMBOLS, (LENGTH, TEXTS))
    blanks = np.full((gap, TEXTS), BLANK)
    text = np.concatenate([symbols, blanks, np.full((1, TEXTS), MARK), symbols])
    chunk = Chunk.rectangle(text[:-1], text[1:], fresh=True)
    weights = np.zeros((len(text) - 1, TEXTS))
    weights[-LENGTH:] = 1
    return Chunk(chunk.tokens, chunk.targets, chunk.offsets, True, weights.reshape(-1))


class Task:
    """A source of training: every epoch is one fresh batch."""

    def __init__(self, gap: int) -> None:
        self.gap = gap

    def epoch(self, number: int) -> list[Chunk]:
        """The batch of an epoch."""
        return [batch(np.random.default_rng([1, number]), self.gap)]


def recall(network: Network, gap: int) -> float:
    """The share of the recalled symbols that are the likeliest, when the text so far is given."""
    right = []
    for seed in range(4):
        chunk = batch(np.random.default_rng([2, seed]), gap)
        tokens, targets = (ids.reshape(-1, TEXTS) for ids in (chunk.tokens, chunk.targets))
        decode, state = network.decoder(TEXTS), network.initial_state(TEXTS)
        guesses = np.stack([decode(row, state).argmax(axis=1) for row in tokens])
        right.append((guesses[-LENGTH:] == targets[-LENGTH:]).mean())
    return float(np.mean(right))


def sized(options: dict[str, Any], parameters: int) -> ModelConfig:
    """One layer with the hidden size that comes closest to that many parameters."""
    shapes = (ModelConfig(MARK + 1, 16, hidden, 1, dropout=0.0, **options) for hidden in range(8, 160))
    return min(shapes, key=lambda c: abs(c.num_parameters - parameters))


def main() -> None:
    parser = common.parser(__doc__, repeat=0)
    parser.add_argument("--gaps", nargs="+", type=int, default=[5, 10, 20, 40, 80], metavar="T")
    parser.add_argument("--steps", type=int, default=600, help="updates for each cell and gap (default %(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", help="also draw the table, as SVG")
    args = parser.parse_args()
    wanted = ModelConfig(MARK + 1, 16, 64, 1, dropout=0.0).num_parameters
    figures: dict[str, dict[int, float]] = {}
    for name, options in CELLS.items():
        shape = sized(options, wanted)
        figures[f"{name} {shape.hidden_size}"] = found = {}
        for gap in args.gaps:
            config = TrainConfig(steps=args.steps, lr=0.005, clip=1.0, schedule="constant", threads=args.threads)
            network = Network(shape, initial(shape, 0), "cpu", args.threads)
            for _ in Trainer(network, config, Task(gap)).run():
                pass
            found[gap] = recall(network, gap)
    rows = [{"cell": name, **{f"T = {gap}": f"{share:.0%}" for gap, share in found.items()}} for name, found in figures.items()]
    common.report(f"copy task: symbols recalled after {args.steps} updates", args, rows, figures=figures)
    if args.output:
        draw(figures, args.output)


def draw(figures: dict[str, dict[int, float]], path: str) -> None:
    """The shares against the gap, as an SVG file."""
    from nblstm.reporting.charts import Curve, line_chart, standalone

    curves = [
        Curve(np.array(list(found), float), 100 * np.array(list(found.values())), run, bold=True)
        for run, found in enumerate(figures.values())
    ]
    legend = [(name, run, True) for run, name in enumerate(figures)]
    chart = line_chart(curves, legend, "gap (steps)", "symbols recalled (%)", log_x=True, title="The copy task")
    with open(path, "w", encoding="utf-8") as file:
        file.write(standalone(chart))


if __name__ == "__main__":
    main()
