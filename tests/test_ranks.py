"""Several processes train one model: what they compute is what one computes, and they stop and fail together."""

import importlib.util
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import finished
from support.cases import each
from support.commands import PATIENCE, VERSE, Outcome, environment
from support.training import SHAPE, history, make_trainer

import nblstm
from nblstm.arrays import from_bfloat16, to_bfloat16
from nblstm.config import TrainConfig
from nblstm.config.training import WIRES
from nblstm.errors import ConfigError, TextError
from nblstm.launched import launched_rank
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.tasks.session import Session
from nblstm.text.batches import Chunk
from nblstm.text.buckets import Buckets
from nblstm.text.corpus import load_corpus
from nblstm.training import mpi
from nblstm.training.ranks import SeveralProcesses
from nblstm.training.trainer import Trainer

PLAIN = replace(SHAPE, dropout=0.0, input_dropout=0.0, output_dropout=0.0)
WAIT = 60  # seconds, of a rank for the others


class ThreadRanks(SeveralProcesses):
    """Ranks that are threads of one process."""

    def __init__(self, rank, meeting, values):
        self.rank, self.size, self._meeting, self._values = rank, len(values), meeting, values

    def gather(self, value):
        self._values[self.rank] = value
        self._meeting.wait(WAIT)
        found = list(self._values)
        self._meeting.wait(WAIT)
        return found

    def sum(self, flat):
        parts = self.gather(flat.copy())
        flat[...] = sum(parts[1:], parts[0])


def together(size, work):
    """Call work(ranks) in so many threads; return what each returns, or has raised."""
    meeting, values, found = threading.Barrier(size), [None] * size, [None] * size

    def run(rank):
        try:
            found[rank] = work(ThreadRanks(rank, meeting, values))
        except BaseException as error:
            found[rank] = error
            if isinstance(error, (AssertionError, threading.BrokenBarrierError)):
                meeting.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    [thread.start() for thread in threads]
    [thread.join(WAIT) for thread in threads]
    return found


def streams(**settings):
    """A trainer of four streams."""
    return make_trainer(shape=PLAIN, backend="numpy", **{"steps": 50, "lr": 0.01, **settings})


def documents(**settings):
    """A trainer of 23 documents of one to nine tokens, whose last batch in a bucket is small."""
    random = np.random.default_rng(5)
    lengths = random.integers(1, 10, 23)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(1, PLAIN.vocab_size, offsets[-1] + 1)
    ids[offsets] = 0
    config = TrainConfig(**{"batch_size": 5, "bptt": 4, "steps": 50, "lr": 0.01, "seed": 2, **settings})
    network = Network(PLAIN, initial(PLAIN, 3), "numpy", 1)
    network.head.classes = np.linspace(0.5, 2, PLAIN.vocab_size, dtype=np.float32)
    valid = Buckets(ids, offsets, (), 4, 6, seed=None).epoch(0)
    return Trainer(network, config, Buckets(ids, offsets, [3, 6], 4, config.batch_size, seed=2), valid)


def trained(ranks, make, **settings):
    """Train together; return the trainer and all that was reported."""
    trainer = make(**settings)
    trainer.join(ranks)
    return trainer, history(trainer.run())


# ---------------------------------------------------------------- texts are divided


def test_parts_of_a_chunk_are_its_texts():
    """Part r of R has the texts r, r + R, ... of a packed chunk, row by row; of more parts than texts some are none."""
    lengths = np.array([5, 4, 4, 2, 1])
    offsets = np.concatenate([[0], np.cumsum([(lengths > t).sum() for t in range(5)])])
    texts = [[10 * n + t for t in range(length)] for n, length in enumerate(lengths)]
    rows = np.array([texts[n][t] for t in range(5) for n in range((lengths > t).sum())])
    chunk = Chunk(rows, rows + 1, offsets, True, rows / 2)
    for size in (1, 2, 3, 7):
        for first in range(size):
            part = chunk.part(first, size)
            if first >= len(texts):
                assert part is None
                continue
            found = [[] for _ in range(part.num_texts)]
            for start, stop in zip(part.offsets, part.offsets[1:]):
                for n, row in enumerate(part.tokens[start:stop]):
                    found[n].append(row)
            assert found == texts[first::size]
            np.testing.assert_array_equal(part.targets, part.tokens + 1)
            np.testing.assert_array_equal(part.weights, part.tokens / 2)
            assert part.fresh


