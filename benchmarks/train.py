"""A whole training step (forward, backward, clip, Adam), beside PyTorch on the same weights and chunk.

    python benchmarks/train.py [--threads 2] [--only 2x256 2x512] [--repeat 5] [--bfloat16] [--json]
    python benchmarks/train.py --memory

All is float32. With --bfloat16 both sides train a second time, with products of bfloat16 numbers: PyTorch's loss is then
computed under its autocast. What counts there is the faster of PyTorch's two.

Before anything is timed, the loss and every gradient must equal PyTorch's, and so must the losses of whole steps in
a row. Tokens are drawn uniformly: real text repeats itself more, which would favour us (the first layer projects
each distinct token once). GFLOP/s counts the products that are carried out, not those that this avoids.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import common  # first: it sets the environment that the others read  # isort: skip

import limits
import numpy as np

from nblstm.config import TrainConfig
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial, views
from nblstm.nn.state import State
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Chunk, Streams
from nblstm.training.memory import training_bytes
from nblstm.training.optimizers import make_optimizer
from nblstm.training.trainer import Trainer

LR, CLIP = 1e-3, 5.0
ROUNDED = " bfloat16"  # behind a contestant's name: in that precision
ROUNDED_TOLERANCE = 0.01  # of a loss in it, beside float32's
TOLERANCE = 1e-4  # of losses, and of each gradient relative to its largest entry
STEPS_IN_A_ROW = 3


@dataclass(frozen=True)
class Case:
    """A model and the chunk it is trained on."""

    num_layers: int
    hidden_size: int
    batch_size: int
    bptt: int
    vocab_size: int = 65

    @property
    def shape(self) -> LanguageConfig:
        return LanguageConfig(self.vocab_size, hidden_size=self.hidden_size, num_layers=self.num_layers, dropout=0.0)

    @property
    def tokens(self) -> int:
        return self.batch_size * self.bptt

    def chunk(self) -> Chunk:
        """What one step reads."""
        text = np.random.default_rng(1).integers(0, self.vocab_size, (self.bptt + 1, self.batch_size), np.int32)
        return Chunk.rectangle(text[:-1], text[1:], fresh=False)


CASES = {
    "2x128": Case(2, 128, 50, 50),
    "2x256": Case(2, 256, 64, 64),
    "2x512": Case(2, 512, 64, 64),
    "1x1024": Case(1, 1024, 32, 64),
    "2x200": Case(2, 200, 20, 20, 10_000),
    "2x650": Case(2, 650, 20, 35, 10_000),
}


class Training:
    """Training steps as `nblstm.training.trainer.Trainer` does them, on one chunk."""

    def __init__(
        self, shape: LanguageConfig, parameters: np.ndarray, batch_size: int, threads: int, precision: str = "single",
        backend: str = "cpu",
    ) -> None:  # fmt: skip
        self.network = Network(shape, parameters, backend, threads, precision)
        self.optimizer = make_optimizer(TrainConfig(lr=LR, clip=CLIP, optimizer="adam"), parameters)
        self.gradient = np.empty_like(parameters)
        self.state, self.steps = State.zeros(shape, batch_size), 0

    def step(self, chunk: Chunk) -> float:
        """One update; the loss before it."""
        network, kernels = self.network, self.network.kernels
        loss, self.state = network.loss_and_gradient(self.gradient, chunk, self.state, 0, self.steps)
        norm = np.sqrt(kernels.squared_norm(self.gradient, network.threads))
        self.steps += 1
        self.optimizer.update(
            kernels, network.parameters, self.gradient, LR, self.steps, min(1.0, CLIP / (norm + 1e-6)), network.threads
        )
        return loss


# ---------------------------------------------------------------- one row


def measure(name: str, case: Case, args, with_torch: bool) -> dict:
    """Check a case, then time it: seconds a round of every contestant, and what they mean."""
    chunk, first = case.chunk(), common.timed(call_of(name, "nblstm", args.threads))  # compiles, if nothing has before
    error = check(name, case, args.threads) if with_torch else None
    products = limits.product_contestants(args.threads, with_torch)
    sides = ["nblstm", *(["torch"] if with_torch else [])]
    everyone = [*sides, *([side + ROUNDED for side in sides] if args.bfloat16 else []), *products]
    if args.together:
        calls = {who: call_of(name, who, args.threads) for who in everyone}
        times = common.interleaved(calls, args.repeat)
    else:
        times = common.in_processes({who: [name, who] for who in everyone}, args.repeat)
    rounded = {}
    if args.bfloat16:
        rounded["rounded_error"] = check_rounded(name, case, args.threads, with_torch)
    if args.bfloat16 and with_torch:
        theirs = [min(both) for both in zip(times["torch"], times["torch" + ROUNDED])]
        rounded["rounded_ratios"] = common.ratios(theirs, times["nblstm" + ROUNDED])
    operations = limits.training_operations(case.shape, case.tokens, len(np.unique(chunk.tokens)))
    best = [max(products[key][1] / times[key][turn] for key in products) for turn in range(args.repeat)]
    return {
        "model": name, "seconds": times, "compile_seconds": max(0.0, first - common.median(times["nblstm"])),
        "ratios": common.ratios(times["torch"], times["nblstm"]) if with_torch else [], "error": error,
        "tokens_per_second": case.tokens / common.median(times["nblstm"]),
        "gflops": operations / common.median(times["nblstm"]) / 1e9, "best_gflops": common.median(best) / 1e9,
        "share_of_best": common.median(operations / t / b for t, b in zip(times["nblstm"], best)),
        **rounded,
    }  # fmt: skip


def call_of(name: str, who: str, threads: int) -> Callable[[], object]:
    """What a contestant does, ready to be called: a step of a case, or a product."""
    case, rounded = CASES[name], who.endswith(ROUNDED)
    if who.removesuffix(ROUNDED) == "nblstm":
        precision = "bfloat16" if rounded else "single"
        ours, chunk = Training(case.shape, initial(case.shape, 0), case.batch_size, threads, precision), case.chunk()
        return lambda: ours.step(chunk)
    if who.removesuffix(ROUNDED) == "torch":
        theirs, chunk_of_ids = peer(case, threads, rounded)
        return lambda: theirs.step(*chunk_of_ids)
    return limits.product_contestants(threads, "torch" in who)[who][0]


def peer(case: Case, threads: int, rounded: bool = False):
    """PyTorch's training, and what it reads. rounded: under autocast to bfloat16."""
    import torch
    from torch_peer import TorchModel, TorchTraining, rectangle

    torch.set_num_threads(threads)
    return TorchTraining(TorchModel(case.shape, initial(case.shape, 0)), LR, CLIP, rounded), rectangle(case.chunk())


