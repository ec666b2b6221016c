"""What makes a model smaller and faster, and what that costs: size, time of a token and loss, in one table.

    python benchmarks/smaller.py tinyshakespeare.txt [--hidden-size 512] [--epochs 10] [--prune-epochs 10] [--precision bfloat16]
    python benchmarks/smaller.py tinyshakespeare.txt --model model.safetensors [--folder FOLDER]

Trains a model on the text, or takes one that was trained on it; rounds it, prunes it, and lets it teach one with half of the
units, a quarter of the weights, beside one of that size that learns from the text alone. loss: nats per token of the
last tenth of the text, which none of them has learned from. bytes: of the file, of C the constants; packed: as gzip makes
it, which zeros are nothing to. us: microseconds a token of one text, drawn by the compiled kernels with every core, or by
gcc -O3 -march=native on one; the best of many short runs, which others disturb less. --folder keeps the models, and takes
those that it holds: a run for them, another for a quiet machine's times.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import common  # first: it sets the environment that the others read  # isort: skip

from embedding import C, best_of, output

import nblstm

DRAWN = 300  # tokens of a timed run
ROUNDS = 30
VALID = 0.1  # of the text


class Row(NamedTuple):
    """A line of the table."""

    what: str
    bytes: int
    packed: int
    us: float
    loss: float


def our_row(what: str, path: Path, text: str) -> Row:
    """A model file, as nblstm writes with it."""
    model = nblstm.load(path)
    write: Callable[[], Any] = lambda: "".join(model.generate(n=DRAWN, seed=1, backend="cpu"))
    write()
    content = path.read_bytes()
    return Row(
        what, len(content), len(gzip.compress(content, 6)), best_of(ROUNDS, DRAWN, write), model.score(text).loss
    )


def c_rows(what: str, path: Path, text: str, folder: Path, kinds: tuple[str, ...]) -> Iterator[Row]:
    """A model file as C, with each kind of weights."""
    compiler = next(filter(shutil.which, ("gcc", "clang", "cc")), None)
    for weights in kinds if compiler else ():
        made = nblstm.export(nblstm.load(path), folder / "model.h", weights=weights)
        (folder / "main.c").write_text(C)
        command = [compiler, "-O3", "-march=native", "-o", folder / "main", folder / "main.c"]
        subprocess.run(list(map(str, command)), check=True)
        size, loss = made.weight_bytes, made.model.score(text).loss
        yield Row(f"{what}, C, {weights}", size, 0, output(folder / "main"), loss)


def made(folder: Path, name: str, make: Callable[[Path], Any]) -> Path:
    """The path of a model in the folder, which is made unless it is there: make(path) under another name first."""
    path, unfinished = folder / f"{name}.safetensors", folder / f"{name}-unfinished.safetensors"
    if not path.exists():
        print(f"training {name}", file=sys.stderr)
        make(unfinished)
        unfinished.replace(path)
    return path


def trained(asked: Any, folder: Path, name: str, epochs: float, **settings: Any) -> Path:
    """Train a model on the text; the path of its file."""
    settings |= {"precision": asked.precision, "threads": asked.threads, "valid_fraction": VALID, "overwrite": True}
    return made(folder, name, lambda path: nblstm.train(asked.text, path, epochs=epochs, **settings))


def pruned(asked: Any, folder: Path, base: Path, percent: int) -> Path:
    """Prune the model `base`; the path of what is left."""
    settings = {"precision": asked.precision, "threads": asked.threads, "valid_fraction": VALID, "overwrite": True}
    settings |= {"epochs": asked.prune_epochs, "teacher": base if asked.teach else None}
    make = lambda path: nblstm.prune(base, asked.text, path, sparsity=percent / 100, **settings)
    return made(folder, f"pruned{percent}", make)


def rows(asked: Any, folder: Path, text: str) -> Iterator[Row]:
    """Every line, as soon as it is known."""
    size = {"hidden_size": asked.hidden_size}
    base = Path(asked.model) if asked.model else trained(asked, folder, "base", asked.epochs, **size)
    ours = lambda what, path: our_row(what, path, text)
    yield ours("float32", base)
    nblstm.load(base).quantize().save(folder / "int8.safetensors")
    yield ours("int8", folder / "int8.safetensors")
    yield from c_rows("float32", base, text, folder, ("float32", "bfloat16", "int8", "int4"))
    for percent in asked.sparsities:
        path = pruned(asked, folder, base, percent)
        yield ours(f"pruned {percent} %", path)
        yield from c_rows(f"pruned {percent} %", path, text, folder, ("float32",))
    config = nblstm.load(base).config
    half = {
        "hidden_size": config.hidden_size // 2,
        "num_layers": config.num_layers,
        "cell": config.cell,
        "dropout": 0.0,
    }
    yield ours("a quarter, alone", trained(asked, folder, "alone", asked.epochs, **half))
    yield ours("a quarter, distilled", trained(asked, folder, "distilled", asked.epochs, teacher=base, **half))


def main() -> None:
    """Print the table."""
    parser = common.parser(__doc__, 0)
    parser.add_argument("text", help="a text to learn and to be measured on")
    parser.add_argument("--model", help="a model that was trained on the text but for its last tenth")
    parser.add_argument("--hidden-size", type=int, default=512, help="else of the one that is trained")
    parser.add_argument("--epochs", type=float, default=10, help="of training (default %(default)s)")
    parser.add_argument("--prune-epochs", type=int, default=10, help="of pruning (default %(default)s)")
    parser.add_argument("--teach", action="store_true", help="what is pruned learns from the model, too")
    parser.add_argument("--folder", help="for the models; those that it holds are not trained again")
    parser.add_argument("--precision", default="single", help="of training: single, bfloat16 (default %(default)s)")
    parser.add_argument("--sparsities", type=int, nargs="*", default=[50, 80, 90], help="in percent")
    asked = parser.parse_args()
    asked.epochs = max(1, round(asked.epochs))
    whole = Path(asked.text).read_text(encoding="utf-8")
    text, found = whole[-int(VALID * len(whole)) :], []
    print(", ".join(f"{name} {value}" for name, value in common.machine(asked.threads).items()))
    print(f"\n{'':<26}{'bytes':>12}{'packed':>12}{'us':>10}{'loss':>10}{'change':>10}")
    with tempfile.TemporaryDirectory() as name:
        for row in rows(asked, Path(asked.folder or name), text):
            found.append(row)
            packed = f"{row.packed:,}" if row.packed else ""
            change = f"{row.loss - found[0].loss:+.4f}"
            print(f"{row.what:<26}{row.bytes:>12,}{packed:>12}{row.us:>10.1f}{row.loss:>10.4f}{change:>10}", flush=True)
    if asked.json:
        print(json.dumps([row._asdict() for row in found]))


if __name__ == "__main__":
    main()