@pytest.mark.parametrize("make", [streams, documents])
def test_ranks_equal_one_process(make):
    """After 50 updates the weights, losses and validations of 2 and 3 ranks are those of one process, to 1e-5."""
    alone = make()
    expected = history(alone.run())
    for size in (2, 3):
        for trainer, found in together(size, lambda ranks: trained(ranks, make)):
            np.testing.assert_allclose(trainer.network.parameters, alone.network.parameters, atol=1e-5)
            assert [row[0] for row in found] == [row[0] for row in expected]
            np.testing.assert_allclose(
                [n for row in found for n in row], [n for row in expected for n in row], atol=1e-4, rtol=1e-4
            )


def test_bfloat16_rounds_as_torch_does():
    """To the nearest, to even between two; infinities and NaN stay what they are."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    x = np.frombuffer(random.bytes(40_000), np.float32)
    x = np.concatenate([x, np.array([0, -0.0, np.inf, -np.inf, np.nan, 1 + 2**-8, 1 + 3 * 2**-8], np.float32)])
    expected = torch.from_numpy(x).to(torch.bfloat16).to(torch.float32).numpy()
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(x)), expected)


def test_gradients_sent_in_bfloat16():
    """The sum is that of rounded numbers, rounded, the same everywhere; training with it stays near that with float32."""

    def summed(ranks):
        flat = np.arange(11, dtype=np.float32) / 7 + ranks.rank
        ranks.sum_in_bfloat16(flat)
        return flat

    round_ = lambda x: from_bfloat16(to_bfloat16(x))
    for flat in together(3, summed):
        expected = round_(sum(round_(np.arange(11, dtype=np.float32) / 7 + rank) for rank in range(3)))
        np.testing.assert_array_equal(flat, expected)
    (exact, _), (rounded, _) = (together(2, lambda ranks: trained(ranks, streams, wire=wire))[0] for wire in WIRES)
    assert 0 < np.abs(exact.network.parameters - rounded.network.parameters).max() < 0.1
    assert abs(exact.best_loss - rounded.best_loss) < 0.02


def test_a_rank_may_have_no_text():
    """More ranks than a batch has documents train as one process does: who has no text adds nothing."""
    alone = documents(batch_size=3, steps=10, tokens_per_batch=12)
    history(alone.run())
    found = together(4, lambda ranks: trained(ranks, documents, batch_size=3, steps=10, tokens_per_batch=12))
    for trainer, _ in found:
        np.testing.assert_allclose(trainer.network.parameters, alone.network.parameters, atol=1e-5)


def test_ranks_agree_to_the_bit_and_again():
    """All ranks hold the same bits, a second run has them as well, and dropout is another on every rank."""
    make = lambda: make_trainer(backend="numpy", steps=12)
    (one, first), (two, second) = together(2, lambda ranks: trained(ranks, make))
    (again, third), _ = together(2, lambda ranks: trained(ranks, make))
    assert first == second == third
    for other in (two, again):
        np.testing.assert_array_equal(one.network.parameters, other.network.parameters)
    assert len({one.ranks.seed(7), two.ranks.seed(7)}) == 2


@pytest.mark.parametrize("make", [streams, documents])
def test_a_run_goes_on_with_another_number_of_ranks(make):
    """A checkpoint of 3 ranks goes on with 1 and with 2, in the middle of an epoch, as if nothing had been."""
    whole = make(steps=30)
    history(whole.run())

    def half(ranks):
        trainer = make(steps=30)
        trainer.join(ranks)
        for report in trainer.run():
            if report.step == 13:
                return trainer.tensors(), trainer.facts()

    stored = together(3, half)
    for tensors, facts in stored[1:]:
        [np.testing.assert_array_equal(tensors[name], stored[0][0][name]) for name in tensors]
        assert facts == stored[0][1]

    def on(ranks=None):
        trainer = make(steps=30)
        trainer.restore(*stored[0])
        if ranks is not None:
            trainer.join(ranks)
        history(trainer.run())
        return trainer

    for trainer in [on(), *together(2, on)]:
        np.testing.assert_allclose(trainer.network.parameters, whole.network.parameters, atol=1e-5)


# ---------------------------------------------------------------- they meet now and then


SGD = {"optimizer": "sgd", "momentum": 0.0, "clip": 0.0, "lr": 0.5, "schedule": "constant", "steps": 30}


@each("make, momentum", [(streams, 0.9), (documents, 0.0)])
def test_meeting_after_each_update_of_plain_descent_is_the_exact_form(make, momentum):
    """The mean of w - lr g_r over ranks is w - lr times the mean of g_r: K = 1 equals one process, with momentum, too."""
    settings = {**SGD, "momentum": momentum, "lr": 0.5 - momentum / 2}
    alone = make(**settings)
    expected = history(alone.run())
    for trainer, found in together(3, lambda ranks: trained(ranks, make, average_every=1, **settings)):
        np.testing.assert_allclose(trainer.network.parameters, alone.network.parameters, atol=1e-5)
        np.testing.assert_allclose([row[1] for row in found], [row[1] for row in expected], atol=1e-5)


def test_local_updates_are_those_of_each_rank_alone():
    """Between two meetings a rank does what a process does that has its texts alone; then all have the mean, moments too."""
    shards, K = [], 3
    for rank in range(2):
        alone = streams(steps=K)
        whole = alone.source
        alone.chunks = [whole.epoch(0)[k].part(rank, 2) for k in range(K)] + [whole.epoch(0)[0]]
        alone.state = alone.network.initial_state(2)
        for _ in range(K):
            alone._update()
        shards.append(alone)
    mean = lambda get: sum(map(get, shards)) / 2
    for trainer, _ in together(2, lambda ranks: trained(ranks, streams, average_every=K, steps=K)):
        tensors = trainer.tensors()
        np.testing.assert_allclose(tensors["parameters"], mean(lambda t: t.network.parameters), atol=1e-6)
        for name in ("m", "v"):
            np.testing.assert_allclose(
                tensors[f"optimizer.{name}"], mean(lambda t: t.optimizer.moments[name]), atol=1e-7
            )


@each("settings", [
    {"optimizer": "asgd", "averaging_patience": 0, "lr": 1.0, "clip": 0.1}, {"lazy_embedding": True, "clip_value": 0.01},
])  # fmt: skip
def test_local_updates_go_on_as_if_nothing_had_been(settings):
    """All ranks report and end alike, a second run has the same bits, and so has one that goes on from a checkpoint taken
    between two meetings: it holds what all had when they last met."""
    how = {"average_every": 4, "steps": 22, "valid_every": 7, **settings}
    (one, first), (two, second) = together(2, lambda ranks: trained(ranks, streams, **how))
    assert first == second and one.kept_step == 22
    np.testing.assert_array_equal(one.network.parameters, two.network.parameters)

    def half(ranks):
        trainer = streams(**how)
        trainer.join(ranks)
        for report in trainer.run():
            if report.step == 15:
                return trainer.tensors(), trainer.facts(), trainer.keep()

    stored = together(2, half)
    assert stored[0][1]["step"] == 14 and stored[0][1] == stored[1][1]
    [np.testing.assert_array_equal(stored[0][0][name], stored[1][0][name]) for name in stored[0][0]]

    def on(ranks):
        trainer = streams(**how)
        trainer.restore(*stored[0][:2])
        trainer.join(ranks)
        return trainer, history(trainer.run())

    for trainer, rows in together(2, on):
        np.testing.assert_array_equal(trainer.network.parameters, one.network.parameters)
        np.testing.assert_array_equal(trainer.best, one.best)
        assert rows == first[-len(rows) :]
    trainer = streams(**how)  # and with another number of ranks
    trainer.restore(*stored[0][:2])
    history(trainer.run())


def test_before_they_have_met_the_first_weights_are_kept():
    """What a rank has by itself is no model."""

    def begin(ranks):
        trainer = streams(average_every=10, steps=30)
        trainer.join(ranks)
        reports = trainer.run()
        [next(reports) for _ in range(3)]
        return trainer.keep(), trainer.kept_step, trainer.network.parameters.copy()

    (one, step, mine), (two, _, other) = together(2, begin)
    np.testing.assert_array_equal(one, initial(PLAIN, 3))
    np.testing.assert_array_equal(one, two)
    assert step == 0 and not np.array_equal(mine, other)


def test_a_rank_that_diverges_alone_ends_all():
    """The norms are those of all ranks, so what is not finite on one is an error everywhere."""

    def diverge(ranks):
        trainer = streams(average_every=100, steps=30)
        trainer.join(ranks)
        reports = trainer.run()
        next(reports)
        if ranks.rank == 1:
            trainer.network.parameters[-1] = np.nan
        next(reports)

    errors = together(2, diverge)
    assert all(isinstance(error, nblstm.DivergenceError) for error in errors) and str(errors[0]) == str(errors[1])


@each("settings, message", [
    ({"average_every": 0}, "average_every must be at least 1"),
    ({"average_every": 2, "wire": "bfloat16"}, "average_every sends weights"),
])  # fmt: skip
def test_wrong_settings_of_local_updates(settings, message):
    """Each in a sentence."""
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


# ---------------------------------------------------------------- they stop and fail together


def test_one_stops_all():
    """A `stop` that says yes on one rank ends the run of all after the same update; a signal raises the same everywhere."""

    def stopped(ranks, how):
        trainer, asked = streams(), []
        trainer.join(ranks)

        def stop():
            asked.append(1)
            return ranks.rank == 1 and len(asked) > 4 and how()

        try:
            with ranks.running():
                for _ in trainer.run(stop):
                    pass
        except KeyboardInterrupt:
            assert not ranks.broken
            return "interrupted", trainer.step
        return "stopped", trainer.step

    def interrupt():
        raise KeyboardInterrupt

    assert len(set(together(2, lambda ranks: stopped(ranks, lambda: True)))) == 1
    (how, _), *others = found = together(3, lambda ranks: stopped(ranks, interrupt))
    assert how == "interrupted" and set(others) == {found[0]}


def test_an_error_of_one_is_raised_by_all():
    """What one rank finds wrong before training all raise, under its number; other errors leave the rest waiting."""

    def begin(ranks):
        with ranks.beginning():
            ranks.lead(lambda: None)
            if ranks.rank == 1:
                raise TextError("no such file.")
            ranks.agree(3)

    for error in together(3, begin):
        assert isinstance(error, TextError) and str(error) == "process 1 of 3: no such file."

    def lead(ranks):
        def work():
            raise ConfigError("wrong.")

        with ranks.beginning():
            ranks.lead(work)

    assert {(type(error), str(error)) for error in together(3, lead)} == {(ConfigError, "wrong.")}

    def fail(ranks):
        with pytest.raises(ZeroDivisionError), ranks.running():
            1 / 0
        return ranks.broken

    assert together(2, fail) == [True, True]


def test_a_batch_has_a_text_for_every_process():
    """A batch_size below the number of processes is refused in a sentence."""
    assert together(4, lambda ranks: streams(steps=1).join(ranks)) == [None] * 4
    for error in together(5, lambda ranks: streams(steps=1).join(ranks)):
        assert str(error).startswith("batch_size must be at least 5, as so many processes share a batch, got 4;")


def started(folder, **settings):
    """What a session of two ranks says to a start."""
    text = folder / "text.txt"
    text.write_text("to be or not to be\n" * 20, "utf-8")

    def start(ranks):
        with ranks.beginning():
            return Session.start([str(text)], folder / "m.safetensors", ranks=ranks, **settings)

    return together(2, start)


def test_sessions_that_are_refused(tmp_path):
    """A task whose batches are not divided, and standard input, are refused by all ranks; nothing is written."""
    for error in started(tmp_path, task="masked"):
        assert isinstance(error, ConfigError) and "trains in one process, got 2" in str(error)
    for error in together(2, lambda ranks: Session.start(["-"], tmp_path / "m.safetensors", ranks=ranks)):
        assert str(error) == "standard input reaches one of 2 processes; save the text in a file."
    assert os.listdir(tmp_path) == ["text.txt"]


@each(
    "environment, rank",
    [
        ({}, None),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, None),
        ({"PMI_SIZE": "4", "PMI_RANK": "3"}, 3),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, 0),
        ({"PMIX_RANK": "2"}, 2),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, None),
        ({"PMI_SIZE": "many", "PMI_RANK": "first"}, None),
    ],
)
def test_who_was_started_with_others(environment, rank):
    """Only what a launcher of MPI says counts: a job of Slurm may run one process."""
    assert launched_rank(environment) == rank


def test_mpi_is_asked_only_where_it_started_several(monkeypatch, tmp_path):
    """One process trains alone, without mpi4py; several without it get one sentence."""
    monkeypatch.setattr(mpi, "_world", [])
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setattr(mpi, "launched_rank", lambda: None)
    assert mpi.world().size == 1
    monkeypatch.setattr(mpi, "_world", [])
    monkeypatch.setattr(mpi, "launched_rank", lambda: 1)
    with pytest.raises(nblstm.DeviceError, match="several processes were started by MPI, and mpi4py cannot be used"):
        nblstm.train("none", tmp_path / "m.safetensors", mpi=True)


# ---------------------------------------------------------------- a text is read once


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the files of other processes are found in /proc")
def test_another_process_maps_the_same_ids(tmp_path):
    """A corpus that is sent to another process holds the same ids, in the same file; without that file it is refused."""
    path = tmp_path / "text.txt"
    path.write_text(VERSE * 20, encoding="utf-8")
    program = (
        "import pickle, sys; corpus = pickle.load(sys.stdin.buffer); "
        "print(corpus.fingerprint, *corpus.train[:9], *corpus.valid_offsets[:9])"
    )
    corpus = load_corpus([path], documents="line")
    send = lambda: subprocess.run(
        [sys.executable, "-c", program], input=sent, env=environment(), capture_output=True, timeout=PATIENCE
    )
    sent = pickle.dumps(corpus)
    expected = " ".join(map(str, [corpus.fingerprint, *corpus.train[:9], *corpus.valid_offsets[:9]]))
    assert send().stdout.decode().strip() == expected
    del corpus
    with pytest.raises(OSError):
        pickle.loads(sent)


# ---------------------------------------------------------------- under mpiexec

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]))
HAS_MPI = MPIEXEC is not None and importlib.util.find_spec("mpi4py") is not None
needs_mpi = pytest.mark.skipif(not HAS_MPI, reason="mpi4py or mpiexec is missing: pip install 'nblstm[mpi]'")
SETTINGS = ["--hidden-size", "8", "--batch-size", "4", "--bptt", "8", "--dropout", "0", "--threads", "1"]


def run_together(*args, size=2):
    """Start the command in so many processes."""
    command = [MPIEXEC, "-n", size, sys.executable, "-m", "nblstm", *args]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen([str(arg) for arg in command], env=environment(), text=True, **pipes)


def ended(process):
    """Wait for a command: an Outcome."""
    out, err = process.communicate(timeout=PATIENCE)
    return finished(process.returncode, out, err)


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A file of text in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(VERSE * 20, encoding="utf-8")
    return "text.txt"


@needs_mpi
def test_two_processes_train_what_one_does(text, command):
    """`mpiexec -n 2 nblstm train` writes the weights of one process to 1e-5, the same bits again, and one speaks."""
    train = ["train", text, "--steps", "50", *SETTINGS]
    first = ended(run_together(*train, "-o", "two.safetensors"))
    assert (first.code, first.out) == (0, "") and first.err.count("\nsaved ") == 1, first
    assert ended(run_together(*train, "-o", "again.safetensors", "-q")) == Outcome(0, "", "")
    assert ended(run_together(*train, "-o", "wire.safetensors", "-q", "--wire", "bfloat16")) == Outcome(0, "", "")
    assert command(*train, "-o", "one.safetensors", "-q").code == 0
    one, two, again = (nblstm.load(f"{name}.safetensors").parameters for name in ("one", "two", "again"))
    np.testing.assert_allclose(two, one, atol=1e-5)
    np.testing.assert_array_equal(two, again)
    assert 0 < np.abs(nblstm.load("wire.safetensors").parameters - one).max() < 0.2


@needs_mpi
def test_two_processes_that_meet_now_and_then(text, command):
    """`--average-every` writes the same bits again, and others than the exact form does."""
    train = ["train", text, "--steps", "30", *SETTINGS, "-q"]
    for name in ("one", "again"):
        made = ended(run_together(*train, "--average-every", "4", "-o", f"{name}.safetensors"))
        assert made == Outcome(0, "", ""), made
    assert command(*train, "-o", "exact.safetensors").code == 0
    one, again, exact = (nblstm.load(f"{name}.safetensors").parameters for name in ("one", "again", "exact"))
    np.testing.assert_array_equal(one, again)
    assert 1e-4 < np.abs(one - exact).max() < 1


@needs_mpi
def test_processes_fail_together(text):
    """A file that is not there and too small a batch are one sentence and the right code; nothing is written."""
    for args, code, words in (
        (["missing.txt"], 1, "missing.txt"),
        (["--batch-size", "1"], 2, "--batch-size must be at least 2, as so many processes share a batch"),
    ):
        outcome = ended(run_together("train", text, *args))
        assert outcome.code == code and words in outcome.err and outcome.err.count("\n") == 1, outcome
    assert os.listdir() == [text]


def test_one_process_speaks_for_all(text, command, monkeypatch):
    """Of a usage error that all processes make, the first one tells; a command that each runs for itself tells as ever."""
    monkeypatch.setenv("PMI_SIZE", "2")
    for rank, told in (("0", 1), ("1", 0)):
        monkeypatch.setenv("PMI_RANK", rank)
        outcome = command("train", text, "--steps", "none")
        assert (outcome.code, outcome.err.count("Error: ")) == (2, told)
        assert command("sample", "--n", "none").err.count("Error: ") == 1


def begun(text):
    """Start a long run of two processes; return mpiexec and their ids, once there is a checkpoint."""
    process = run_together("train", text, "--minutes", "9", *SETTINGS, "--valid-every", "5", "-o", "m.safetensors")
    deadline = time.monotonic() + PATIENCE
    while not Path("m.checkpoint.safetensors").exists():
        assert process.poll() is None and time.monotonic() < deadline, ended(process)
        time.sleep(0.05)
    children = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    mine = [int(line.split()[0]) for line in children if "m nblstm train" in line and "mpiexec" not in line]
    return process, [pid for pid in mine if os.path.realpath(f"/proc/{pid}/cwd") == os.path.realpath(".")]


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="processes are found in /proc")


@needs_mpi
@needs_proc
def test_a_signal_to_one_process_stops_all(text, command):
    """SIGINT to one process ends all after the same update, everything saved, and one process goes on from there."""
    process, children = begun(text)
    os.kill(children[-1], signal.SIGINT)
    outcome = ended(process)
    assert outcome.code == 130 and "\nstopped at step " in outcome.err, outcome
    step = int(outcome.err.rpartition("stopped at step ")[2].partition(";")[0].replace(",", ""))
    gone_on = command("train", "--resume", "-o", "m.safetensors", "--steps", step + 2)
    assert gone_on.code == 0 and f"resume  at step {step:,}," in gone_on.err, gone_on


@needs_mpi
@needs_proc
def test_a_process_that_is_killed_ends_the_run(text, command):
    """kill -9 of one process ends the other; the checkpoint is whole, and one process goes on from it."""
    process, children = begun(text)
    os.kill(children[-1], signal.SIGKILL)
    outcome = ended(process)
    assert outcome.code != 0 and "go on with: nblstm train --resume -o m.safetensors" in outcome.err, outcome
    assert not any(os.path.exists(f"/proc/{pid}") for pid in children)
    assert command("train", "--resume", "-o", "m.safetensors", "--steps", "1").code == 0
