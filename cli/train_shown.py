"""What a person sees of a run of training: what it trains on, how far it is, and what came of it."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nblstm.cli.options import MODEL
from nblstm.cli.progress import COMPILING, Progress, speed, when_compiling
from nblstm.cli.signals import check, exit_code

from nblstm.reporting.durations import duration_text, size_text

ARGUMENTS = {"sample": "-n 100"}  # of the command that uses the model, to be shown; others have a FILE
FEW_UPDATES = 50  # a model of fewer has learned next to nothing


class RunShown:
    """The run that the command has started. first: the step it began with; stopped: by a signal."""

    def __init__(self, progress: Any, events: Any = None) -> None:
        """events: files for TensorBoard that the reports are written to as well."""
        self.events = events
        self.progress, self.first, self.stopped = progress, 0, False
        self.session: Any = None
        self.told = False  # that kernels are compiled

    def start(self, session: Any) -> None:
        """Tell which model is trained on which text, and that kernels are being compiled."""
        self.session, self.first = session, session.trainer.step
        _introduce(session, self.progress)
        self._listen()

    def _listen(self) -> None:
        """Ask to be called when kernels are compiled."""
        when_compiling(self._compiling)

    def _compiling(self) -> None:
        """Tell that kernels are compiled; that is asked for again once there is other news, on a terminal."""
        if self.progress.in_place or not self.told:
            self.progress.wait(COMPILING)
        self.told = True

    def render(self, report: Any) -> None:
        """Show a report; when kernels are compiled after it, that is told."""
        if self.events is not None:
            self.events.write(report)
        _render(self.session, report, self.progress)
        self._listen()

    def stop(self) -> bool:
        """Show on a terminal how far a validation is, where one is under way; KeyboardInterrupt if a signal has come."""
        share = None if self.session is None else self.session.trainer.validating
        if share is not None and self.progress.in_place:
            self.progress.tell("validating", share, f"{math.floor(100 * share)} %")
        return check()

    def message(self, text: str) -> None:
        """Show a sentence of the run."""
        self.progress.line(text)

    @property
    def is_saved(self) -> bool:
        """Whether there is something new, and it is in the checkpoint."""
        if self.session is None:
            return False
        step = self.session.trainer.kept_step
        return step != self.first and step == self.session.saved_step

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the run of a block; an interrupt ends it, and is raised unless what is new is saved."""
        try:
            yield
        except KeyboardInterrupt:
            if not self.is_saved:
                raise
            self.stopped = True
        finally:
            self.end()

    def end(self) -> None:
        """Leave the terminal, and the kernels, as they were."""
        if self.events is not None:
            self.events.close()
        when_compiling(None)
        self.progress.close()


def run_on_stderr() -> RunShown:
    """Show a run that is started from Python: on standard error, as the command does."""
    return RunShown(Progress(sys.stderr))


def _introduce(session: Any, progress: Any) -> None:
    """Tell which model is trained on what."""
    trainer = session.trainer
    c, t = trainer.network.config, trainer.config
    for head, line in session.task.introduce(session.material, trainer):
        progress.line(f"{head:<8}{line}")
    progress.line(f"model   {c.description}, {c.num_parameters:,} parameters, dropout {c.dropout:g}")
    size = session.ranks.size
    processes = f"{size} processes of " if size > 1 else ""
    place = f"{processes}{trainer.network.threads} threads" if t.device == "cpu" else t.device
    if (t.device, t.precision) != ("cpu", "single"):
        place += f", {t.precision} precision"
    decay = f", weight decay {t.weight_decay:g}" if t.weight_decay else ""
    progress.line(f"recipe  {t.optimizer}, lr {t.lr:g}{decay}, {t.schedule}, {session.task.batches(t)}, {place}")
    if teacher := getattr(trainer.network.head, "teacher", None):
        said = f"temperature {t.distil_temperature:g}, weight {t.distil_weight:g}"
        progress.line(f"teacher {teacher.config.description}, {teacher.config.num_parameters:,} parameters, {said}")
    if getattr(t, "sparsity", 0):
        progress.line(f"prune   until {100 * t.sparsity:g} % of the recurrent weights are zero")
    if t.device == "cuda":
        _introduce_card(trainer, progress)
    if size > 1:  # what is left of them cannot tell it then
        progress.line(f"ranks   if a process dies, go on with: nblstm train --resume{_where(session.output, ' -o')}")
    if trainer.step:
        progress.line(f"resume  at step {trainer.step:,}, epoch {trainer.epoch:.2f}")


