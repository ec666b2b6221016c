"""Run the suite with its kernels compiled in other ways: `python tests/stress/modes.py [MODE...] [--files GLOB] [--jobs N]`.

    bounds    every index of a kernel checked (NUMBA_BOUNDSCHECK=1), those of products too, which are plain loops for that
    generic   for a processor with nothing but what every x86-64 has (NUMBA_CPU_NAME=generic)
    pairs     for a processor without AVX-512 VNNI, which multiplies int8 weights in pairs (for --files "test_int8.py")
    plain     kernels as Python (NUMBA_DISABLE_JIT=1)

All modes and files by default; file by file, N at once, each in a process of its own and with a cache of its own per mode,
so that one which hangs or crashes does not hide the others. Prints a line a file; ends with 1 if any has failed. What
says nothing as plain Python is run in that mode as ever: GPU kernels in the simulator, code that makes code.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llvmlite.binding import get_host_cpu_features

ROOT = Path(__file__).parents[2]
MODES = {
    "bounds": {"NUMBA_BOUNDSCHECK": "1", "NUMBA_OPT": "1", "NBLSTM_TILES": "off"},
    "generic": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    "pairs": {"NUMBA_CPU_FEATURES": get_host_cpu_features().flatten().replace("+avx512vnni", "-avx512vnni")},
    "plain": {"NUMBA_DISABLE_JIT": "1", "NBLSTM_TEST_SECONDS": "1800"},
}
COMPILED = {  # not as Python, in the plain mode
    "test_cuda.py": {"NUMBA_ENABLE_CUDASIM": "1"}, "test_cuda_ptx.py": {}, "test_kernel_cache.py": {}, "test_vectors.py": {},
}  # fmt: skip
SECONDS = 3600  # of a file


def run(mode, path, cache):
    """Run a file of tests in a mode: whether it passes, and the last line it prints."""
    args = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
    kind = COMPILED.get(path.name, MODES[mode]) if mode == "plain" else MODES[mode]
    variables = {**os.environ, **kind, "NUMBA_CACHE_DIR": cache}
    try:
        done = subprocess.run(
            [sys.executable, *args], cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"not done after {SECONDS} s"
    if done.returncode:
        print(done.stdout)
    return done.returncode in (0, 5), (done.stdout.strip().splitlines() or ["nothing"])[-1]  # 5: all are left out


def main():
    """Run the modes named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("modes", nargs="*", default=[], metavar="MODE", help=", ".join(MODES))
    parser.add_argument("--files", default="test_*.py", help="which files of tests/")
    parser.add_argument("--jobs", type=int, default=1, help="files at once")
    asked, failed = parser.parse_args(), []
    for mode in asked.modes or MODES:
        with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(asked.jobs) as pool:
            paths = sorted((ROOT / "tests").glob(asked.files))
            for path, (passes, line) in zip(paths, pool.map(lambda path: run(mode, path, cache), paths)):
                failed += [] if passes else [f"{mode} {path.name}"]
                print(f"{mode:8} {path.name:28} {line}", flush=True)
    print("failed:", ", ".join(failed) or "none")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
