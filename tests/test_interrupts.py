"""Interrupts: signals held back, updates that are whole or not there, runs that are saved, commands that end in a line."""

import os
import signal
import sys
import threading

import numpy as np
import pytest
from support.commands import SMALL, VERSE
from support.numba import needs_numba
from support.training import make_trainer

import nblstm
from nblstm import interrupts
from nblstm.files import safetensors
from nblstm.files.model_file import load_checkpoint
from nblstm.interrupts import held
from nblstm.tasks import session as session_module
from nblstm.tasks.session import Session
from nblstm.training import report as report_module
from nblstm.training import trainer as trainer_module
from nblstm.training.trainer import Trainer

TINY = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "bptt": 8, "threads": 1}
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture(autouse=True)
def interruptible():
    """SIGINT raises KeyboardInterrupt here, also where the tests run in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with nothing but corpus.txt in it: about 45 chunks an epoch."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text(VERSE * 20, encoding="utf-8")
    return tmp_path


def interrupt(*args):
    signal.raise_signal(signal.SIGINT)


def at_call(function, number, action=interrupt):
    """The function, with an action behind the call of this number, from 1."""
    calls = []

    def called(*args, **keywords):
        result = function(*args, **keywords)
        calls.append(None)
        if len(calls) == number:
            action()
        return result

    return called


# ---------------------------------------------------------------- signals held back


def test_a_held_signal_is_heard_at_the_end():
    """The handler hears of it when the block is over, however often it came, and is in its place again."""
    done = []
    with pytest.raises(KeyboardInterrupt):
        with held():
            interrupt()
            interrupt()
            done.append("all")
    assert done == ["all"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_block_can_listen():
    """`deliver` is the place where a signal that came may be heard; without one nothing happens."""
    done = []
    with pytest.raises(KeyboardInterrupt):
        with held() as deliver:
            deliver()
            done.append("before")
            interrupt()
            deliver()
            done.append("behind")
    assert done == ["before"]


def test_blocks_in_blocks():
    """The outermost decides."""
    done = []
    with pytest.raises(KeyboardInterrupt):
        with held():
            with held():
                interrupt()
            done.append("inner")
    assert done == ["inner"]


def test_an_error_does_not_swallow_the_signal():
    """Both are there: the interrupt, and the error it followed on."""
    with pytest.raises(KeyboardInterrupt) as caught:
        with held():
            interrupt()
            raise ValueError("a")
    assert isinstance(caught.value.__context__, ValueError)


def test_a_handler_of_the_callers_own(monkeypatch):
    """It hears, and if it does not raise the block is followed by what follows it; ignored signals stay ignored."""
    heard = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    with held():
        interrupt()
        assert heard == []
    assert heard == [signal.SIGINT]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held():
        interrupt()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert heard == [signal.SIGINT]


def test_other_threads_hold_nothing():
    """Only the main thread may, as only it runs handlers."""
    handlers = []

    def work():
        with held() as deliver:
            deliver()
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="nothing is compiled")
def test_an_interrupt_while_a_kernel_compiles_is_not_lost(monkeypatch):
    """It arrives when compiling returns, and the kernel is there."""
    pytest.importorskip("numba")
    from nblstm.kernels.cpu import jit

    def kernel(x):
        return x + 1

    kernel = jit.jit(kernel)
    compile = jit._Compiler.compile_extra
    monkeypatch.setattr(jit._Compiler, "compile_extra", lambda *args: interrupt() or compile(*args))
    with pytest.raises(KeyboardInterrupt):
        kernel(1.0)
    assert len(kernel.overloads) == 1 and kernel(1.0) == 2.0


# ---------------------------------------------------------------- an update is whole or not there


def averaging_trainer():
    """A trainer whose parameters are averaged while they are validated, which it does every 5 of its 12 updates."""
    trainer = make_trainer(backend="numpy", steps=12, optimizer="asgd", lr=0.5, schedule="plateau", decay_after=1)
    trainer.optimizer.count = 0
    return trainer


def everything(trainer):
    facts = {**trainer.facts(), "seconds": 0}
    return facts, {name: array.tobytes() for name, array in trainer.tensors().items()}


def interrupted_at(event):
    """A trainer that was interrupted at this byte code of its run, and whether its run was so long."""
    trainer, count = averaging_trainer(), 0
    files = {trainer_module.__file__, interrupts.__file__}

    def trace(frame, kind, argument):
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if kind == "opcode":
            count += 1
            if count == event:
                interrupt()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for _ in trainer.run():
            pass
    except KeyboardInterrupt:
        return trainer, True
    finally:
        sys.settrace(before)
    return trainer, count >= event


def test_an_interrupt_at_any_byte_code_leaves_a_whole_update():
    """What is there then is what an uninterrupted run has at that step, and it goes on to the same end, bit by bit."""
    whole, after = averaging_trainer(), {}
    after[0] = {str(everything(whole))}
    for _ in whole.run():
        after.setdefault(whole.step, set()).add(str(everything(whole)))
    event, seen = 3, 0
    while True:
        trainer, reached = interrupted_at(event)
        if not reached:
            break
        assert trainer.whole and str(everything(trainer)) in after[trainer.step], event
        for _ in trainer.run():
            pass
        assert everything(trainer) == everything(whole), event
        event, seen = event + 149, seen + 1
    assert seen > 15


def test_an_error_in_the_middle_of_an_update_is_known(here):
    """What no handler can hold back (no memory left): the parameters to keep are those of before the torn update."""
    program, kept = nblstm.TextGenerator(hidden_size=8), []

    def torn(update):
        def called(kernels, w, *args):
            if len(kept) == 3:
                w[: len(w) // 2] = 7.0
                raise MemoryError
            update(kernels, w, *args)
            kept.append(w.copy())

        return called

    make = trainer_module.make_optimizer

    def making(*args):
        optimizer = make(*args)
        optimizer.update = torn(optimizer.update)
        return optimizer

    with pytest.MonkeyPatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(trainer_module, "make_optimizer", making)
        program.set_params(batch_size=4, bptt=8, steps=9).fit(VERSE * 9)
    np.testing.assert_array_equal(program.parameters, kept[2])


@pytest.mark.parametrize("kind", [nblstm.TextGenerator, nblstm.MLPLanguageModel])
def test_a_program_that_learnt_nothing_stays_what_it_was(kind, monkeypatch):
    """An interrupt before the first update of a second training leaves the program of the first."""
    program = kind(hidden_size=8, batch_size=4, steps=2).fit(VERSE * 9)
    before = program.parameters.copy()
    monkeypatch.setattr(Trainer, "_update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        program.fit("another text " * 20)
    np.testing.assert_array_equal(program.parameters, before)
    assert program.score("Thou").tokens == 4


def test_a_series_model_can_be_fitted_after_an_interrupt(monkeypatch):
    """An interrupted fit raises KeyboardInterrupt; the next one is not touched by it."""
    series = np.sin(np.arange(300) / 9)
    settings = {"hidden_size": 8, "steps": 5, "batch_size": 4, "bptt": 8}
    expected = nblstm.SeriesModel(**settings).fit(series)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_move", at_call(Trainer._move, 2))
        nblstm.SeriesModel(**settings).fit(series)
    np.testing.assert_array_equal(nblstm.SeriesModel(**settings).fit(series).parameters, expected.parameters)


# ---------------------------------------------------------------- a run is saved


def in_update(monkeypatch):
    monkeypatch.setattr(Trainer, "_move", at_call(Trainer._move, 7))


def in_gradient(monkeypatch):
    monkeypatch.setattr(Trainer, "_clip", at_call(Trainer._clip, 7))


def in_validation(monkeypatch):
    validate = report_module.validation_loss
    monkeypatch.setattr("nblstm.training.report.validation_loss", lambda *args: (interrupt(), validate(*args))[1])


def in_saving(monkeypatch):
    monkeypatch.setattr(session_module, "SAVE_SECONDS", -1.0)
    monkeypatch.setattr(session_module, "save_checkpoint", at_call(session_module.save_checkpoint, 7))


@pytest.mark.parametrize("moment", [in_update, in_gradient, in_validation, in_saving])
def test_an_interrupted_training_is_saved_and_goes_on_exactly(here, moment):
    """KeyboardInterrupt comes through; the model is there, and resume ends in the very bits of a run in one piece."""
    nblstm.train("corpus.txt", "whole.safetensors", **TINY, dropout=0.2, epochs=2)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        moment(patch)
        nblstm.train("corpus.txt", **TINY, dropout=0.2, epochs=2)
    stopped = load_checkpoint("model.checkpoint.safetensors")[1]["trainer"]["step"]
    assert stopped in {in_update: [7], in_gradient: [6], in_saving: [7]}.get(moment, [stopped]) and stopped > 5
    assert nblstm.load("model.safetensors").training["steps"] == stopped
    nblstm.train(resume=True)
    for name in ("safetensors", "checkpoint.safetensors"):
        whole, resumed = (safetensors.read(f"{stem}.{name}")[0] for stem in ("whole", "model"))
        for key in whole:
            np.testing.assert_array_equal(whole[key], resumed[key], err_msg=key)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, SystemExit])
def test_an_error_of_the_caller_saves_at_once(here, error):
    """Before the caller sees it: also where it is remembered with all that it refers to, as a notebook does."""

    def report(report):
        if report.step == 3:
            raise error

    with pytest.raises(error):
        nblstm.train("corpus.txt", **TINY, steps=9, on_report=report)
    assert load_checkpoint("model.checkpoint.safetensors")[1]["trainer"]["step"] == 3
    assert nblstm.train(resume=True).training["steps"] == 9


def test_an_interrupt_before_the_first_update_leaves_nothing_to_resume(here, monkeypatch):
    """No model, no checkpoint, no lock: the run can be started again."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_clip", at_call(Trainer._clip, 1))
        nblstm.train("corpus.txt", **TINY, steps=3)
    assert set(os.listdir()) <= {"corpus.txt", "model.metrics.csv"}
    assert nblstm.train("corpus.txt", **TINY, steps=3).training["steps"] == 3