def _introduce_card(trainer: Any, progress: Any) -> None:
    """Tell the card's name, and the memory that training takes of it."""
    from nblstm.training.memory import card_bytes

    name, free = trainer.network.kernels.describe()
    room = "" if free is None else f", {free / 1e6:,.0f} MB free"
    needed = card_bytes(trainer.network.config, trainer.config)
    progress.line(f"card    {name}{room}; training takes up to {needed / 1e6:,.1f} MB of it")


def _render(session: Any, report: Any, progress: Any) -> None:
    """Show the bar after an update; a line of 80 columns at most (without step and rate where the task
    has measures of its own), and a sample if asked, after an epoch."""
    epochs = session.trainer.config.epochs
    if not report.validated:
        progress.update(
            report.progress, max(1, math.ceil(report.epoch)), epochs, report.smooth_loss, report.tokens_per_second,
            report.seconds_left,
        )  # fmt: skip
        return
    train = "" if math.isnan(report.smooth_loss) else f" train {report.smooth_loss:#.4g}"
    valid = "" if report.valid_loss is None else f" valid {report.valid_loss:#.4g}"
    found = session.task.found(report.measures)
    valid += f" {found}" if found else ""
    best = " best" if report.improved and valid else ""
    step, lr = ("", "") if found else (f" step {report.step:5,}", f"lr {report.lr:.2g} ")
    progress.line(
        f"epoch {report.epoch:5.2f}{step}{train}{valid} "
        f"{lr}{speed(report.tokens_per_second)} {duration_text(report.seconds)}{best}"
    )
    if report.sample is not None:
        progress.text(report.sample)


def _where(output: Any, option: str) -> str:
    """Return the option that names a run's output in a command, if one is needed."""
    return "" if str(output) == MODEL else f"{option} {shlex.quote(str(output))}"


def conclude(session: Any, first: int, stopped: bool, progress: Any) -> int:
    """Tell why the run ended, where the model is and what to do next; return the exit code. first: its first step."""
    trainer, output = session.trainer, session.output
    if not stopped and trainer.patience_is_over:
        watched = session.task.watched(trainer.config)
        progress.line(f"early   no better {watched} for {trainer.waited} epochs (--patience)")
    elif not stopped and trainer.step == first:
        progress.line("done    the run had reached its limit before; go on with more --epochs, --steps or --minutes")
    if trainer.best_measures:
        progress.line(f"best    valid {session.task.best(trainer.best_measures)}")
    for warning in doubts(session, stopped):
        progress.line(f"warning {warning}")
    progress.line(f"saved   {output} ({size_text(output.stat().st_size)})")
    if not stopped:
        name = session.task.next(trainer.network.config)
        progress.line(f"next    nblstm {name} {ARGUMENTS.get(name, 'FILE')}{_where(output, ' -m')}")
        return 0
    progress.line(f"stopped at step {trainer.kept_step:,}; go on with: nblstm train --resume{_where(output, ' -o')}")
    return exit_code()


def doubts(session: Any, stopped: bool) -> Iterator[str]:
    """Yield what speaks against a model that has just been trained. stopped: by a signal, so that it may go on."""
    trainer = session.trainer
    if trainer.step < FEW_UPDATES and not stopped:
        updates = f"{trainer.step} update{'s' * (trainer.step != 1)}"
        yield f"only {updates}, so it is hardly trained; raise --epochs, --steps or --minutes"
    for found in session.task.doubts(session.material, trainer):
        yield f"{found}; lower --lr, or train longer"
