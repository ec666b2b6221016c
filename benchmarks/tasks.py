"""Training steps of the tasks beside PyTorch networks of the same architecture, in the same process.

    python benchmarks/tasks.py tag --train eng.train          # CoNLL's columns

A section a task: a function that returns rows of the table. Losses of the same weights are compared before anything is
timed. Batches are made beforehand, on both sides; a step is forward, backward, clipping and Adam.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import common
import numpy as np

SEED, BATCHES = 0, 12


def tag(args: Any) -> list[dict[str, Any]]:
    """Lample et al. 2016: words 100, characters 2 x 25, 2 x 100, CRF; batches of 16 sentences of a file in columns."""
    from nblstm.kernels import fastest
    from nblstm.tasks.tagging.config import TaggerConfig
    from nblstm.tasks.tagging.network import TaggerNetwork, initial_tagger
    from nblstm.tasks.tagging.reading import read_tagged
    from nblstm.tasks.tagging.settings import TaggedTextConfig, TaggerTraining
    from nblstm.tasks.tagging.training import TaggedPart, corpus_of, tagger_trainer

    part = TaggedPart(*read_tagged(args.train))
    corpus = corpus_of(part, TaggedPart([], []), TaggedTextConfig())
    config, recipe = TaggerConfig(**corpus.fields), TaggerTraining(threads=args.threads, unknown_fraction=0.0, clip=5.0)
    trainer = tagger_trainer(config, initial_tagger(config, SEED), recipe, corpus, print)
    chunks = [trainer.chunks[k] for k in range(BATCHES)]
    words = sum(len(chunk.tokens) for chunk in chunks)
    contestants: dict[str, Callable[[], Any]] = {"nblstm": lambda: [_update(trainer, chunk) for chunk in chunks]}
    if "torch" in args.peers:
        import torch
        from torch_tagger import TorchTagger, padded

        torch.set_num_threads(args.threads)
        peer, batches = TorchTagger(config), list(map(padded, chunks))
        peer.load(trainer.network.weights)
        _same_loss(TaggerNetwork(config, trainer.network.parameters.copy(), fastest()), peer, chunks[0], batches[0])
        optimizer = torch.optim.Adam(peer.parameters(), recipe.lr)
        contestants["torch"] = lambda: [_torch_update(peer, optimizer, batch) for batch in batches]
    return _rows("tag", contestants, words, args.repeat)


def _update(trainer: Any, chunk: Any) -> None:
    """One update of our trainer on a chunk."""
    network = trainer.network
    loss, _ = network.loss_and_gradient(
        trainer.gradient, chunk, network.initial_state(chunk.num_texts), SEED, trainer.step
    )  # fmt: skip
    trainer._move(trainer.config.lr, trainer._clip(loss))
    trainer.step += 1


def _torch_update(peer: Any, optimizer: Any, batch: Any) -> None:
    """The same in PyTorch."""
    import torch

    peer.train()
    optimizer.zero_grad()
    peer(*batch).backward()
    torch.nn.utils.clip_grad_norm_(peer.parameters(), 5.0)
    optimizer.step()


def _same_loss(network: Any, peer: Any, chunk: Any, batch: Any) -> None:
    """End the program unless both have the same loss without dropout."""
    import torch

    peer.eval()
    with torch.no_grad():
        expected = peer(*batch).item()
    losses, _ = network.losses(chunk, network.initial_state(chunk.num_texts))
    common.require_close("loss of the tagger", losses.mean(), expected, 1e-4)


def _rows(task: str, contestants: dict[str, Callable[[], Any]], units: int, repeat: int) -> list[dict[str, Any]]:
    """The table's rows: how many words a second each reads, and how many times as fast as PyTorch that is."""
    times = common.interleaved(contestants, repeat)
    rows = []
    for name, seconds in times.items():
        row = {"task": task, "who": name, "words/s": common.spread([units / s for s in seconds], digits=0)}
        if "torch" in times:
            row["times torch"] = common.spread(common.ratios(times["torch"], seconds), digits=2)
        rows.append(row)
    return rows


TASKS: dict[str, Callable[[Any], list[dict[str, Any]]]] = {"tag": tag}


def main() -> None:
    """Measure the tasks that are asked for."""
    parser = common.parser(__doc__, repeat=5, peers=["torch"])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)} (default: all)")
    parser.add_argument("--train", metavar="FILE", required=True, help="what the task trains on")
    args = parser.parse_args()
    args.peers = common.installed(args.peers)
    unknown = set(args.tasks) - set(TASKS)
    if unknown:
        sys.exit(f"there is no task {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}")
    np.random.seed(SEED)
    rows = [row for name in args.tasks or TASKS for row in TASKS[name](args)]
    common.report("tasks: training steps", args, rows)


if __name__ == "__main__":
    main()