def test_a_second_interrupt_while_saving_leaves_the_old_files(here, monkeypatch):
    """The save is given up; what was there is whole, and no temporary file or lock stays."""
    nblstm.train("corpus.txt", **TINY, steps=3)
    before = {name: (here / name).read_bytes() for name in ("model.safetensors", "model.checkpoint.safetensors")}
    fsync = os.fsync
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_move", at_call(Trainer._move, 2))
        patch.setattr(os, "fsync", lambda descriptor: (interrupt(), fsync(descriptor)))
        nblstm.train(resume=True, steps=9)
    assert {name: (here / name).read_bytes() for name in before} == before
    assert not [name for name in os.listdir() if name.startswith(".")]
    assert nblstm.train(resume=True, steps=9).training["steps"] == 9


def test_the_callers_handler_is_there_between_updates(here):
    """A run that nobody goes on with does not keep the signals."""
    reports = Session.start(["corpus.txt"], model={"hidden_size": 8}).run()
    next(reports)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    reports.close()


# ---------------------------------------------------------------- commands end in a line


@pytest.mark.parametrize("number, code", SIGNALS)
@pytest.mark.parametrize(
    "args", [["sample"], ["score", "corpus.txt"], ["eval", "corpus.txt"], ["report"], ["info"], ["train", "--resume"]]
)
def test_every_command_ends_in_a_line(command, folder, monkeypatch, args, number, code):
    """`Error: interrupted.` and 130 or 143, without a traceback and without an empty line."""
    from nblstm.files import model_file

    load = model_file.safetensors.read_header if args[0] == "info" else model_file.safetensors.read
    raising = lambda *args: (signal.raise_signal(number), load(*args))[1]
    monkeypatch.setattr(model_file.safetensors, load.__name__, raising)
    monkeypatch.setattr(model_file.safetensors, "read", raising)
    assert command(*args) == type(command("--version"))(code, "", "Error: interrupted.\n")


