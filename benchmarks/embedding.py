"""What a token costs outside of nblstm: every export of one model, beside nblstm and ONNX Runtime, in one run.

    python benchmarks/embedding.py model.safetensors held-out.txt

us: microseconds a token, feeding, logits and drawing, the best of many short runs, which others disturb less. bytes: of
the file, of C the constants. loss: nats per token of the rounded weights on the text. Rows whose tool is
not installed are left out. --only c nblstm leaves the others out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common  # first: it sets the environment that the others read  # isort: skip

import numpy as np

import nblstm

CONTESTANTS = ("c", "nblstm", "files", "onnx")
NODE = r"""
const page = require("fs").readFileSync(process.argv[2], "utf8");
const data = JSON.parse(page.match(/<script type="application\/json" id="model">([^]*?)<\/script>/)[1]);
const { Model, Random } = new Function(page.match(/<script>([^]*?)<\/script>/)[1] + "; return { Model, Random };")();
const model = new Model(data), state = model.start(), random = new Random("1");
let token = model.config.start, best = Infinity;
for (let run = 0; run < 60; run++) {
  const begin = process.hrtime.bigint();
  for (let k = 0; k < 100; k++) { model.feed(state, token); token = model.draw(model.logits(state), 1, random); }
  best = Math.min(best, Number(process.hrtime.bigint() - begin) / 100e3);
}
console.log(best);
"""
C = r"""
#define _POSIX_C_SOURCE 199309L
#define NBLSTM_IMPLEMENTATION
#include "model.h"
#include <stdio.h>
#include <time.h>
int main(void) {
    nblstm_state state; nblstm_random random; float logits[NBLSTM_VOCAB]; struct timespec a, b; double best = 1e9, us;
    int run, k, token = NBLSTM_START;
    nblstm_init(&state); nblstm_seed(&random, 1);
    for (run = 0; run < 2000; run++) {
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (k = 0; k < 20; k++) {
            nblstm_feed(&state, token); nblstm_logits(&state, logits);
            token = nblstm_sample(logits, 1.0, 0, 1.0, &random);
        }
        clock_gettime(CLOCK_MONOTONIC, &b);
        us = ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / 20e3;
        best = us < best ? us : best;
    }
    printf("%f\n", best);
    return 0;
}
"""
SCRIPT = """
import sys, time
if sys.argv[2] == "pure": sys.modules["numpy"] = None
sys.path.insert(0, sys.argv[1])
from model import Model, Random, draw
model, source, best = Model(), Random(1), 1e9
state, token = model.start(), 1
for run in range(50):
    begin = time.perf_counter()
    for k in range(10):
        logits, state = model.feed(state, token)
        token = draw(logits, 1.0, 0, 1.0, source)
    best = min(best, (time.perf_counter() - begin) * 1e5)
print(best)
"""


def output(*command: object) -> float:
    """The number that a command prints."""
    return float(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout)


def best_of(runs: int, tokens: int, call) -> float:
    """Microseconds a token of the fastest call."""
    found = []
    for _ in range(runs):
        begin = time.perf_counter()
        call()
        found.append((time.perf_counter() - begin) * 1e6 / tokens)
    return min(found)


def c_rows(model, text: str, folder: Path):
    """Every kind of weights, with this machine's vectors and with the compiler's usual ones."""
    compiler = next(filter(shutil.which, ("gcc", "clang", "cc")), None)
    for weights in ("float32", "bfloat16", "int8", "int4") if compiler else ():
        made = nblstm.export(model, folder / "model.h", weights=weights)
        (folder / "main.c").write_text(C)
        loss = made.model.score(text).loss
        for flags in (["-O3", "-march=native"], ["-O2"]):
            subprocess.run([compiler, *flags, "-o", folder / "main", folder / "main.c"], check=True)
            yield f"C, {weights}, {' '.join(flags)}", output(folder / "main"), made.weight_bytes, loss


def nblstm_rows(model, text: str, size: int):
    """nblstm itself."""
    loss = model.score(text).loss
    for backend in ("numpy", "cpu") if importlib.util.find_spec("numba") else ("numpy",):
        write = lambda: "".join(model.generate(n=100, seed=1, backend=backend))
        write()
        yield f"nblstm, {backend}", best_of(200, 100, write), size, loss


def file_rows(model, text: str, folder: Path):
    """The Python file and the page."""
    for weights in ("float32", "int8"):
        made = nblstm.export(model, folder / "model.py", weights=weights)
        loss = made.model.score(text).loss
        for kind in ("NumPy", "pure"):
            yield f"py, {weights}, {kind}", output(sys.executable, "-c", SCRIPT, folder, kind), made.file_bytes, loss
    if shutil.which("node"):
        (folder / "run.js").write_text(NODE)
        for weights in ("float32", "int8"):
            made = nblstm.export(model, folder / "model.html", weights=weights)
            us = output("node", folder / "run.js", folder / "model.html")
            yield f"html in node, {weights}", us, made.file_bytes, made.model.score(text).loss


def onnx_rows(model, text: str, folder: Path):
    """ONNX Runtime, a step a token on one thread, drawn by NumPy; as it is, and quantised by its own tool."""
    try:
        import onnxruntime
    except ImportError:
        return
    made = nblstm.export(model, folder / "model.onnx")
    files = {"float32": folder / "model.onnx"}
    try:
        from onnxruntime.quantization import quantize_dynamic

        files["int8"] = folder / "quantised.onnx"
        quantize_dynamic(files["float32"], files["int8"])
    except Exception as error:
        files.pop("int8", None)
        print(f"(ONNX Runtime int8: {type(error).__name__})", file=sys.stderr)
    for weights, file in files.items():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session, random = onnxruntime.InferenceSession(str(file), options), np.random.default_rng(1)
        shape = (model.config.num_layers, 1, model.config.hidden_size)
        names = [given.name for given in session.get_inputs()[1:]]

        def write(session=session, names=names, random=random, shape=shape) -> None:
            states, token = [np.zeros(shape, np.float32) for _ in names], 1
            for _ in range(100):
                logits, *states = session.run(None, {"tokens": np.array([[token]]), **dict(zip(names, states))})
                weight = np.exp(logits[0, 0] - logits.max())
                token = int(np.searchsorted(weight.cumsum(), random.random() * weight.sum()))
                token = min(token, len(weight) - 1)

        loss = made.model.score(text).loss if weights == "float32" else float("nan")
        yield f"ONNX Runtime, {weights}", best_of(60, 100, write), file.stat().st_size, loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument(
        "--only", nargs="+", metavar="WHAT", default=CONTESTANTS, choices=CONTESTANTS, help="%(choices)s"
    )
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    model, text = nblstm.load(asked.model), Path(asked.text).read_text(encoding="utf-8")
    print(", ".join(f"{name} {value}" for name, value in common.machine(1).items()))
    print(f"{model.config.description}, {len(model.vocabulary):,} tokens, {model.config.num_parameters:,} parameters\n")
    rows = []
    print(f"{'':<34}{'us/token':>10}{'bytes':>12}{'loss':>10}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contestants = {
            "c": c_rows(model, text, folder),
            "nblstm": nblstm_rows(model, text, Path(asked.model).stat().st_size),
            "files": file_rows(model, text, folder),
            "onnx": onnx_rows(model, text, folder),
        }
        for each in asked.only:
            for what, us, size, loss in contestants[each]:
                rows.append({"what": what, "us": us, "bytes": size, "loss": loss})
                print(f"{what:<34}{us:>10.1f}{size:>12,}{loss:>10.4f}", flush=True)
    if asked.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
