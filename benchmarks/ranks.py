"""Processes that train one model together: their speed on this machine, and a model of it on many machines.

    python benchmarks/ranks.py [--case 2x512] [--repeat 3] [--text tinyshakespeare.txt]

Measured: a training step of one process with all threads, and of as many processes (`mpiexec`) with one thread each, on
the same batch, in turns; the sum of the gradients and the exchange of a few bytes between the processes, by themselves.

Predicted: the step of n machines, each with the batch that one machine had here,

    seconds = compute + 2 (n - 1) / n  bytes / bandwidth + (1 + EXCHANGES) 2 log2(n) latency

bytes: of the gradient, which a ring passes on twice; efficiency = compute / seconds. Of SLOW machines on the slower network
also in other ways: sent as bfloat16; summed while the backward pass goes on, which nblstm does not do (half of the bytes are
those of the upper layer, which hide behind the backward pass of the lower one, a third of the step); and with Adam's
parameters and moments, three times as many bytes, averaged every 16 or 64 updates. Larger batches pay until they reach
the gradient's noise scale (McCandlish et al. 2018, appendix A.1): with --text it is estimated from a short run, by the
gradients of the halves of every batch.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import common  # first: it sets the environment that the others read  # isort: skip

import numpy as np
from train import CASES, Case

from nblstm.config import TrainConfig
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.text.batches import Streams
from nblstm.text.corpus import load_corpus
from nblstm.training.mpi import world
from nblstm.training.trainer import Trainer

STEPS = 4  # of a turn, behind one that is not timed
EXCHANGES = 4  # of a few bytes, in an update
NETWORKS = {"1 Gbit/s, 50 us": (1e9 / 8, 50e-6), "100 Gbit/s, 2 us": (100e9 / 8, 2e-6)}
MACHINES = (4, 16, 64, 256, 1024)
SLOW = 4
NOISE = Case(num_layers=2, hidden_size=128, batch_size=32, bptt=64)
NOISE_STEPS = 600
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))


# ---------------------------------------------------------------- measured


def trainer_of(case: Case, ids: np.ndarray, threads: int, steps: int) -> Trainer:
    """A trainer of streams."""
    config = TrainConfig(batch_size=case.batch_size, bptt=case.bptt, steps=steps, warmup=10)
    network = Network(case.shape, initial(case.shape, 0), "cpu", threads)
    return Trainer(network, config, Streams(ids, case.batch_size, case.bptt))


def turn(case: Case, threads: int) -> None:
    """In a process of its own, or in several: a few steps; the first process prints what they took."""
    ranks = world()
    ids = np.random.default_rng(1).integers(0, case.vocab_size, case.tokens * (STEPS + 2) + 1)
    trainer = trainer_of(case, ids, threads, STEPS + 1)
    trainer.join(ranks)
    run = trainer.run()
    next(run)
    seconds = [common.timed(lambda: next(run)) for _ in range(STEPS)]
    ranks.exchange()
    summing = [common.timed(lambda: ranks.sum(trainer.gradient)) for _ in range(10)]
    exchanging = [common.timed(ranks.exchange) for _ in range(100)]
    if ranks.rank == 0:
        found = {"step": seconds, "sum": summing, "exchange": exchanging, "bytes": trainer.gradient.nbytes}
        print(json.dumps({name: common.median(v) if isinstance(v, list) else v for name, v in found.items()}))


def measured(case: str, processes: int, threads: int) -> dict[str, Any]:
    """The figures of a turn of so many processes."""
    together = [MPIEXEC, "-n", str(processes)] if processes > 1 else []
    command = [*together, sys.executable, __file__, "--case", case, "--turn", "--threads", str(threads)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


# ---------------------------------------------------------------- predicted


def predicted(compute: float, size: int) -> list[dict[str, Any]]:
    """Rows of n machines, each with the same batch, in each network. size: bytes of the gradient."""
    rows = []
    for n in MACHINES:
        for network, (bandwidth, latency) in NETWORKS.items():
            seconds = compute + 2 * (n - 1) / n * size / bandwidth + (1 + EXCHANGES) * 2 * math.log2(n) * latency
            rows.append({"machines": n, "network": network, "seconds": seconds, "efficiency": compute / seconds})
    return rows


def other_ways(compute: float, size: int) -> list[dict[str, Any]]:
    """Rows of SLOW machines on the slower network. size: bytes of the gradient."""
    bandwidth, latency = next(iter(NETWORKS.values()))
    sending, waiting = 2 * (SLOW - 1) / SLOW * size / bandwidth, (1 + EXCHANGES) * 2 * math.log2(SLOW) * latency
    seconds = {
        "exact": sending, "bfloat16": sending / 2, "overlapped": sending - min(sending / 2, compute / 3),
        "average every 16": sending * 3 / 16, "average every 64": sending * 3 / 64,
    }  # fmt: skip
    return [
        {
            "way": way,
            "ms / step": f"{(compute + waiting + t) * 1e3:.0f}",
            "efficiency": f"{compute / (compute + waiting + t):.0%}",
        }
        for way, t in seconds.items()
    ]


def noise_scale(path: str, threads: int) -> list[dict[str, Any]]:
    """The batch, in tokens, whose gradient is as much noise as signal, in each third of a short run.

    |G|^2 and tr(S) are estimated without bias from the squared norms of a half's gradient and of the whole one's.
    """
    corpus = load_corpus([path])
    case = Case(NOISE.num_layers, NOISE.hidden_size, NOISE.batch_size, NOISE.bptt, len(corpus.vocabulary))
    trainer = trainer_of(case, corpus.train, threads, NOISE_STEPS)
    network, half, squares = trainer.network, np.zeros_like(trainer.gradient), []
    while trainer.progress < 1:
        chunk, halves = trainer.chunks[trainer.chunk_number], []
        for first in (0, 1):
            part, state = chunk.part(first, 2), trainer.state
            before = (
                network.initial_state(part.num_texts) if chunk.fresh else state.take(range(first, state.num_texts, 2))
            )
            network.loss_and_gradient(half, part, before, 0, trainer.step)
            halves.append(float(np.dot(half, half)))
        trainer._update()
        squares.append((np.mean(halves), float(np.dot(trainer.gradient, trainer.gradient))))
    return [_noise(np.mean(third, axis=0), case.tokens) for third in np.array_split(squares, 3)]


def _noise(squares: np.ndarray, tokens: int) -> dict[str, Any]:
    """The noise scale of mean squared norms: of gradients of half a batch, and of the whole one."""
    (small, large), b = squares, tokens / 2
    signal = (tokens * large - b * small) / (tokens - b)
    noise = (small - large) / (1 / b - 1 / tokens)
    return {"signal": signal, "noise": noise, "tokens": noise / signal}


# ---------------------------------------------------------------- the command


def main() -> None:
    parser = common.parser(__doc__, repeat=3)
    parser.add_argument("--case", choices=CASES, default="2x512", help="model and batch (default %(default)s)")
    parser.add_argument("--text", help="estimate the noise scale of a run on this file")
    parser.add_argument("--turn", action="store_true", help="(used for every process)")
    args = parser.parse_args()
    if args.turn:
        return turn(CASES[args.case], args.threads)
    if MPIEXEC is None:
        sys.exit("there is no mpiexec: pip install mpi4py mpich")
    ways = {f"1 process, {args.threads} threads": (1, args.threads), f"{args.threads} processes": (args.threads, 1)}
    measured(args.case, *next(iter(ways.values())))  # compiles
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for number in range(args.repeat):
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(measured(args.case, *ways[name]))
    report(args, found)


def report(args: Any, found: dict[str, list[dict[str, Any]]]) -> None:
    """Print what was found."""
    one, several = ([turn["step"] for turn in turns] for turns in found.values())
    rows = [
        {"case": name, "ms / step": common.spread([turn["step"] for turn in turns], 1e3),
         "speed": common.spread(common.ratios(one, [turn["step"] for turn in turns]), digits=2)}
        for name, turns in found.items()
    ]  # fmt: skip
    last = list(found.values())[1]
    link = {name: common.median([turn[name] for turn in last]) for name in ("sum", "exchange", "bytes")}
    future = predicted(common.median(one), int(link["bytes"]))
    noise = noise_scale(args.text, args.threads) if args.text else []
    if args.json:
        return common.report("ranks", args, future, figures={"turns": found, "link": link, "noise": noise})
    common.report(f"{args.case}: one process, and several of one thread", args, rows)
    print(
        f"\nof {link['bytes'] / 1e6:.1f} MB of gradient the sum takes {link['sum'] * 1e3:.1f} ms, an exchange of a few "
        f"bytes {link['exchange'] * 1e6:.0f} us\n\nas predicted for machines like this one\n"
    )
    common.table([
        {"machines": f"{row['machines']:,}", "network": row["network"], "ms / step": f"{row['seconds'] * 1e3:.0f}",
         "efficiency": f"{row['efficiency']:.0%}",
         "tokens / batch": f"{row['machines'] * CASES[args.case].tokens:,}"}
        for row in future
    ])  # fmt: skip
    print(f"\n{SLOW} machines on {next(iter(NETWORKS))}, in other ways\n")
    common.table(other_ways(common.median(one), int(link["bytes"])))
    if noise:
        scales = ", ".join(f"{third['tokens']:,.0f}" for third in noise)
        print(f"\nnoise scale of {NOISE_STEPS} updates of 2x128 on {Path(args.text).name}, by thirds: {scales} tokens")


if __name__ == "__main__":
    main()