def check_rounded(name: str, case: Case, threads: int, with_torch: bool) -> float:
    """The largest difference of losses in a row from float32's, of both sides: the program ends if it is too large."""
    error = 0.0
    for side in ("nblstm", *(["torch"] if with_torch else [])):
        single, rounded = (call_of(name, side + suffix, threads) for suffix in ("", ROUNDED))
        losses = [(rounded(), single()) for _ in range(STEPS_IN_A_ROW)]
        error = max(
            error, common.require_close(f"{name}: losses of {side} in bfloat16", *zip(*losses), ROUNDED_TOLERANCE)
        )
    return error


def check(name: str, case: Case, threads: int) -> float:
    """The largest error of our gradients beside PyTorch's: the program ends if it is too large."""
    theirs, (x, y) = peer(case, threads)
    loss, _ = theirs.model.loss(x, y, None)
    loss.backward()
    chunk, ours = case.chunk(), Training(case.shape, initial(case.shape, 0), case.batch_size, threads)
    our_loss, _ = ours.network.loss_and_gradient(ours.gradient, chunk, ours.state, 0, 0)
    common.require_close(f"{name}: loss", our_loss, loss.item(), TOLERANCE)
    gradients = views(ours.gradient, case.shape), views(theirs.model.flat_gradient(), case.shape)
    error = max(
        common.require_close(f"{name}: gradient of {part}", *(named[part] for named in gradients), TOLERANCE)
        for part in case.shape.shapes
    )
    theirs, _ = peer(case, threads)
    losses = [(ours.step(chunk), theirs.step(x, y)) for _ in range(STEPS_IN_A_ROW)]
    common.require_close(f"{name}: losses of {STEPS_IN_A_ROW} steps", *zip(*losses), TOLERANCE)
    return error


def rendered(row: dict) -> dict[str, str]:
    """A row of figures as a row of the table."""
    cells = {
        "model": row["model"], "V": f"{CASES[row['model']].vocab_size:,}",
        "nblstm ms": common.spread(row["seconds"]["nblstm"], 1e3),
    }  # fmt: skip
    if row["ratios"]:
        cells["torch ms"] = common.spread(row["seconds"]["torch"], 1e3)
        cells["torch / nblstm"] = common.spread(row["ratios"], digits=2)
    if "rounded_error" in row:
        cells["nblstm bf16 ms"] = common.spread(row["seconds"]["nblstm" + ROUNDED], 1e3)
    if "rounded_ratios" in row:
        cells["torch bf16 ms"] = common.spread(row["seconds"]["torch" + ROUNDED], 1e3)
        cells["fastest torch / nblstm bf16"] = common.spread(row["rounded_ratios"], digits=2)
    return cells | {
        "tokens/s": f"{row['tokens_per_second']:,.0f}", "GFLOP/s": f"{row['gflops']:.0f}",
        "best sgemm": f"{row['best_gflops']:.0f}", "share": f"{row['share_of_best']:.0%}",
        "compile s": f"{row['compile_seconds']:.1f}",
        "error": "not checked" if row["error"] is None else f"{row['error']:.0e}",
    }  # fmt: skip