IMPORTING = """
import runpy, signal, sys
class Interrupting:
    def find_spec(self, name, *args):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["nblstm", *{args!r}]
runpy.run_module("nblstm", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("module", ["click", "nblstm.cli.main", "nblstm.cli.info", "numpy"])
def test_an_interrupt_while_python_imports(python, folder, module):
    """From the command's first line on: one line and 130, no traceback."""
    outcome = python("-c", IMPORTING.format(module=module, args=["info"]))
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "Error: interrupted.\n")


def test_little_is_imported_before_the_command_listens(python):
    """An interrupt before that is a traceback, so the package and the command bring nothing along."""
    outcome = python("-c", "import sys; old = {*sys.modules}; import nblstm.__main__; print(*{*sys.modules} - old)")
    assert outcome.out and set(outcome.out.split()) <= {"nblstm", "nblstm.__main__", "nblstm.cli"}


ENDED = """
import nblstm.__main__, nblstm.cli.main
def run():
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        return 143
nblstm.cli.main.run = run
nblstm.__main__.main()
"""


def test_an_interrupt_within_an_executed_text_ends_with_the_code(python, tmp_path):
    """Dataclasses are made by such texts: `python -m` would end with SIGINT itself, whatever the code."""
    (tmp_path / "ended.py").write_text(ENDED)
    assert python("-m", "ended", cwd=tmp_path).code == 143


