"""A whole training step with a large vocabulary: full softmax, adaptive head, lazy embedding, beside PyTorch.

    python benchmarks/vocabulary.py [--threads 2] [--only "2x200, V = 10,000"] [--repeat 5] [--bfloat16] [--json]

Tokens are drawn by Zipf's law, p = 1 / rank, which also chooses the clusters; PyTorch's adaptive softmax has the same. A
step is that of `nblstm.training.trainer.Trainer`, behind its first validation: forward, backward, clip, Adam, and a look
whether the weights are sane; PyTorch's is forward, backward, clip, fused Adam. Before anything is timed, the losses and
the gradients of both heads must equal PyTorch's. All is float32; with --bfloat16 the adaptive heads and PyTorch's full
softmax are timed a second time, with products of bfloat16 numbers, PyTorch's under its autocast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

import common  # first: it sets the environment that the others read  # isort: skip

import numpy as np
from train import CLIP, LR, ROUNDED, TOLERANCE

from nblstm.config import TrainConfig
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial, views
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Chunk
from nblstm.training.trainer import Trainer

CHUNKS = 8  # that follow each other, so that rows of the embedding are not always the same


@dataclass(frozen=True)
class Case:
    """A model and the chunks it is trained on."""

    num_layers: int
    hidden_size: int
    batch_size: int
    bptt: int
    vocab_size: int

    def shape(self, head: str) -> LanguageConfig:
        sizes = {"hidden_size": self.hidden_size, "num_layers": self.num_layers, "dropout": 0.0}
        return LanguageConfig(self.vocab_size, head=head, **sizes)

    def chunks(self) -> list[Chunk]:
        """What the steps read."""
        p = 1 / np.arange(1, self.vocab_size + 1)
        size = CHUNKS, self.bptt + 1, self.batch_size
        texts = np.random.default_rng(1).choice(self.vocab_size, size, p=p / p.sum()).astype(np.int32)
        return [Chunk.rectangle(text[:-1], text[1:], fresh=False) for text in texts]


CASES = {
    f"{name}, V = {V:,}": Case(*sizes, V)
    for name, sizes in {"2x200": (2, 200, 20, 20), "2x650": (2, 650, 20, 35)}.items()
    for V in (10_000, 100_000)
}
OURS = {
    "nblstm full": ("linear", False),
    "nblstm adaptive": ("adaptive", False),
    "nblstm adaptive, lazy": ("adaptive", True),
}
THEIRS = {"torch full": "linear", "torch adaptive": "adaptive"}  # contestant -> head


class Repeated:
    """An epoch without end of a few chunks."""

    def __init__(self, chunks: list[Chunk]) -> None:
        self.chunks = chunks * 10_000

    def epoch(self, number: int) -> list[Chunk]:
        return self.chunks


def our_steps(case: Case, head: str, lazy: bool, threads: int, rounded: bool) -> Callable[[], object]:
    """An update by the trainer, as a call. rounded: with products of bfloat16 numbers."""
    shape, settings = case.shape(head), {"lr": LR, "clip": CLIP, "optimizer": "adam", "schedule": "constant"}
    config = TrainConfig(lazy_embedding=lazy, epochs=1, **settings)
    network = Network(shape, initial(shape, 0), "cpu", threads, "bfloat16" if rounded else "single")
    trainer = Trainer(network, config, Repeated(case.chunks()))
    trainer.state = trainer.network.initial_state(case.batch_size)
    trainer.best_loss = 0.0  # as behind the first validation: weights are not kept at every update
    reports = trainer.run()
    return lambda: next(reports)


def torch_steps(case: Case, head: str, threads: int, rounded: bool) -> Callable[[], object]:
    """PyTorch's step, as a call. rounded: under autocast to bfloat16."""
    import torch
    from torch_peer import TorchModel, TorchTraining, rectangle

    torch.set_num_threads(threads)
    shape, chunks = case.shape(head), cycle(map(rectangle, case.chunks()))
    theirs = TorchTraining(TorchModel(shape, initial(shape, 0)), LR, CLIP, rounded)
    return lambda: theirs.step(*next(chunks))


def check(name: str, case: Case, head: str, threads: int) -> None:
    """End the program unless loss and gradients of the first chunk are PyTorch's."""
    from torch_peer import TorchModel, rectangle

    shape, chunk = case.shape(head), case.chunks()[0]
    parameters = initial(shape, 0)
    network, gradient = Network(shape, parameters, "cpu", threads), np.empty_like(parameters)
    loss, _ = network.loss_and_gradient(gradient, chunk, network.initial_state(case.batch_size), 0, 0)
    model = TorchModel(shape, parameters)
    expected, _ = model.loss(*rectangle(chunk), None)
    expected.backward()
    common.require_close(f"{name}, {head}: loss", loss, expected.item(), TOLERANCE)
    ours, theirs = views(gradient, shape), views(model.flat_gradient(), shape)
    for part in shape.shapes:
        common.require_close(f"{name}, {head}: gradient of {part}", ours[part], theirs[part], TOLERANCE)


def measure(name: str, case: Case, args, with_torch: bool) -> dict:
    """Check a case, then time it: seconds a step of every contestant."""
    for head in ("linear", "adaptive") if with_torch else ():
        check(name, case, head, args.threads)
    everyone = [*OURS, *(THEIRS if with_torch else ())]
    if args.bfloat16:
        everyone += [who + ROUNDED for who in everyone if who not in ("nblstm full", "nblstm adaptive")]
    if args.together:
        seconds = common.interleaved({who: call_of(name, who, args.threads) for who in everyone}, args.repeat)
    else:
        seconds = common.in_processes({who: [name, who] for who in everyone}, args.repeat)
    return {"model": name, "seconds": seconds}


def call_of(name: str, who: str, threads: int) -> Callable[[], object]:
    """The step of a contestant, ready to be called."""
    rounded, plain = who.endswith(ROUNDED), who.removesuffix(ROUNDED)
    if plain in OURS:
        return our_steps(CASES[name], *OURS[plain], threads, rounded)
    return torch_steps(CASES[name], THEIRS[plain], threads, rounded)


def rendered(row: dict) -> dict[str, str]:
    """A row of figures as a row of the table."""
    seconds = row["seconds"]
    cells = {"model": row["model"], **{f"{who} ms": common.spread(times, 1e3) for who, times in seconds.items()}}
    for peer in ("torch adaptive", "torch full"):
        for kind in ("", ROUNDED):
            ours = seconds.get("nblstm adaptive, lazy" + kind)
            if peer in seconds and ours:  # its faster one, where there are two
                theirs = list(map(min, zip(seconds[peer], seconds[peer + kind])))
                cells[f"{peer} / ours{kind}"] = common.spread(common.ratios(theirs, ours), digits=2)
    return cells


def main() -> None:
    parser = common.parser(__doc__, repeat=5, peers=["torch"])
    parser.add_argument("--only", nargs="+", metavar="MODEL", help=f"of: {', '.join(map(repr, CASES))}")
    parser.add_argument("--bfloat16", action="store_true", help="also with products of bfloat16 numbers")
    args = parser.parse_args()
    if args.serve:
        name, who = args.serve
        return common.serve(call_of(name, who, args.threads))
    with_torch = "torch" in common.installed(args.peers)
    rows = [measure(name, case, args, with_torch) for name, case in common.chosen(CASES, args.only).items()]
    common.report("training step, large vocabularies, dropout 0", args, [rendered(row) for row in rows], (), rows)


if __name__ == "__main__":
    sys.exit(main())
