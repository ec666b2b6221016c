"""A whole training step on an NVIDIA card in float32, beside PyTorch's cuDNN LSTM on the same weights and chunk.

    python benchmarks/gpu.py [--only 2x256 2x512] [--batches 64 128 256] [--precision single half] [--repeat 5]
    python benchmarks/gpu.py --kernels
    python benchmarks/gpu.py --beside-cpu 200

Before anything is timed, loss and gradient must equal PyTorch's, which runs twice: with products in float32, and with
products whose factors are rounded to TensorFloat-32 (its own choice). --kernels: bandwidth and FLOP rate of single
kernels against what a copy and a product of PyTorch's reach on the same card. --beside-cpu: so many training steps on
the card and on the CPU, and by how much their losses differ at most. Without a card it says so and ends.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import common  # first: it sets the environment that the others read  # isort: skip

import numpy as np
from train import CLIP, LR, Case

from nblstm.config import TrainConfig
from nblstm.errors import DeviceError
from nblstm.kernels import AdamSettings, load
from nblstm.kernels.cells import KINDS
from nblstm.nn.network import Network
from nblstm.nn.parameters import flatten, initial
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Streams
from nblstm.text.demo import demo_source
from nblstm.text.vocabulary import Vocabulary
from nblstm.training.optimizers import make_optimizer
from nblstm.training.trainer import Trainer

SIZES = {"2x256": (2, 256), "2x512": (2, 512), "2x1024": (2, 1024), "3x1152": (3, 1152)}
BPTT, WARM, TURN = 64, 3, 20  # tokens of a chunk; untimed calls; timed calls of a round
TOLERANCE = 1e-4  # of losses and gradients in float32
ROUNDED = "torch, tf32"


class Training:
    """Training steps on the card, as `nblstm.training.trainer.Trainer` does them."""

    def __init__(self, case: Case, precision: str) -> None:
        self.network = Network(case.shape, initial(case.shape, 0), "cuda", 1, precision)
        kernels = self.network.kernels
        self.gradient = kernels.zeros_like(self.network.parameters)
        self.optimizer = make_optimizer(TrainConfig(lr=LR, clip=CLIP), self.network.parameters, kernels.zeros_like)
        self.state, self.steps = self.network.initial_state(case.batch_size), 0

    def step(self, chunk) -> float:
        """One update; the loss before it."""
        network, kernels = self.network, self.network.kernels
        loss, self.state = network.loss_and_gradient(self.gradient, chunk, self.state, 0, self.steps)
        norm = kernels.squared_norm(self.gradient, 1) ** 0.5
        self.steps += 1
        scale = min(1.0, CLIP / (norm + 1e-6))
        self.optimizer.update(kernels, network.parameters, self.gradient, LR, self.steps, scale, 1)
        return loss


class TorchOnCard:
    """PyTorch's step on the card."""

    def __init__(self, case: Case) -> None:
        import torch
        from torch_peer import TorchModel, TorchTraining, rectangle

        self.torch, chunk = torch, case.chunk()
        self.chunk = tuple(ids.cuda() for ids in rectangle(chunk))
        self.model = TorchModel(case.shape, initial(case.shape, 0)).cuda()
        self.training = TorchTraining(self.model, LR, CLIP)

    def _choose(self, rounded: bool) -> None:
        """Whether factors of products are rounded to TensorFloat-32."""
        self.torch.backends.cuda.matmul.allow_tf32 = self.torch.backends.cudnn.allow_tf32 = rounded

    def gradient(self) -> tuple[float, np.ndarray]:
        """The loss of the first chunk and its gradient, in nblstm's order."""
        self._choose(False)
        loss, _ = self.model.loss(*self.chunk, None)
        loss.backward()
        named = dict(self.model.named_parameters())
        names = self.model.config.shapes
        return loss.item(), flatten({name: named[name].grad.cpu().numpy() for name in names}, self.model.config)

    def step(self, rounded: bool) -> float:
        """One update; reading the loss waits for the card."""
        self._choose(rounded)
        return self.training.step(*self.chunk)


