"""Where a training step's time goes: every compiled kernel, its rate, and the share of its own limit it reaches.

    python benchmarks/kernels.py [--threads 2] [--only 2x512] [--precision bfloat16] [--repeat 5] [--json]

Kernels that multiply matrices are held against the best float32 product measured in the same rounds (the register
tile on its own, or PyTorch's matmul), the others against copying memory, read and written, through an array as
large as a layer's gates: data that is still in a cache can beat that. What passes outside of compiled kernels
(NumPy, Python, waking threads) is the last row. The clock runs around each kernel, from the first thread to the last.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import common  # first: it sets the environment that the others read  # isort: skip

import limits
import numpy as np
from train import CASES, Case, Training

from nblstm.kernels.cpu import elementwise, factors, head, optimizers, recurrent
from nblstm.nn.parameters import initial


def operations(case: Case, rows: int) -> dict[str, float]:
    """Floating-point operations a step of the kernels that multiply; `rows` distinct inputs go to the first layer."""
    V, H, L, M = case.vocab_size, case.hidden_size, case.num_layers, case.tokens
    recurrent, inputs, head = (2.0 * n for n in (L * M * 4 * H * H, (rows + (L - 1) * M) * 4 * H * H, M * H * V))
    return {
        "_forward_lstm": recurrent, "_backward_lstm": recurrent, "_project_lstm": inputs, "_logits": head,
        "panels_product": inputs + head, "weight_gradient": recurrent + inputs + head,
    }  # fmt: skip


def traffic(case: Case, rows: int) -> dict[str, float]:
    """Bytes a step that the other kernels have to read and write, each number once."""
    V, H, L, M = case.vocab_size, case.hidden_size, case.num_layers, case.tokens
    weights, parameters = 2 * L * 4 * H * H, case.shape.num_parameters
    numbers = {
        "pack": 2 * weights,  # read and written, as all that follow
        "pack_rows": 2 * V * H,
        "pack_transposed": 2 * weights,
        "pack_inputs": 2 * (rows + L * M) * H,  # inputs of every layer and of the head
        "pack_previous": 2 * L * M * H,
        "_scatter": (M + rows) * 4 * H,
        "_softmax_gradient": 2 * M * V,
        "_squared_norm": parameters,
        "_adam": 7 * parameters,  # w, m, v, g read; w, m, v written
    }
    return {name: 4.0 * count for name, count in numbers.items()}


# ---------------------------------------------------------------- the profile


class Profile:
    """Adds up the seconds and calls of every kernel that is given to threads."""

    MODULES = elementwise, factors, head, optimizers, recurrent
    GATES = [(module, "parallel_for") for module in MODULES]  # where kernels are ...
    GATES += [(recurrent, "by_texts")]  # ... handed over

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def __enter__(self) -> Profile:
        self._before = [(module, name, getattr(module, name)) for module, name in self.GATES]
        for module, name, run in self._before:
            setattr(module, name, self._clocked(run))
        return self

    def __exit__(self, *error: object) -> None:
        for module, name, run in self._before:
            setattr(module, name, run)

    def _clocked(self, run: Callable[..., None]) -> Callable[..., None]:
        def clocked(threads: int, *args: Any, **options: Any) -> None:
            started = time.perf_counter()
            run(threads, *args, **options)
            kernel = next(filter(callable, args))
            self.seconds[kernel.__name__] += time.perf_counter() - started
            self.calls[kernel.__name__] += 1

        return clocked


def measure(name: str, case: Case, args: Any, with_torch: bool) -> dict[str, Any]:
    """The seconds of a step and of each kernel in it, a number a round, and the limits of the same rounds."""
    chunk = case.chunk()
    training = Training(case.shape, initial(case.shape, 0), case.batch_size, args.threads, args.precision)
    first = common.timed(lambda: training.step(chunk))
    profiles: list[tuple[float, Profile]] = []

    def profiled_step() -> None:
        with Profile() as profile:
            seconds = common.timed(lambda: training.step(chunk))
        profiles.append((seconds, profile))

    products = limits.product_contestants(args.threads, with_torch)
    copy, copied = limits.copy_contestant(case.tokens * 4 * case.hidden_size * 4, args.threads)
    contestants = {"step": profiled_step, "copy": copy, **{who: call for who, (call, _) in products.items()}}
    times = common.interleaved(contestants, args.repeat)
    profiles = profiles[len(profiles) // 3 :]  # the first ones estimate and warm up
    best = max(size / common.median(times[who]) for who, (_, size) in products.items())
    return {
        "model": name, "compile_seconds": first - common.median(times["step"]),
        "step_seconds": [seconds for seconds, _ in profiles], "best_gflops": best / 1e9,
        "copy_gigabytes_per_second": copied / common.median(times["copy"]) / 1e9,
        "kernels": kernels(case, profiles, len(np.unique(chunk.tokens)), best, copied / common.median(times["copy"])),
    }  # fmt: skip


def kernels(case: Case, profiles: list, rows: int, best: float, copy: float) -> list[dict[str, Any]]:
    """A row for each kernel, those that take longest first, and one for what is outside of them."""
    multiplied, moved = operations(case, rows), traffic(case, rows)
    found = []
    for name in profiles[0][1].seconds:
        seconds = common.median(profile.seconds[name] for _, profile in profiles)
        row = {"kernel": name, "calls": profiles[0][1].calls[name], "seconds": seconds, "rate": None, "share": None}
        work, limit = (multiplied, best) if name in multiplied else (moved, copy)
        if name in work:
            rate = work[name] / seconds
            row |= {"rate": rate / 1e9, "unit": "GFLOP/s" if work is multiplied else "GB/s", "share": rate / limit}
        found.append(row)
    outside = common.median(seconds - sum(profile.seconds.values()) for seconds, profile in profiles)
    found.sort(key=lambda row: -row["seconds"])
    return [*found, {"kernel": "outside of kernels", "calls": None, "seconds": outside, "rate": None, "share": None}]


def rendered(figures: dict[str, Any]) -> list[dict[str, str]]:
    """A model's figures as rows of the table."""
    step = common.median(figures["step_seconds"])
    rows = []
    for row in figures["kernels"]:
        cells = {"model": figures["model"], "kernel": row["kernel"].lstrip("_"), "ms": f"{row['seconds'] * 1e3:.2f}",
                 "of the step": f"{row['seconds'] / step:.1%}"}  # fmt: skip
        if row["calls"]:
            cells["calls"] = str(row["calls"])
        if row["rate"]:
            cells |= {"rate": f"{row['rate']:.0f} {row['unit']:7}", "of its limit": f"{row['share']:.0%}"}
        rows.append(cells)
    return rows


def main() -> None:
    parser = common.parser(__doc__, repeat=5, peers=["torch"])
    parser.add_argument(
        "--only", nargs="+", metavar="MODEL", default=["2x256", "2x512"], help=f"of: {', '.join(CASES)}"
    )
    parser.add_argument("--precision", choices=["single", "bfloat16"], default="single", help="of products")
    args = parser.parse_args()
    with_torch = "torch" in common.installed(args.peers)  # only for its matrix product
    all_figures = [measure(name, case, args, with_torch) for name, case in common.chosen(CASES, args.only).items()]
    rows = [row for figures in all_figures for row in rendered(figures)]
    notes = [
        f"{figures['model']}: a step takes {common.spread(figures['step_seconds'], 1e3)} ms; limits: "
        f"{figures['best_gflops']:.0f} GFLOP/s, {figures['copy_gigabytes_per_second']:.0f} GB/s; "
        f"compile {figures['compile_seconds']:.1f} s"
        for figures in all_figures
    ]
    common.report("where a training step's time goes", args, rows, notes, all_figures)


if __name__ == "__main__":
    main()
