"""What the stress scripts share: a text, commands as processes of their own that save often, what they leave."""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import nblstm
from nblstm.files.model_file import load_checkpoint

VERSE = "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n"
# The command, but for the time between two saves; interrupts are caught as early as by the command itself.
OFTEN = """
import signal, sys
import nblstm.__main__ as command
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, command._leave)
import nblstm.tasks.session as session
session.SAVE_SECONDS = float(sys.argv.pop(1))
command.main()
"""


def arguments(text, count):
    """The options of a stress script: its seed, and how often it tries."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=count)
    return parser.parse_args()


def write_corpus(folder, lines=400):
    """A text of so many lines, some of them short."""
    path = Path(folder) / "corpus.txt"
    path.write_text("".join(f"{VERSE}{'la ' * (line % 7)}\n" for line in range(lines)), encoding="utf-8")
    return path


def start(folder, *args, save_seconds=None, **variables):
    """`nblstm *args` in a folder, as a process of its own; with save_seconds it saves so often."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where this script is run in the background
    how = ["-m", "nblstm"] if save_seconds is None else ["-c", OFTEN, str(save_seconds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(
        [sys.executable, *how, *map(str, args)], cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def remains(folder, lock=True):
    """Temporary files in a folder, and the lock's."""
    return [path.name for path in Path(folder).iterdir() if path.name.endswith((".tmp", *[".lock"] * lock))]


def digest(path):
    """A digest of all that a checkpoint says, the clock and the limits apart."""
    tensors, facts = load_checkpoint(path)
    trainer = {**facts["trainer"], "seconds": 0}
    found = hashlib.sha256(json.dumps(trainer, sort_keys=True).encode())
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].tobytes())
    return found.hexdigest()[:16]


def check_model(folder):
    """What is wrong with the model and the checkpoint in a folder, if anything; none at all is fine."""
    try:
        if (Path(folder) / "model.safetensors").exists():
            "".join(nblstm.load(Path(folder) / "model.safetensors").generate(n=5, seed=0, backend="numpy"))
        if (Path(folder) / "model.checkpoint.safetensors").exists():
            load_checkpoint(Path(folder) / "model.checkpoint.safetensors")
    except nblstm.NblstmError as error:
        return str(error)
    return None
