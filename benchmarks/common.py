"""What the benchmarks share: the environment, fair timing, the machine's description, the table.

Import this before numpy, numba or torch: they read the environment when they are loaded. The package that is
measured is the one in this checkout, and its kernels are compiled into an empty cache that is thrown away at the
end (set NUMBA_CACHE_DIR to use another).
"""

from __future__ import annotations

import argparse
import atexit
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SETTLE = 0.3  # seconds of sleep before a turn: thread pools of the others (OpenMP, OpenBLAS) spin on for a while
TURN = 0.4  # seconds that a timed turn lasts at least
QUIET = 0.05  # share of the cores that other processes may use


def _cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _asked_threads(arguments: Sequence[str]) -> int:
    """--threads, before numpy is imported: its BLAS reads the environment once."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--threads", type=int, default=_cores())
    return max(1, parser.parse_known_args(arguments)[0].threads)


def _prepare() -> None:
    """Threads of every BLAS, an empty kernel cache, and this checkout in front of an installed package."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(_asked_threads(sys.argv[1:]))
    if "NUMBA_CACHE_DIR" not in os.environ:
        os.environ["NUMBA_CACHE_DIR"] = folder = tempfile.mkdtemp(prefix="nblstm-benchmark-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    sys.path.insert(0, str(ROOT))


_prepare()


# ---------------------------------------------------------------- command line

PEERS = {"torch": "torch", "onnx": "onnxruntime", "numpy": "numpy"}  # name on the command line -> package


def parser(description: str | None, repeat: int, peers: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The options that every benchmark has. repeat: 0 where it has no rounds. peers: those it can run beside us."""
    p = argparse.ArgumentParser(description=(description or "").split("\n")[0], allow_abbrev=False)
    p.add_argument("--threads", type=int, default=_cores(), help="of everyone (default: every core, %(default)s)")
    p.set_defaults(repeat=0)
    if repeat:
        p.add_argument("--repeat", type=int, default=repeat, metavar="N", help="rounds (default %(default)s)")
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")
    if peers:
        p.add_argument("--together", action="store_true", help="all in one process, rather than each in one of its own")
        p.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)  # what a contestant's process is started with
    if peers:
        p.add_argument(
            "--peers",
            nargs="*",
            choices=peers,
            default=list(peers),
            help="whom to measure beside us, of those installed (default: all); nothing is ever installed",
        )
    return p


def installed(peers: Iterable[str]) -> list[str]:
    """The peers whose package is installed; says on stderr which are not."""
    found = [peer for peer in peers if importlib.util.find_spec(PEERS[peer])]
    for peer in set(peers) - set(found):
        print(f"{PEERS[peer]} is not installed: left out", file=sys.stderr)
    return found


def chosen(models: Mapping[str, Any], only: Sequence[str] | None) -> dict[str, Any]:
    """The models named by --only, or all."""
    unknown = set(only or ()) - set(models)
    if unknown:
        sys.exit(f"--only knows {', '.join(models)}; not {', '.join(sorted(unknown))}")
    return {name: model for name, model in models.items() if not only or name in only}


# ---------------------------------------------------------------- timing


def interleaved(contestants: Mapping[str, Callable[[], Any]], repeat: int) -> dict[str, list[float]]:
    """Seconds per call, one number a round: every round gives each contestant one turn, A B, B A, A B ...

    A machine that slows down in the middle then slows both.
    """
    return _in_rounds({name: Turn(call).seconds for name, call in contestants.items()}, repeat)


def in_processes(contestants: Mapping[str, Sequence[str]], repeat: int) -> dict[str, list[float]]:
    """The same of contestants that have a process each, as their users have: one's threads do not disturb another's.

    contestants: name -> the arguments after --serve, with which this program makes its call and gives it to `serve`.
    """
    asked = [argument for argument in sys.argv[1:] if argument != "--json"]
    processes = {
        name: subprocess.Popen(
            [sys.executable, sys.argv[0], *asked, "--serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, arguments in contestants.items()
    }
    try:
        for process in processes.values():  # they are warm before the first turn
            _answer(process)
        return _in_rounds({name: lambda p=process: _asked(p) for name, process in processes.items()}, repeat)
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait()


def serve(call: Callable[[], Any], units: int = 1) -> None:
    """Be the process of a contestant: a line on standard input is a turn, answered with the seconds of a call's unit."""
    turn = Turn(call)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(turn.seconds() / units, flush=True)


def _asked(process: subprocess.Popen) -> float:
    process.stdin.write("turn\n")
    process.stdin.flush()
    return float(_answer(process))


def _answer(process: subprocess.Popen) -> str:
    line = process.stdout.readline()
    if not line:
        sys.exit("a contestant's process has ended early; what it said stands above")
    return line


def _in_rounds(turns: Mapping[str, Callable[[], float]], repeat: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(repeat):
        for name in list(turns)[:: 1 if number % 2 == 0 else -1]:
            times[name].append(turns[name]())
    return times


class Turn:
    """A turn: a pause, an untimed call that warms the caches and wakes the threads, as many timed calls as fill TURN."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.calls = max(1, round(TURN / max(min(timed(call) for _ in range(2)), 1e-9)))

    def seconds(self) -> float:
        """Seconds of a call."""
        time.sleep(SETTLE)
        self.call()
        started = time.perf_counter()
        for _ in range(self.calls):
            self.call()
        return (time.perf_counter() - started) / self.calls


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """of / to, round by round: neighbours in time, so that a drift of the machine cancels."""
    return [a / b for a, b in zip(of, to)]


def geometric_mean(values: Iterable[float]) -> float:
    """The mean of ratios."""
    return statistics.geometric_mean(values)


median = statistics.median


def spread(values: Sequence[float], scale: float = 1.0, digits: int = 1) -> str:
    """median (smallest-largest)"""
    low, high = min(values) * scale, max(values) * scale
    return f"{median(values) * scale:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


# ---------------------------------------------------------------- correctness before speed


def require_close(what: str, ours: Any, theirs: Any, tolerance: float) -> float:
    """The largest difference relative to the largest value; ends the program if it is above the tolerance."""
    import numpy as np

    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    error = float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))
    if not error <= tolerance:  # also where it is nan
        sys.exit(f"{what}: off by {error:.1e}, more than {tolerance:.0e}; nothing was timed")
    return error


# ---------------------------------------------------------------- memory


def peak_memory() -> int:
    """The most bytes this process has had resident.

    Linux's VmHWM, not getrusage: the latter starts, in a child, from the size of the parent that forked it.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# ---------------------------------------------------------------- the report


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    versions = {"Python": platform.python_version()}
    for name in ("numpy", "numba", "torch", "onnxruntime"):
        if importlib.util.find_spec(name):
            versions[name] = importlib.metadata.version(name)
    system = f"{platform.system()} {platform.machine()}"
    facts = {"cpu": _cpu_model(), "cores": _cores(), "system": system, "threads": threads, "versions": versions}
    return facts | {"used_by_others": disturbance()}


def _busy_seconds() -> tuple[float, float, float] | None:
    """(now, what all processes and the hypervisor have used of the cores, what this process and its children have)."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    user, nice, system, _, _, irq, softirq, steal = ticks
    used = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), used, sum(os.times()[:4])


_AT_START = _busy_seconds()


def disturbance() -> float | None:
    """The share of all cores that other processes have used since the start; None where that is not known.

    It matters: a step of many small parallel regions, such as PyTorch's, waits at each of them for the thread that
    was pushed aside, so a busy machine does not slow everyone alike.
    """
    now = _busy_seconds()
    if _AT_START is None or now is None:
        return None
    seconds, used, own = (after - before for after, before in zip(now, _AT_START))
    return max(0.0, used - own) / (seconds * (os.cpu_count() or 1))


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {name.strip(): value.strip() for name, value in values.items()}
    name = values.get("model name", platform.machine())
    flags = values.get("flags", values.get("Features", "")).split()
    vectors = [label for label, flag in (("AVX-512", "avx512f"), ("AVX2", "avx2"), ("NEON", "asimd")) if flag in flags]
    return f"{name}, {vectors[0]}" if vectors else name


def report(
    title: str,
    args: argparse.Namespace,
    rows: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
    figures: Any = None,
) -> None:
    """Print the rows (column -> text) as a table below the machine, or with --json `figures` (default: the rows)."""
    facts = machine(args.threads)
    if args.json:
        print(json.dumps({"benchmark": title, "machine": facts, "rows": figures or rows, "notes": notes}, indent=2))
        return
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    print(f"{title}\n{facts['cpu']}, {facts['cores']} cores, {facts['system']}; {facts['threads']} threads each")
    print(versions + (f"; median (min-max) of {args.repeat} interleaved rounds" if args.repeat else ""))
    others = facts["used_by_others"]
    quiet = "" if others is None or others < QUIET else ": NOT a quiet machine, do not trust these figures"
    print("" if others is None else f"other processes used {others:.0%} of the cores meanwhile{quiet}\n")
    table(rows)
    if notes:
        print("", *notes, sep="\n")


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows, one a line; the first column to the left, all others to the right. Columns may differ by row."""
    heads = list(dict.fromkeys(head for row in rows for head in row))
    cells = [heads] + [[str(row.get(head, "-")) for head in heads] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for line in cells:
        print("  ".join(f"{cell:{'<' if k == 0 else '>'}{width}}" for k, (cell, width) in enumerate(zip(line, widths))))