@dataclass(frozen=True)
class Kernel:
    """A launch to be timed: what it reads and writes, and its multiplications and additions."""

    run: Callable[[], object]
    bytes: float
    operations: float


def median_seconds(calls: dict[str, Callable[[], object]], repeat: int, wait: Callable[[], None]) -> dict[str, float]:
    """Seconds a call, the median of some rounds in which every contestant has its turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeat):
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            for _ in range(WARM):
                calls[name]()
            wait()
            started = time.perf_counter()
            for _ in range(TURN):
                calls[name]()
            wait()
            times[name].append((time.perf_counter() - started) / TURN)
    return {name: common.median(seconds) for name, seconds in times.items()}


def measure(name: str, batch: int, args, with_torch: bool, wait: Callable[[], None]) -> dict:
    """One row of the table: checked, then timed."""
    case = Case(*SIZES[name], batch, BPTT)
    chunk, ours = case.chunk(), {precision: Training(case, precision) for precision in args.precision}
    calls = {precision: (lambda training=training: training.step(chunk)) for precision, training in ours.items()}
    if with_torch:
        theirs = TorchOnCard(case)
        check(f"{name}, batch {batch}", case, theirs)
        calls |= {"torch": lambda: theirs.step(False), ROUNDED: lambda: theirs.step(True)}
    seconds = median_seconds(calls, args.repeat, wait)
    return {"model": name, "batch": batch, "seconds": seconds, "tokens": case.tokens}


def check(name: str, case: Case, theirs: TorchOnCard) -> None:
    """End the program unless our loss and gradient are PyTorch's."""
    ours = Training(case, "single")
    loss, _ = ours.network.loss_and_gradient(ours.gradient, case.chunk(), ours.state, 0, 0)
    expected, gradient = theirs.gradient()
    common.require_close(f"{name}: loss", loss, expected, TOLERANCE)
    common.require_close(f"{name}: gradient", ours.network.kernels.host(ours.gradient), gradient, TOLERANCE)


def kernels_of(cuda, size: int = 4096) -> dict[str, Kernel]:
    """Single launches on the card: an optimizer, and the three products."""
    flat = [cuda.array(np.ones(size * size, np.float32)) for _ in range(4)]
    a, b, c = (cuda.array(np.ones((size, size), np.float32)) for _ in range(3))
    bias, products, n = cuda.array(np.zeros(size, np.float32)), 2.0 * size**3, size * size
    settings = AdamSettings(1e-3, 0.9, 0.999, 1e-8, 0.0, 0.0)
    return {
        "adam": Kernel(lambda: cuda.adam(*flat, settings, 1, 1.0, 1), 28.0 * n, 12.0 * n),
        "x W^T + b": Kernel(lambda: cuda.linear_forward(c, (), a, b, bias, 1), 12.0 * n, products),
        "backward": Kernel(lambda: cuda.linear_backward(c, b, bias, a, (), a, b, 1), 32.0 * n, 2 * products),
    }