SAVING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from nblstm.tasks import session
from nblstm.training import trainer
move, save = trainer.Trainer._move, session.save_checkpoint
def moved(self, *args):
    move(self, *args)
    if self.step == 2:
        signal.raise_signal(signal.{first})
def saved(*args):
    signal.raise_signal(signal.SIGINT)
    save(*args)
trainer.Trainer._move = moved
if {twice}:
    session.save_checkpoint = saved
sys.argv = ["nblstm", "train", "corpus.txt", *{args!r}, "-q"]
from nblstm.__main__ import main
main()
"""


@needs_numba
@pytest.mark.parametrize("first, code", [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("twice", [False, True])
def test_a_signal_in_an_update_and_another_while_saving(python, here, first, code, twice):
    """The first saves and is silent with -q; the second gives up with one line and the code of the first."""
    outcome = python("-c", SAVING.format(first=first, twice=twice, args=SMALL))
    assert (outcome.code, outcome.out, outcome.err) == (code, "", "Error: interrupted.\n" if twice else "")
    assert not [name for name in os.listdir() if name.startswith(".")]
    if not twice:
        assert load_checkpoint("model.checkpoint.safetensors")[1]["trainer"]["step"] == 3
    assert nblstm.load("model.safetensors").training["steps"] == 3


def test_three_signals_end_the_process_at_once(python, here):
    """Who sends one after the other wants it to be gone."""
    code = (
        "import signal\nfrom nblstm.cli import signals\nwith signals.raising():\n for _ in range(3):\n"
        "  try: signal.raise_signal(signal.SIGINT)\n  except KeyboardInterrupt: print('caught', flush=True)\n"
        "print('alive')"
    )
    outcome = python("-c", "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + code)
    assert (outcome.code, outcome.out, outcome.err) == (130, "caught\ncaught\n", "")


def test_ignored_signals_stay_ignored(command, folder):
    """A command that was started with SIGINT ignored (`nohup`, a job in the background) does not listen to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "_move", at_call(Trainer._move, 1))
            outcome = command("train", "corpus.txt", *SMALL, "--steps", 3, "--overwrite", "-q")
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert (outcome.code, outcome.err) == (0, "")


# ---------------------------------------------------------------- the end


def test_what_waits_for_the_end_is_called(python):
    """Functions registered for it run, what they print is written, and the code is the command's."""
    code = (
        "import atexit, sys; atexit.register(print, 'the last words'); sys.argv[1:] = ['no-such-command']\n"
        "from nblstm.__main__ import main; main()"
    )
    outcome = python("-c", code)
    assert (outcome.code, outcome.out) == (2, "the last words\n") and outcome.err.startswith("Error: ")


def test_a_profiler_sees_the_end(python):
    """A command that is profiled ends as Python does, so that the profiler can say what it has seen."""
    outcome = python("-m", "cProfile", "-m", "nblstm", "--version")
    assert outcome.code == 0 and "function calls" in outcome.out, outcome.err
