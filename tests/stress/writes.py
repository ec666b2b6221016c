"""A disk that is full, at many sizes: python tests/stress/writes.py --count 20 (Linux, needs unshare and mount)

A model is trained over an old one on a tmpfs of each size. Whatever the size, model and checkpoint are each the old
file or a whole new one, no temporary file is left, and the exit code is 0 only if all is saved; else a path is named.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = 4096
TEXT = "Shall I compare thee to a summer's day?\n" * 40
TRAIN = [
    "train",
    "corpus.txt",
    "--num-layers",
    "1",
    "--batch-size",
    "4",
    "--bptt",
    "8",
    "--steps",
    "4",
    "--threads",
    "1",
]
MODEL, CHECKPOINT = "model.safetensors", "model.checkpoint.safetensors"


def nblstm(folder, *args):
    """Run a command in the folder: (exit code, what it says on stderr)."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "nblstm", *args],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stderr


def whole(path):
    """Whether the file can be read, its digest included."""
    code = "import sys; from nblstm.files.model_file import *; from nblstm.files import safetensors, digest; p = sys.argv[1]; "
    code += "digest.without_digest(*safetensors.read(p), p)"
    return (
        subprocess.run([sys.executable, "-c", code, path], env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
    )


def trial(disk, old, pages):
    """What is wrong with training over the old files on a disk of so many pages; None: nothing."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={pages * PAGE}", "tmpfs", disk], check=True)
    try:
        for name, content in old.items():
            (disk / name).write_bytes(content)
        code, said = nblstm(disk, *TRAIN, "--hidden-size", "24", "--overwrite")
        files = {path.name: path.read_bytes() for path in disk.iterdir()}
        kept = [name for name in (MODEL, CHECKPOINT) if files.get(name) == old[name]]
        print(
            f"{pages * PAGE:>8,} bytes: code {code}, {len(kept)} of 2 old; {said.splitlines()[-1][:90] if said else ''}"
        )
        if any(name not in kept and not whole(disk / name) for name in (MODEL, CHECKPOINT)):
            return "a file is damaged"
        if [name for name in files if name.endswith(".tmp")]:
            return "a temporary file is left"
        if code == 0 and kept:
            return "code 0, but not all is saved"
        if code != 0 and (
            code not in (1, 2) or "Error: " not in said or str(disk.name) not in said and ".safetensors" not in said
        ):
            return f"code {code}, and no path is named"
        return None
    finally:
        subprocess.run(["umount", disk], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    asked = parser.parse_args()
    if "IN_NAMESPACE" not in os.environ:
        os.environ["IN_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory() as name:
        folder, disk = Path(name, "old"), Path(name, "disk")
        folder.mkdir(), disk.mkdir()
        (folder / "corpus.txt").write_text(TEXT)
        assert nblstm(folder, *TRAIN, "--hidden-size", "8")[0] == 0
        old = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert nblstm(folder, *TRAIN, "--hidden-size", "24", "--overwrite")[0] == 0
        first = sum(-(-len(content) // PAGE) for content in old.values())
        last = first + 2 * sum(-(-path.stat().st_size // PAGE) for path in folder.iterdir()) + 2  # an old and a new one
        sizes = sorted({first + round(k * (last - first) / max(1, asked.count - 1)) for k in range(asked.count)})
        wrong = [(pages, found) for pages in sizes if (found := trial(disk, old, pages))]
    for pages, found in wrong:
        print(f"{pages * PAGE:,} bytes: {found}")
    print(f"{len(sizes)} sizes: {len(wrong)} went wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
