"""Validation loss against seconds on a text, nblstm and PyTorch with the same recipe, epoch by epoch in turns.

    python benchmarks/quality.py CORPUS [--minutes 5 | --epochs 20] [--precision bfloat16] [--goals 1.60 1.53]
    python benchmarks/quality.py --word-level TRAIN TEST [--epochs 6]
    python benchmarks/quality.py --names names.txt [--epochs 15]

The recipe is the defaults of the package (2x256, dropout, AdamW, cosine schedule) unless an option says otherwise. Both
start from the same weights, read the same batches, follow the same schedule, are validated by the same function and keep
the weights of their best validation; only their dropout masks differ. Each has a clock of its own that runs while it
works: nblstm's includes compiling its kernels and writing its files. In the end nblstm's weights score the validation
text in both protocols of `nblstm eval`: the state carried through all of it, and windows of 256 tokens read from nothing,
as models with a fixed context are scored.

--word-level cuts both texts at white space, learns from the first (its last tenth is for validation) and scores the
second as one stream, as `nblstm eval` does. Its model is 2x200, tied, with dropout 0.5 (WORD_LEVEL).

--names takes makemore's names and splits them as makemore does (create_datasets, seed 3407): a tenth, at most 1,000, is
its test set, on which it also picks its weights. The loss is per character, the end of each name counted as one, so that
it compares with the figures that makemore prints: 1.92 for its transformer. The split needs PyTorch, whose random numbers
it is made of; without it another one is made by the same rule. No peer is trained.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common  # first: it sets the environment that the others read  # isort: skip

import numpy as np

from nblstm.config import TextConfig, TrainConfig
from nblstm.nn.parameters import initial
from nblstm.scoring import score, score_in_windows, validation_loss, validation_streams
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.registry import split_settings
from nblstm.tasks.session import Session
from nblstm.text.batches import Chunk, Streams
from nblstm.text.reading import read_chunks
from nblstm.training.schedules import make_schedule

WORD_LEVEL = {"hidden_size": 200, "dropout": 0.5, "input_dropout": 0.5, "output_dropout": 0.5, "tie": True}
NAMES = {"hidden_size": 256, "dropout": 0.5, "embedding_size": 64, "batch_size": 64}
WINDOW = 256  # tokens: nanoGPT's block_size
MAKEMORE_SEED, MAKEMORE_TEST = 3407, 1000
TOLERANCE = 1e-4  # of the first validation loss, before any training


# ---------------------------------------------------------------- the two runs: iterators that yield a curve's points
#
# A point is (epoch, validation loss) after an epoch, None after any other update.


def our_run(session: Session) -> Iterator[tuple[float, float] | None]:
    """A session as `nblstm train` runs it, files and all."""
    for report in session.run():
        yield (report.epoch, report.valid_loss) if report.validated else None


class TorchRun:
    """The loop of `Trainer.run` around PyTorch's step, with the same streams, schedule and validation."""

    def __init__(self, shape: LanguageConfig, config: TrainConfig, train: np.ndarray, valid: np.ndarray, threads: int):
        import torch
        from torch_peer import TorchModel, TorchTraining

        torch.set_num_threads(threads)
        torch.manual_seed(config.seed)
        self.torch, self.shape, self.config, self.valid = torch, shape, config, validation_streams(valid)
        model = TorchModel(shape, initial(shape, config.seed))
        self.training = TorchTraining(model, config.lr, config.clip, decay=config.weight_decay)
        self.streams = Streams(train, config.batch_size, config.bptt)
        self.schedule, self.step, self.seconds = make_schedule(config), 0, 0.0
        self.best_loss, self.best = float("inf"), None
        self.network = TorchScorer(self.training.model)

    def run(self) -> Iterator[tuple[float, float] | None]:
        """Train until the first limit; a point after every epoch."""
        while self.progress < 1:
            started = time.perf_counter()
            self._update()
            self.seconds += time.perf_counter() - started
            ended = self.step % len(self.streams) == 0
            yield self._validated() if ended or self.progress >= 1 else None

    @property
    def progress(self) -> float:
        """The share of the training that is done: of the limit that comes first."""
        c, epoch = self.config, self.step / len(self.streams)
        return max(epoch / c.epochs if c.epochs else 0, self.seconds / (60 * c.minutes) if c.minutes else 0)

    def _update(self) -> None:
        chunk = self.step % len(self.streams)
        if chunk == 0:
            self.training.state = None
        lr = self.schedule.lr(self.step, self.step / len(self.streams), self.progress)
        for group in self.training.optimizer.param_groups:
            group["lr"] = lr
        self.training.step(*(self.torch.from_numpy(part).long() for part in rectangles(self.streams[chunk])))
        self.step += 1

    def _validated(self) -> tuple[float, float]:
        started = time.perf_counter()
        loss = validation_loss(self.network, self.valid)
        if loss < self.best_loss:
            state = self.training.model.state_dict()
            self.best_loss, self.best = loss, {name: tensor.clone() for name, tensor in state.items()}
        self.schedule.validated(loss)
        self.seconds += time.perf_counter() - started
        return self.step / len(self.streams), loss


