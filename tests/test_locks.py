"""Two runs into one output: the second is told who is there; locks vanish with their process, and so do remains."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import SMALL, VERSE, environment

import nblstm
from nblstm.errors import ModelFileError, TrainingError
from nblstm.files import lock as lock_module
from nblstm.files.atomic import replacing, sweep
from nblstm.files.lock import Lock
from nblstm.tasks.session import Session

TINY = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "bptt": 8, "threads": 1}
HELD = "import sys, os; from nblstm.files.lock import Lock; lock = Lock('model.safetensors'); print(os.getpid(), flush=True)"
locks = pytest.mark.skipif(lock_module.fcntl is lock_module.msvcrt is None, reason="this system has no locks")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with nothing but corpus.txt in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text(VERSE * 20, encoding="utf-8")
    return tmp_path


@pytest.fixture
def holder(here):
    """A process that holds the lock of model.safetensors until its input is closed, or it is killed."""
    args = [sys.executable, "-c", f"{HELD}; sys.stdin.read()"]
    process = subprocess.Popen(args, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == f"{process.pid}\n"
    yield process
    process.kill()
    process.communicate()


def content():
    return {name: Path(name).read_bytes() for name in os.listdir()}


@locks
def test_the_second_is_told_who_holds_it(holder):
    """The process and since when; a lock of the same process is no exception."""
    told = rf"^model.safetensors is being written by a training run \(process {holder.pid}, since \d{{4}}-\d\d-\d\d [\d:]+\);"
    with pytest.raises(TrainingError, match=told):
        Lock("model.safetensors")
    with pytest.raises(TrainingError, match=f"process {holder.pid},"):
        Lock(os.path.abspath("model.safetensors"))
    own = Lock("other.safetensors")
    with pytest.raises(TrainingError, match=f"process {os.getpid()},"):
        Lock("other.safetensors")
    own.release()
    own.release()
    Lock("other.safetensors").release()
    assert sorted(os.listdir()) == [".model.lock", "corpus.txt"]


@locks
def test_a_lock_vanishes_with_its_process(holder):
    """However it ends: after SIGKILL the file is still there, and locks nobody out."""
    holder.kill()
    holder.wait()
    assert os.path.exists(".model.lock")
    Lock("model.safetensors").release()
    assert os.listdir() == ["corpus.txt"]


@locks
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_not_inherit_it(python, here):
    """The lock goes with the process that took it, while its child lives on, and the child's end frees nothing."""
    code = f"{HELD}\nif os.fork() == 0: print('child', flush=True); sys.stdin.read()\nelse: os._exit(0)"
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.wait(60)
        assert [process.stdout.readline() for _ in range(2)][1] == "child\n"  # from here on it has none
        Lock("model.safetensors").release()
    frees = f"{HELD}\nif os.fork() == 0: sys.exit()\nos.wait()\nLock('model.safetensors')"
    assert "is being written by" in python("-c", frees).err


@locks
def test_what_a_foreign_lock_file_says_is_not_repeated(here):
    """Only a process and a time are; escape sequences are not."""
    lock = Lock("model.safetensors")
    with open(".model.lock", "wb") as file:
        file.write(b"\x1b[31m 1 since ever")
    with pytest.raises(TrainingError, match=r"\(another process\)"):
        Lock("model.safetensors")
    lock.release()


@locks
def test_a_file_that_only_has_the_name_of_a_lock_stays(here):
    """A user's file is not emptied, and what a link of that name leads to is not touched; both are named."""
    Path("notes").write_text("mine")
    for make in (lambda: Path(".model.lock").write_text("mine"), lambda: os.symlink("notes", ".model.lock")):
        make()
        with pytest.raises(ModelFileError, match=r"\.model\.lock"):
            Lock("model.safetensors")
        assert Path(".model.lock").read_text() == Path("notes").read_text() == "mine"
        os.unlink(".model.lock")


def test_without_locks(here, monkeypatch):
    """Where the system has no module for them, or the folder's file system no locks, runs go on as before."""
    monkeypatch.setattr(lock_module, "msvcrt", None)
    monkeypatch.setattr(lock_module, "fcntl", None)
    assert not Lock("model.safetensors").effective
    assert nblstm.train("corpus.txt", **TINY, steps=2).training["steps"] == 2

    class Fcntl:
        LOCK_EX = LOCK_NB = 0

        @staticmethod
        def flock(*args):
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock_module, "fcntl", Fcntl)
    assert not Lock("model.safetensors").effective
    assert nblstm.train(resume=True, steps=3).training["steps"] == 3
    assert sorted(os.listdir()) == [
        "corpus.txt",
        "model.checkpoint.safetensors",
        "model.metrics.csv",
        "model.safetensors",
    ]


