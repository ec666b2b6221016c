"""What test files are given: a time limit, a small trained model, and the commands as a user runs them."""

import faulthandler
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.register_assert_rewrite("support")

from support.commands import PATIENCE, VERSE, Outcome, environment
from support.numba import MISSING, REASON, asked_for, skipped_without

import nblstm
from nblstm.kernels import reference

TEST_SECONDS = float(os.environ.get("NBLSTM_TEST_SECONDS", "600"))  # that a test, or one of its fixtures, may take
STDERR = pytest.StashKey()  # of the config: where stderr was before tests caught it


# ---------------------------------------------------------------- the suite ends


def pytest_configure(config):
    """Hear SIGINT also in `pytest &`, where the shell ignores it for all that is started; keep stderr for `time_limit`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    config.stash[STDERR] = os.fdopen(os.dup(2), "w")


def pytest_unconfigure(config):
    """End the process even where a thread that a test has left behind never ends."""
    faulthandler.dump_traceback_later(TEST_SECONDS, exit=True, file=config.stash[STDERR])


@contextmanager
def time_limit(item):
    """Fail a test that takes more than TEST_SECONDS; end the suite where it hangs in compiled code.

    The alarm is repeated every PATIENCE seconds: an exception in a callback of a C library is lost, and a `finally` may
    hang as well.
    """

    def late(number, frame):
        pytest.fail(f"it took more than {TEST_SECONDS:g} seconds")

    faulthandler.dump_traceback_later(TEST_SECONDS + 2 * PATIENCE, exit=True, file=item.config.stash[STDERR])
    alarms = hasattr(signal, "SIGALRM")
    before = signal.signal(signal.SIGALRM, late) if alarms else None
    try:
        if alarms:
            signal.setitimer(signal.ITIMER_REAL, TEST_SECONDS, PATIENCE)
        yield
    finally:
        if alarms:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Limit the time of a test, and in the same way that of its fixtures."""
    with time_limit(item), skipped_without():
        return (yield)


pytest_runtest_setup = pytest_runtest_teardown = pytest_runtest_call


# ---------------------------------------------------------------- what tests share


def finished(code, out, err):
    """Return how a command ended; a command that needs numba is skipped where numba is missing."""
    if code and asked_for(err):
        pytest.skip(REASON)
    return Outcome(code, out, err)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with corpus.txt and the files of a short run on it: a model of 8 units. Not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "corpus.txt").write_text(VERSE * 20, encoding="utf-8")
    with pytest.MonkeyPatch.context() as monkeypatch:
        if MISSING:  # the commands that need no numba are given a model all the same
            for name in ("nblstm.kernels.load", "nblstm.nn.network.load"):
                monkeypatch.setattr(name, lambda *args: reference)
        nblstm.train(
            folder / "corpus.txt", folder / "model.safetensors", hidden_size=8, num_layers=1, batch_size=4, bptt=8,
            steps=30, lr=0.02, threads=1,
        )  # fmt: skip
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A copy of `trained` that is the current folder."""
    shutil.copytree(trained, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def model(trained):
    """The trained model, freshly loaded."""
    return nblstm.load(trained / "model.safetensors")


@pytest.fixture
def command(capfd):
    """`command("train", "corpus.txt")` runs a command in this process: an Outcome."""
    from nblstm.cli.main import main

    def run(*args):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        return finished(ended.value.code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session", autouse=True)
def simulator_run(request, tmp_path_factory):
    """The tests of the GPU kernels in numba's simulator: a function that returns the process, and the file of what it says.

    They run beside all others, from the start; where several processes run the tests (`pytest -n 2`), from when they are
    asked for. None where `test_in_the_simulator`, which looks at them, does not run.
    """
    asked = any(item.name == "test_in_the_simulator" for item in request.session.items)
    if not asked or os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0":
        yield None
        return
    started = []

    def start():
        if not started:
            said = tmp_path_factory.mktemp("simulator") / "said"
            file = Path(__file__).with_name("test_cuda.py")
            args = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", str(file)]
            with open(said, "wb") as output:
                variables = environment(NUMBA_ENABLE_CUDASIM="1")
                process = subprocess.Popen(args, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            started.append((process, said))
        return started[0]

    if "PYTEST_XDIST_WORKER" not in os.environ:
        start()
    yield start
    for process, _ in started:
        process.kill()
        process.wait()


@pytest.fixture
def python():
    """`python("-c", "...")` runs Python as a process of its own: an Outcome. Keywords go to subprocess.run."""

    def run(*args, env=(), **keywords):
        keywords = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": PATIENCE, **keywords}
        done = subprocess.run([sys.executable, *map(str, args)], env=environment(**dict(env)), **keywords)
        return finished(done.returncode, *((stream or b"").decode() for stream in (done.stdout, done.stderr)))

    return run