class TorchScorer:
    """A TorchModel with what `nblstm.scoring` asks of a Network: `config` and `losses`."""

    def __init__(self, model: Any) -> None:
        self.model, self.config = model, model.config

    def losses(self, chunk: Chunk, state: Any) -> tuple[np.ndarray, Any]:
        """-log p(target) of every position of a chunk of streams, (M,) in nats, and the state after."""
        import torch

        from nblstm.nn.state import State

        tokens, targets = rectangles(chunk)
        self.model.eval()
        with torch.inference_mode():
            before = tuple(torch.from_numpy(part) for part in (state.h, state.c))
            logits, after = self.model(torch.from_numpy(tokens).long(), before)
            wanted = torch.from_numpy(targets).long().flatten()
            losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted, reduction="none")
        self.model.train()
        return losses.numpy(), State(*(part.numpy() for part in after), after[0][-1].numpy())


def rectangles(chunk: Chunk) -> tuple[np.ndarray, np.ndarray]:
    """The tokens and the targets of a chunk of streams, (T, N) int32."""
    return chunk.tokens.reshape(-1, chunk.num_texts), chunk.targets.reshape(-1, chunk.num_texts)


# ---------------------------------------------------------------- makemore's names


def makemore_split(path: str, folder: Path) -> tuple[Path, Path]:
    """Two files of names, to train on and to test with, as makemore splits them."""
    words = [word.strip() for word in Path(path).read_text("utf-8").splitlines() if word.strip()]
    size = min(MAKEMORE_TEST, len(words) // 10)
    if common.installed(["torch"]):
        import torch

        torch.manual_seed(MAKEMORE_SEED)
        order = torch.randperm(len(words)).tolist()
    else:
        order = np.random.default_rng(MAKEMORE_SEED).permutation(len(words)).tolist()
    files = folder / "train.txt", folder / "test.txt"
    for file, places in zip(files, (order[:-size], order[-size:])):
        file.write_text("".join(f"{words[place]}\n" for place in places), "utf-8")
    return files


# ---------------------------------------------------------------- racing


def race(runs: dict[str, Iterator]) -> dict[str, list[dict[str, float]]]:
    """Curves by name: an epoch of each in turns, so that a slow hour of the machine is everyone's."""
    curves: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    seconds, running = dict.fromkeys(runs, 0.0), dict(runs)
    while running:
        for name, run in list(running.items()):
            time.sleep(common.SETTLE)
            point, ended = None, False
            started = time.perf_counter()
            while point is None and not ended:
                try:
                    point = next(run)
                except StopIteration:
                    ended = True
            seconds[name] += time.perf_counter() - started
            if ended:
                del running[name]
            else:
                curves[name].append({"epoch": point[0], "seconds": seconds[name], "valid_loss": point[1]})
    return curves


def check_start(session: Session, torch_run: TorchRun | None) -> float | None:
    """Before any training both have the same validation loss; the program ends if not."""
    if torch_run is None:
        return None
    networks = session.trainer.network, torch_run.network
    losses = (validation_loss(network, session.trainer.valid) for network in networks)
    return common.require_close("validation loss before training", *losses, TOLERANCE)


# ---------------------------------------------------------------- the report


def rows_of(curves: dict[str, list[dict[str, float]]]) -> list[dict[str, str]]:
    """An epoch a row, everyone side by side."""
    rows = []
    for k in range(max(map(len, curves.values()))):
        row: dict[str, str] = {}
        for name, curve in curves.items():
            if k < len(curve):
                point = curve[k]
                row |= {
                    f"{name} epoch": f"{point['epoch']:.2f}", f"{name} s": f"{point['seconds']:.1f}",
                    f"{name} valid": f"{point['valid_loss']:.4f}",
                }  # fmt: skip
        rows.append(row)
    return rows


def seconds_to(curve: list[dict[str, float]], goal: float) -> float | None:
    """When the curve was first at or below the goal; None if never."""
    return next((point["seconds"] for point in curve if point["valid_loss"] <= goal), None)


def notes_of(curves: dict[str, list[dict[str, float]]], goals: list[float]) -> list[str]:
    """Best losses, and how long everyone took to each goal."""
    notes = []
    for name, curve in curves.items():
        best = min(curve, key=lambda point: point["valid_loss"])
        times = [(goal, seconds_to(curve, goal)) for goal in goals]
        reached = [f"{goal:g} " + ("not reached" if t is None else f"after {t:.0f} s") for goal, t in times]
        notes.append(", ".join([f"{name}: best {best['valid_loss']:.4f} after {best['seconds']:.0f} s", *reached]))
    return notes


def test_perplexity(session: Session, torch_run: TorchRun | None, path: str) -> dict[str, float]:
    """Perplexity of a text under everyone's best weights, by the function behind `nblstm eval`."""
    vocabulary = session.material.vocabulary
    text = lambda: read_chunks([path], vocabulary.level)
    found = {"nblstm": session.model().score(text()).perplexity}
    if torch_run is not None:
        torch_run.training.model.load_state_dict(torch_run.best)
        found["torch"] = score(torch_run.network, vocabulary, text()).perplexity
    return found


def in_both_protocols(session: Session) -> dict[str, Any]:
    """Scores of the validation text under the best weights: the state carried through it, and windows from nothing."""
    model, vocabulary = session.model(), session.material.vocabulary
    text = vocabulary.decode(session.material.valid)
    network = model.network("cpu", session.trainer.config.threads)
    return {
        "state carried": score(network, vocabulary, [text]),
        f"windows of {WINDOW}": score_in_windows(network, vocabulary, [text], WINDOW),
    }


# ---------------------------------------------------------------- the program

SETTINGS = {
    "hidden_size": int, "num_layers": int, "dropout": float, "input_dropout": float, "output_dropout": float,
    "batch_size": int, "bptt": int, "lr": float, "schedule": str, "clip": float, "epochs": int, "minutes": float,
    "seed": int, "precision": str,
}  # fmt: skip


def main() -> None:
    parser = common.parser(__doc__, repeat=0, peers=["torch"])
    parser.add_argument("corpus", nargs="?", metavar="CORPUS", help="a text file, character level")
    parser.add_argument("--word-level", nargs=2, metavar=("TRAIN", "TEST"), help="two texts, cut at white space")
    parser.add_argument("--names", metavar="NAMES", help="names, a line each, split as makemore splits them")
    parser.add_argument("--goals", nargs="*", type=float, default=[1.60, 1.53], help="losses to time (1.60 1.53)")
    for name, kind in SETTINGS.items():
        parser.add_argument("--" + name.replace("_", "-"), type=kind, help="default: the package's")
    args = parser.parse_args()
    if sum(map(bool, (args.corpus, args.word_level, args.names))) != 1:
        parser.error("give CORPUS, or --word-level TRAIN TEST, or --names NAMES")
    if args.word_level or args.names:
        args.goals = []
    with tempfile.TemporaryDirectory(prefix="nblstm-quality-") as folder:
        run(args, Path(folder))


def run(args: Any, folder: Path) -> None:
    """Train everyone, print the curves."""
    given = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    usual, text, path, valid = {}, TextConfig(), args.corpus, []
    if args.word_level:
        usual, text, path = WORD_LEVEL, TextConfig(level="word", tokenizer="whitespace"), args.word_level[0]
    if args.names:
        path, *valid = map(str, makemore_split(args.names, folder))
        usual, text, args.peers = NAMES, TextConfig(documents="line"), []
    _, _, model, config, _ = split_settings({**usual, **given, "threads": args.threads})
    session = Session.start(
        [path], folder / "model.safetensors", valid=valid, text=text, model=model, config=TrainConfig(**config),
        on_message=lambda message: print(message, file=common.sys.stderr),
    )  # fmt: skip
    shape, recipe = session.trainer.network.config, session.trainer.config
    torch_run = None
    if "torch" in common.installed(args.peers):
        torch_run = TorchRun(shape, recipe, session.material.train, session.material.valid, args.threads)
    error = check_start(session, torch_run)
    curves = race({"nblstm": our_run(session), **({"torch": torch_run.run()} if torch_run else {})})
    notes = [
        f"LSTM {shape.num_layers}x{shape.hidden_size}{', tied' * shape.tie}, vocabulary {shape.vocab_size:,}, dropout "
        f"{shape.dropout:g} (input {shape.input_dropout:g}, output {shape.output_dropout:g}), "
        f"{recipe.optimizer}, lr {recipe.lr:g}, weight decay {recipe.weight_decay:g}, "
        f"{recipe.schedule}, batch {recipe.batch_size}, bptt {recipe.bptt}, "
        f"{len(session.material.train):,} tokens",
        *notes_of(curves, args.goals),
        "no peer to check against" if error is None else f"relative difference at the start: {error:.0e}",
    ]
    figures: dict[str, Any] = {"curves": curves, "model": shape.to_dict(), "recipe": recipe.to_dict()}
    if args.corpus:
        found = in_both_protocols(session)
        figures["protocols"] = {name: [one.loss, one.perplexity_per_word] for name, one in found.items()}
        notes += [
            f"{name}: {s.loss:.4f} nats/token, {s.perplexity_per_word:.2f} perplexity/word" for name, s in found.items()
        ]
    if args.names:
        loss = min(point["valid_loss"] for point in curves["nblstm"])
        notes.append(f"test loss of names, as makemore counts: {loss:.4f}")
    if args.word_level:
        figures["test_perplexity"] = test_perplexity(session, torch_run, args.word_level[1])
        notes += [f"test perplexity of {name}: {value:.2f}" for name, value in figures["test_perplexity"].items()]
    common.report("validation loss (nats per token) against seconds", args, rows_of(curves), notes, figures)


if __name__ == "__main__":
    main()