def limits_of(torch, size: int = 4096) -> dict[str, Kernel]:
    """What the card can do, as PyTorch reaches it: a copy, and a product in float32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = torch.ones(size, size, device="cuda"), torch.ones(size, size, device="cuda")
    return {
        "limit: copy": Kernel(lambda: b.copy_(a), 8.0 * size * size, 0),
        "limit: sgemm": Kernel(lambda: torch.mm(a, b), 12.0 * size * size, 2.0 * size**3),
    }


def print_kernels(cuda, args, with_torch: bool, wait: Callable[[], None]) -> None:
    """Time, bandwidth and FLOP rate of single launches."""
    kernels = kernels_of(cuda)
    if with_torch:
        import torch

        kernels |= limits_of(torch)
    seconds = median_seconds({name: kernel.run for name, kernel in kernels.items()}, args.repeat, wait)
    rows = []
    for name, kernel in kernels.items():
        rates = kernel.bytes / seconds[name] / 1e9, kernel.operations / seconds[name] / 1e12
        rows.append([name, f"{1e6 * seconds[name]:.0f}", f"{rates[0]:.0f}", f"{rates[1]:.2f}"])
    show(["kernel", "us", "GB/s", "TFLOP/s"], rows, args.json)


def print_steps(args, with_torch: bool, wait: Callable[[], None]) -> None:
    """Time and speed of training steps."""
    contestants = [*args.precision, *(["torch", ROUNDED] if with_torch else [])]

    def row(name: str, batch: int) -> list[str]:
        measured = measure(name, batch, args, with_torch, wait)
        seconds, tokens = [measured["seconds"][c] for c in contestants], measured["tokens"]
        return [
            name,
            f"{batch} x {BPTT}",
            *(f"{1e3 * s:.2f}" for s in seconds),
            *(f"{tokens / s:,.0f}" for s in seconds),
        ]

    columns = [f"{contestant} {unit}" for unit in ("ms", "tokens/s") for contestant in contestants]
    rows = (row(name, batch) for name in common.chosen(SIZES, args.only) for batch in args.batches)
    show(["model", "batch x bptt", *columns], rows, args.json)


def print_differences(args) -> None:
    """Losses of a run on the card beside those of the same run on the CPU, for each cell that a card computes."""

    def row(cell: str) -> list[str]:
        losses = [losses_of(cell, device, args) for device in ("cpu", "cuda")]
        return [cell, *(f"{each[-1]:.6f}" for each in losses), f"{np.abs(np.subtract(*losses)).max():.1e}"]

    rows = (row(cell) for cell, kind in KINDS.items() if kind.cuda)
    show(["cell", f"loss of step {args.beside_cpu} on the CPU", "on the card", "largest difference"], rows, args.json)


def losses_of(cell: str, device: str, args) -> np.ndarray:
    """The training losses (steps,) of a run on the demo's text."""
    with demo_source().open() as file:
        text = file.read().decode()
    vocabulary = Vocabulary.build([text], "char")
    config = LanguageConfig(len(vocabulary), cell=cell, hidden_size=args.hidden_size, num_layers=2)
    recipe = TrainConfig(batch_size=args.batches[0], bptt=args.bptt, steps=args.beside_cpu)
    streams = Streams(vocabulary.encode(text), recipe.batch_size, recipe.bptt)
    trainer = Trainer(Network(config, initial(config, 0), device, args.threads), recipe, streams)
    return np.array([report.loss for report in trainer.run() if not report.validated])


def show(header: list[str], rows: Iterable[list[str]], as_json: bool) -> None:
    """A Markdown table, each row as soon as it is there, or a JSON list."""
    if as_json:
        print(json.dumps([dict(zip(header, row)) for row in rows], indent=2))
        return
    for cells in itertools.chain([header, ["---"] * len(header)], rows):
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    p = common.parser(__doc__, repeat=5, peers=["torch"])
    p.add_argument("--only", nargs="*", metavar="MODEL", help=f"of {', '.join(SIZES)}")
    p.add_argument("--batches", nargs="*", type=int, default=[64, 128, 256])
    p.add_argument("--precision", nargs="*", choices=["single", "half"], default=["single"])
    p.add_argument("--kernels", action="store_true", help="single kernels instead of training steps")
    p.add_argument("--beside-cpu", type=int, metavar="STEPS", help="compare losses with the CPU's instead")
    p.add_argument("--bptt", type=int, default=50, help="with --beside-cpu (default %(default)s)")
    p.add_argument("--hidden-size", type=int, default=128, help="with --beside-cpu (default %(default)s)")
    args = p.parse_args()
    try:
        cuda = load("cuda")
    except DeviceError as error:
        sys.exit(f"no GPU to measure: {error}")
    if args.beside_cpu:
        return print_differences(args)
    if cuda.device.SIMULATED:
        sys.exit("no GPU to measure: this is numba's simulator, whose times mean nothing.")
    with_torch = False
    if common.installed(args.peers):
        import torch

        with_torch = torch.cuda.is_available()
    wait = cuda.device.cuda.synchronize
    print(f"{cuda.describe()[0]}; PyTorch {'beside it' if with_torch else 'left out'}", file=sys.stderr)
    print_kernels(cuda, args, with_torch, wait) if args.kernels else print_steps(args, with_torch, wait)


if __name__ == "__main__":
    main()
