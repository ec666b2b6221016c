"""Scoring (forward pass and the loss of every token) in float32 and with int8 weights, beside PyTorch's in float32.

    python benchmarks/score.py [--threads 2] [--only 2x256 2x512] [--repeat 5] [--json]

All have the same weights, rounded to int8, and read the same tokens. Three jobs: one stream whose state is carried, a
text cut into parallel streams, and lines of 1 to 79 characters, side by side. The lines are scored as `nblstm score`
does it, from text to nats. PyTorch gets the same lines as tensors, sorted by length and padded in batches of the same
sizes: its tokenizer costs nothing. PyTorch runs in inference mode.

What limits the work is timed in the same rounds. A stream waits for its weights: the share is that of the fastest that
these threads read an array of a layer's recurrent weights from the caches. Side by side the products are the limit:
the share is that of the best product, ours or PyTorch's, in operations a second. Both are of our work in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import common  # first: it sets the environment that the others read  # isort: skip

import limits
import numpy as np

from nblstm import scoring
from nblstm.nn.int8 import round_parameters
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Chunk
from nblstm.text.vocabulary import Vocabulary

V, TOKENS = 65, 8192
MODELS = {"2x128": (2, 128), "2x256": (2, 256), "2x512": (2, 512), "1x1024": (1, 1024)}
OURS: dict[str, tuple[dict[str, Any], float]] = {  # name -> (options of Network, how far the sum of losses may be off)
    "nblstm": ({}, 1e-6),
    "nblstm int8": ({"int8": True}, 1e-6),
    "nblstm bfloat16": ({"precision": "bfloat16"}, 1e-4),
}
JOBS = {"1 stream": 1, "16 streams": 16, "64 streams": 64, "lines": 0}


def shape_of(name: str) -> LanguageConfig:
    num_layers, hidden_size = MODELS[name]
    return LanguageConfig(V, hidden_size=hidden_size, num_layers=num_layers, dropout=0.0)


# ---------------------------------------------------------------- the jobs: calls that return all losses


def streams(network: Network, ids: np.ndarray) -> Callable[[], np.ndarray]:
    """Ours, of ids (T + 1, N) in chunks as `nblstm.scoring` takes them."""

    def call() -> np.ndarray:
        state, found = network.initial_state(ids.shape[1]), []
        rows = scoring.rows_at_once(network.config) // ids.shape[1]
        for start in range(0, len(ids) - 1, rows):
            part = ids[start : start + rows + 1]
            losses, state = network.losses(Chunk.rectangle(part[:-1], part[1:], fresh=False), state)
            found.append(losses)
        return np.concatenate(found)

    return call


def torch_streams(model: Any, ids: np.ndarray) -> Callable[[], np.ndarray]:
    """PyTorch's, in the same chunks."""
    import torch

    tokens, rows = torch.from_numpy(ids).long(), scoring.rows_at_once(model.config) // ids.shape[1]

    def call() -> np.ndarray:
        state, found = None, []
        with torch.inference_mode():
            for start in range(0, len(tokens) - 1, rows):
                part = tokens[start : start + rows + 1]
                logits, state = model(part[:-1], state)
                found.append(
                    torch.nn.functional.cross_entropy(logits.flatten(0, 1), part[1:].flatten(), reduction="none")
                )
        return torch.cat(found).numpy()

    return call


def lines_of(characters: int) -> list[str]:
    """Random lines of 1 to 79 of 64 characters."""
    random, lines = np.random.default_rng(2), []
    while characters > 0:
        lines.append("".join(map(chr, random.integers(48, 112, random.integers(1, 80)))))
        characters -= len(lines[-1])
    return lines


def judged_lines(network: Network, vocabulary: Vocabulary, lines: list[str]) -> Callable[[], np.ndarray]:
    """Ours, from text."""
    return lambda: np.concatenate([found.nats for found in scoring.judge(network, vocabulary, lines)])


def torch_lines(model: Any, vocabulary: Vocabulary, lines: list[str]) -> Callable[[], np.ndarray]:
    """PyTorch's, from tensors: sorted by length, padded, batches as large as ours."""
    import torch

    start, ids = vocabulary.start_id, [vocabulary.encode(line).astype(np.int64) for line in lines]
    order = sorted(range(len(ids)), key=lambda k: -len(ids[k]))
    batches = []
    while order:
        size = scoring.batch_size(model.config, len(ids[order[0]]))
        batch, order = [torch.from_numpy(ids[k]) for k in order[:size]], order[size:]
        targets = torch.nn.utils.rnn.pad_sequence(batch, padding_value=-100)
        tokens = torch.cat([torch.full((1, len(batch)), start), targets[:-1].clamp(min=0)])
        batches.append((tokens, targets.flatten()))

    def call() -> np.ndarray:
        found = []
        with torch.inference_mode():
            for tokens, targets in batches:
                logits, _ = model(tokens, None)
                losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, reduction="none")
                found.append(losses[targets >= 0])
        return torch.cat(found).numpy()

    return call


# ---------------------------------------------------------------- one row