# ---------------------------------------------------------------- memory

MEMORY_CASE, MEMORY_STEPS = CASES["2x512"], 5


def train_for_memory(who: str, threads: int) -> None:
    """In a process of its own: train for some steps, print the peak before and after."""
    case = MEMORY_CASE
    text = np.random.default_rng(1).integers(0, case.vocab_size, case.tokens * MEMORY_STEPS + 1, np.int32)
    parameters = initial(case.shape, 0)
    config = TrainConfig(case.batch_size, case.bptt, steps=MEMORY_STEPS, lr=LR, clip=CLIP, threads=threads)
    if who == "torch":
        import torch
        from torch_peer import TorchModel, TorchTraining, rectangle

        torch.set_num_threads(threads)
        before, training = common.peak_memory(), TorchTraining(TorchModel(case.shape, parameters), LR, CLIP)
        x, y = rectangle(case.chunk())
        for _ in range(MEMORY_STEPS):
            training.step(x, y)
    else:
        network, before = Network(case.shape, parameters, "cpu", threads), common.peak_memory()
        for _ in Trainer(network, config, Streams(text, case.batch_size, case.bptt)).run():
            pass
    print(json.dumps({"before": before, "peak": common.peak_memory()}))


def memory(args, with_torch: bool) -> None:
    """Peak resident memory of whole processes."""
    who = ["nblstm, first process", "nblstm"] + ["torch"] * with_torch
    rows, peaks = [], {}
    for name in who:
        command = [sys.executable, __file__, "--memory-of", name.split(",")[0], "--threads", str(args.threads)]
        output = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
        figures = json.loads(output)
        peaks[name] = figures["peak"]
        rows.append({
            "process": name, "imports MB": f"{figures['before'] / 1e6:.0f}", "peak MB": f"{figures['peak'] / 1e6:.0f}",
            "training MB": f"{(figures['peak'] - figures['before']) / 1e6:.0f}",
        })  # fmt: skip
    stated = training_bytes(MEMORY_CASE.shape, TrainConfig(MEMORY_CASE.batch_size, MEMORY_CASE.bptt))
    notes = [f"nblstm states {stated / 1e6:.0f} MB for its arrays"]
    if with_torch:
        notes.append(f"peak of nblstm / peak of torch: {peaks['nblstm'] / peaks['torch']:.2f}")
    args.repeat = 0  # a peak needs no median
    common.report(f"peak memory of {MEMORY_STEPS} training steps at 2x512, batch 64, bptt 64", args, rows, notes)


# ---------------------------------------------------------------- the program


def main() -> None:
    parser = common.parser(__doc__, repeat=5, peers=["torch"])
    parser.add_argument("--only", nargs="+", metavar="MODEL", help=f"of: {', '.join(map(repr, CASES))}")
    parser.add_argument("--bfloat16", action="store_true", help="both sides in that precision, too")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--memory-of", help="(used by --memory)")
    args = parser.parse_args()
    if args.memory_of:
        return train_for_memory(args.memory_of, args.threads)
    if args.serve:
        name, who = args.serve
        return common.serve(call_of(name, who, args.threads))
    with_torch = "torch" in common.installed(args.peers)
    if args.memory:
        return memory(args, with_torch)
    rows = [measure(name, case, args, with_torch) for name, case in common.chosen(CASES, args.only).items()]
    notes = ["compile s: the first step less a usual one, with an empty kernel cache; all sizes share their kernels"]
    if with_torch:
        mean = common.geometric_mean(common.median(row["ratios"]) for row in rows)
        notes.insert(0, f"geometric mean of torch / nblstm: {mean:.2f}")
    if with_torch and args.bfloat16:
        mean = common.geometric_mean(common.median(row["rounded_ratios"]) for row in rows)
        notes.insert(1, f"geometric mean of the fastest torch / nblstm bf16: {mean:.2f}")
    common.report(
        f"training step, float32{' and bfloat16' if args.bfloat16 else ''}, dropout 0",
        args,
        [rendered(row) for row in rows],
        notes,
        rows,
    )


if __name__ == "__main__":
    main()
