"""How good a model gets, and how soon: validation loss against seconds on real text, beside PyTorch.

    python benchmarks/quality.py CORPUS [--minutes 5] [--peers]
    python benchmarks/quality.py --word-level TRAIN TEST [--epochs 6]

Both read the same tokens in the same order with the same recipe (nblstm's defaults), schedule and validation
protocol, one after the other; dropout masks and initial weights are each one's own. Seconds count training and
validation, not compiling. The word level also gives the perplexity of TEST (whitespace tokens, one stream, state
carried).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import common  # first: it sets the environment that the others read  # isort: skip

import numpy as np

from nblstm.config import ModelConfig, TrainConfig
from nblstm.model.network import Network
from nblstm.model.parameters import initial, views
from nblstm.scoring import CHUNK, SHORTEST_STREAM, VALIDATION_STREAMS, score
from nblstm.text.batches import Streams, fit
from nblstm.text.corpus import Corpus, load_corpus, read
from nblstm.training.schedules import make_schedule
from nblstm.training.trainer import Trainer

WORD_LEVEL = {"hidden_size": 200, "dropout": 0.5, "input_dropout": 0.5, "output_dropout": 0.5, "tie": True}
Point = tuple[float, float, float]  # epoch, seconds, validation loss


def ours(shape: ModelConfig, config: TrainConfig, corpus: Corpus) -> Iterator[Point]:
    """nblstm's curve; afterwards `ours.network` holds the best weights."""
    network = Network(shape, initial(shape, config.seed), "cpu", config.threads)
    trainer = Trainer(network, config, corpus.train, corpus.valid)
    compiling = 0.0
    for report in trainer.run():
        if report.step == 1:
            compiling = report.seconds
        if report.validated:
            yield report.epoch, report.seconds - compiling, report.valid_loss
    np.copyto(network.parameters, trainer.best)
    ours.network = network


def torchs(shape: ModelConfig, config: TrainConfig, corpus: Corpus) -> Iterator[Point]:
    """PyTorch's curve; afterwards `torchs.parameters` holds the best weights, in nblstm's names."""
    import torch
    from torch_peer import TorchModel, TorchTraining

    torch.manual_seed(config.seed)
    model = TorchModel(shape, initial(shape, config.seed))
    training, schedule = TorchTraining(model, config.lr, config.clip), make_schedule(config)
    streams = Streams(corpus.train, config.batch_size, config.bptt)
    step, best, started = 0, math.inf, time.perf_counter()
    while True:
        seconds, epoch = time.perf_counter() - started, step / len(streams)
        progress = epoch / config.epochs if config.epochs else seconds / (60 * config.minutes)
        if step % len(streams) == 0 and step or progress >= 1:
            loss = torch_validation(model, corpus.valid)
            if loss < best:
                best, torchs.parameters = loss, {k: v.detach().numpy().copy() for k, v in model.named_parameters()}
            yield epoch, time.perf_counter() - started, loss
        if progress >= 1:
            return
        if step % len(streams) == 0:
            training.state = None
        for group in training.optimizer.param_groups:
            group["lr"] = schedule.lr(step, epoch, progress)
        training.step(*(torch.from_numpy(part.astype(np.int64)) for part in streams.chunk(step % len(streams))))
        step += 1


def torch_validation(model, ids: np.ndarray) -> float:
    """`nblstm.scoring.validation_loss`, by PyTorch."""
    import torch

    N = max(1, min(VALIDATION_STREAMS, len(ids) // SHORTEST_STREAM))
    streams, state, nats, tokens = Streams(ids, N, max(1, CHUNK // N)), None, 0.0, 0
    model.eval()
    with torch.no_grad():
        for k in range(len(streams)):
            chunk = [torch.from_numpy(part.astype(np.int64)) for part in streams.chunk(k)]
            loss, state = model.loss(*chunk, state)
            nats, tokens = nats + float(loss) * chunk[0].numel(), tokens + chunk[0].numel()
    model.train()
    return nats / tokens


def main() -> None:
    """Train, and print one row an epoch."""
    parser = common.parser(__doc__, 1, ["torch"])
    parser.add_argument("corpus", help="text to train on")
    parser.add_argument("test", nargs="?", help="text to test on, at word level")
    parser.add_argument("--word-level", action="store_true", help="2 x 200 on whitespace tokens, with a test text")
    parser.add_argument("--minutes", type=float, help="limit by time")
    parser.add_argument("--epochs", type=int, help="limit by epochs (default: nblstm's)")
    args = parser.parse_args()
    text = {"level": "word", "tokenizer": "whitespace"} if args.word_level else {}
    corpus = load_corpus([args.corpus], **text)
    shape = ModelConfig(len(corpus.vocabulary), **(WORD_LEVEL if args.word_level else {}))
    recipe = TrainConfig(epochs=args.epochs, minutes=args.minutes, threads=args.threads)
    batch_size, bptt, _ = fit(len(corpus.train), recipe.batch_size, recipe.bptt)
    recipe = TrainConfig(**{**recipe.to_dict(), "batch_size": batch_size, "bptt": bptt})
    curves = {"nblstm": list(ours(shape, recipe, corpus))}
    if common.installed(args.peers):
        curves["torch"] = list(torchs(shape, recipe, corpus))
    rows = [
        {"who": who, "epoch": f"{epoch:.2f}", "seconds": f"{seconds:.0f}", "valid nats": f"{loss:.4f}"}
        for who, curve in curves.items()
        for epoch, seconds, loss in curve
    ]
    notes = [f"{shape.num_layers} x {shape.hidden_size}, V = {shape.vocab_size:,}; recipe {recipe}"]
    if args.test:
        notes += [f"{who}: test perplexity {perplexity:.2f}" for who, perplexity in tested(args.test, corpus, curves)]
    common.report("validation loss against time", args, rows, notes)


def tested(path: str, corpus: Corpus, curves: dict[str, list[Point]]) -> Iterator[tuple[str, float]]:
    """The perplexity of the test text for each one's best weights, scored by the same code."""
    network = ours.network
    for who in curves:
        if who == "torch":
            for name, array in views(network.parameters, network.config).items():
                array[...] = torchs.parameters.get(name, torchs.parameters["embedding.weight"])
        yield who, score(network, corpus.vocabulary, read([path], corpus.vocabulary.level)).perplexity


if __name__ == "__main__":
    main()