def test_windows_locks(here, monkeypatch):
    """Its module locks one byte far behind the text, which others can then read."""
    calls = []

    class Msvcrt:
        LK_NBLCK = 2

        @staticmethod
        def locking(descriptor, mode, count):
            calls.append((os.lseek(descriptor, 0, os.SEEK_CUR), mode, count))
            if len(calls) > 1:
                raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(lock_module, "fcntl", None)
    monkeypatch.setattr(lock_module, "msvcrt", Msvcrt)
    lock = Lock("model.safetensors")
    assert lock.effective
    with pytest.raises(TrainingError, match=f"process {os.getpid()}, since"):
        Lock("model.safetensors")
    lock.release()
    assert calls == [(1 << 30, 2, 1)] * 2 and os.listdir() == ["corpus.txt"]


def test_a_lock_that_cannot_be_made(here):
    """A folder that is not there or is no folder is named, in a sentence."""
    for output in ("none/model", "corpus.txt/model"):
        with pytest.raises(ModelFileError, match=f"^cannot write {output}: "):
            Lock(output)


# ---------------------------------------------------------------- runs


@locks
def test_a_second_run_is_refused_before_anything_is_written(command, folder):
    """With --overwrite and with --resume, where there is a model and where there is none: code 1, nothing changes."""
    for args in (["corpus.txt", *SMALL], ["corpus.txt", *SMALL, "--overwrite"], ["--resume"]):
        lock = Lock("model.safetensors")
        before = content()
        outcome = command("train", *args, "--steps", 2)
        assert outcome.code == 1 and outcome.err.startswith("Error: model.safetensors is being written by")
        assert content() == before and f"process {os.getpid()}" in outcome.err
        lock.release()


@locks
def test_a_session_holds_the_lock_to_the_end_of_its_run(here):
    """From its making on; an end, an error and a session that nobody wants any more release it."""
    session = Session.start(["corpus.txt"], model={"hidden_size": 8, "num_layers": 1})
    with pytest.raises(TrainingError, match="is being written"):
        nblstm.train("corpus.txt", **TINY, steps=2)
    del session
    nblstm.train("corpus.txt", **TINY, steps=2)
    with pytest.raises(nblstm.TextError):
        nblstm.train("no such text", **TINY, overwrite=True)
    with pytest.raises(ZeroDivisionError) as kept:
        nblstm.train(resume=True, steps=4, on_report=lambda report: 1 / 0)
    assert nblstm.train(resume=True, steps=4).training["steps"] == 4, kept
    assert not [name for name in os.listdir() if name.startswith(".")]


# ---------------------------------------------------------------- what killed runs leave

KILLED = """
import os, signal
from nblstm.files import atomic
replace = os.replace
def killed(source, target):
    if target.endswith("checkpoint.safetensors"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killed
import nblstm
nblstm.train("corpus.txt", hidden_size=8, num_layers=1, batch_size=4, bptt=8, steps=3)
"""


@locks
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_remains_of_killed_runs_are_swept_by_the_next(python, here):
    """Theirs alone: what another output's writer has open stays."""
    assert python("-c", KILLED).code == -signal.SIGKILL
    remains = [name for name in os.listdir() if name.endswith(".tmp")]
    assert len(remains) == 1
    with replacing("model2.safetensors") as file:
        (other,) = {name for name in os.listdir() if name.endswith(".tmp")} - set(remains)
        nblstm.train("corpus.txt", **TINY, steps=3, overwrite=True)
        assert [name for name in os.listdir() if name.startswith(".")] == [other]
        file.write(b"whole")
    assert Path("model2.safetensors").read_bytes() == b"whole"


@locks
def test_a_refused_run_sweeps_nothing(here):
    """A live run's temporary file stays where a second run on its output is turned away."""
    lock = Lock("model.safetensors")
    with replacing("model.safetensors") as file:
        file.write(b"a")
        for start in (lambda: nblstm.train("corpus.txt", **TINY), lambda: nblstm.train(resume=True)):
            with pytest.raises(TrainingError):
                start()
    assert Path("model.safetensors").read_bytes() == b"a"
    lock.release()


def test_names_of_any_length_and_with_any_characters(here):
    """A temporary file's name is short whatever its target's is, and patterns in it mean nothing."""
    for name in ("m" * 250, "[a-z]*.safetensors", "ä" * 100):
        with replacing(name) as file:
            file.write(b"a")
            (temporary,) = [
                found for found in os.listdir() if re.fullmatch(r"\.nblstm-[0-9a-f]{12}-[0-9a-f]{16}\.tmp", found)
            ]
        open(temporary, "wb").close()
        sweep("another")
        assert os.path.exists(temporary)
        sweep(name)
        assert not os.path.exists(temporary)