class Task:
    """What a job is of: a model, and the text it reads."""

    def __init__(self, name: str, job: str, threads: int) -> None:
        self.shape, self.N, self.threads = shape_of(name), JOBS[job], threads
        self.parameters = round_parameters(self.shape, initial(self.shape, 0))
        self.lines = lines_of(TOKENS)
        self.vocabulary = Vocabulary.build([chr(code) for code in range(48, 112)], "char")
        size = TOKENS // max(self.N, 1) + 1, max(self.N, 1)
        self.ids = np.random.default_rng(1).integers(0, V, size, np.int32)

    def call(self, who: str) -> Callable[[], Any]:
        """What a contestant does, ready to be called."""
        if who in OURS:
            return self._ours(**OURS[who][0])
        return self._torch() if who == "torch" else self.limits("torch" in who)[who][0]

    def _ours(self, **options: Any) -> Callable[[], np.ndarray]:
        network = Network(self.shape, self.parameters, "cpu", self.threads, constant=True, **options)
        return streams(network, self.ids) if self.N else judged_lines(network, self.vocabulary, self.lines)

    def _torch(self) -> Callable[[], np.ndarray]:
        import torch
        from torch_peer import TorchModel

        torch.set_num_threads(self.threads)
        model = TorchModel(self.shape, self.parameters).eval()
        return torch_streams(model, self.ids) if self.N else torch_lines(model, self.vocabulary, self.lines)

    def limits(self, with_torch: bool) -> dict[str, tuple[Callable[[], Any], float]]:
        """Name -> (a call, its work) of what the limit of the job is measured with."""
        if self.N == 1:
            size = 4 * self.shape.hidden_size**2 * np.dtype(self.shape.dtype).itemsize
            return {"read": limits.read_contestant(size, self.threads)}
        return limits.product_contestants(self.threads, with_torch)


def measure(name: str, job: str, args, with_torch: bool) -> dict[str, Any]:
    """Check a job, then time it: seconds a round of every contestant, and what they mean."""
    task, ours = Task(name, job, args.threads), [who for who in OURS if args.bfloat16 or "bfloat16" not in who]
    calls, error = {who: task.call(who) for who in ours}, None
    tokens = calls["nblstm"]().size
    if with_torch:
        calls["torch"] = task.call("torch")
        sums, what = {who: call().sum(dtype=np.float64) for who, call in calls.items()}, "sum of the losses"
        errors = (
            common.require_close(f"{name}, {job}: {what}", sums[who], sums["torch"], OURS[who][1]) for who in ours
        )
        error = max(errors)
    best = task.limits(with_torch)
    if args.together:
        times = common.interleaved({**calls, **{key: call for key, (call, _) in best.items()}}, args.repeat)
    else:
        times = common.in_processes({key: [name, job, key] for key in [*calls, *best]}, args.repeat)
    fastest = [max(best[key][1] / times[key][turn] for key in best) for turn in range(args.repeat)]
    unit, work = work_of(task, tokens)
    return {
        "model": name, "job": job, "seconds": times, "error": error,
        "ratios": {who: common.ratios(times["torch"], times[who]) for who in ours if with_torch},
        "tokens_per_second": {key: tokens / common.median(times[key]) for key in calls},
        "limit": unit, "share": common.median(work / t / b for t, b in zip(times["nblstm"], fastest)),
    }  # fmt: skip


def work_of(task: Task, tokens: int) -> tuple[str, float]:
    """(the name of the job's limit, how much of it the job takes)."""
    if task.N == 1:
        size = 4 * task.shape.hidden_size**2 * np.dtype(task.shape.dtype).itemsize
        return "reading weights", float(size * task.shape.num_layers * tokens)
    return "products", limits.training_operations(task.shape, tokens, min(tokens, V)) / 3  # the forward pass


def rendered(row: dict[str, Any]) -> dict[str, str]:
    """A row of figures as a row of the table."""
    cells = {"model": row["model"], "job": row["job"]}
    cells |= {f"{key} tokens/s": f"{value:,.0f}" for key, value in row["tokens_per_second"].items()}
    cells |= {f"torch / {who}": common.spread(ratios, digits=2) for who, ratios in row["ratios"].items()}
    error = "not checked" if row["error"] is None else f"{row['error']:.0e}"
    return cells | {"limit": row["limit"], "share of it": f"{row['share']:.0%}", "error": error}


def main() -> None:
    parser = common.parser(__doc__, repeat=5, peers=["torch"])
    parser.add_argument("--only", nargs="+", metavar="MODEL", help=f"of: {', '.join(MODELS)}")
    parser.add_argument("--bfloat16", action="store_true", help="measure products of bfloat16 numbers, too")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), help="default: all")
    args = parser.parse_args()
    if args.serve:
        name, job, who = args.serve
        return common.serve(Task(name, job, args.threads).call(who))
    with_torch = "torch" in common.installed(args.peers)
    names = common.chosen(MODELS, args.only)
    rows = [measure(name, job, args, with_torch) for name in names for job in args.jobs]
    notes = []
    if with_torch:
        for who in rows[0]["ratios"]:
            mean = common.geometric_mean(common.median(row["ratios"][who]) for row in rows)
            notes.append(f"geometric mean of torch / {who}: {mean:.2f}")
    common.report(f"scoring, PyTorch in float32, vocabulary {V}", args, [rendered(row) for row in rows], notes, rows)


if __name__ == "__main__":
    main()
