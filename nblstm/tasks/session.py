"""Session: one training run with its files. The model file, the checkpoint and the metrics stand side by side.

model.safetensors              the best weights so far, all that sampling needs
model.checkpoint.safetensors   everything needed to go on exactly
model.metrics.csv              a row a second, and one for every validation
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nblstm import kernels
from nblstm.config import MAX_ROLLBACKS, Recipe
from nblstm.config.checks import Config
from nblstm.errors import ConfigError, DivergenceError, ModelFileError, TrainingError
from nblstm.files.lock import Lock
from nblstm.files.model_file import save_checkpoint
from nblstm.nn.parameters import grown
from nblstm.tasks.asked import absolute_places, base_name, changed_recipe, check_task, kept_shape, where_it_was
from nblstm.tasks.checkpoint import read_checkpoint
from nblstm.tasks.keeping import EarlyTexts, Snapshots, finished_model
from nblstm.tasks.metrics_file import MetricsFile, NoMetrics
from nblstm.tasks.outputs import (
    check_existing,
    check_files,
    check_folder,
    checkpoint_path,
    history_path,
    locked,
    metrics_path,
    set_aside,
)
from nblstm.tasks.registry import load, run_of, stored_run
from nblstm.tasks.run import Material, TaskRun
from nblstm.tasks.teachers import distilling, load_teacher, start_teaching, stored_teacher, teacher_facts
from nblstm.tasks.together import check_divides, join_ranks
from nblstm.text.sources import STDIN
from nblstm.training.ranks import ALONE, ProcessGroup
from nblstm.training.rehearsal import rehearse
from nblstm.training.report import Report
from nblstm.training.trainer import Trainer

OUTPUT = "model.safetensors"
SAVE_SECONDS = 60.0  # between two checkpoints inside an epoch
METRICS_SECONDS = 1.0  # between two rows of metrics


class Session:
    """Ties what was read, a network, a trainer and three files together. Made by `start` or `resume`.

    task: what makes it a run of its task (`nblstm.tasks.run`). From then on to the end of `run` a lock keeps every other
    run from the same files. saved_step: the one that the checkpoint was last written at, or that the session began with.
    """

    def __init__(
        self, task: TaskRun, output: Path, facts: dict[str, Any], material: Material, trainer: Trainer,
        on_message: Callable[[str], None], lock: Lock | None, ranks: ProcessGroup = ALONE,
    ) -> None:  # fmt: skip
        self.task, self.output, self.facts, self.material, self.trainer = task, output, facts, material, trainer
        self.on_message, self.lock, self.ranks = on_message, lock, ranks
        self.saved_step = trainer.step
        self.checkpoint = checkpoint_path(output)
        rows = MetricsFile if ranks.rank == 0 else NoMetrics
        self._rows = rows(metrics_path(output), task.MEASURES, on_message)
        self.keep = self.sample = 0  # models of validations that are kept, tokens that are written after each
        self.first_step = trainer.step
        self._snapshots: Snapshots | None = None
        self._texts: EarlyTexts | None = None
        self._finished: Any = None  # the model of a run that is over
        self._model_fails = False  # whether the last model could not be written
        join_ranks(ranks, material, trainer)
        slow = kernels.fallback(trainer.network.config.cells[0], trainer.config.device, trainer.config.precision)
        if slow:
            on_message(slow)

    # ------------------------------------------------------------ making one

    @classmethod
    def start(
        cls,
        paths: Sequence[str],
        output: str | os.PathLike[str] = OUTPUT,
        *,
        valid: Sequence[str] = (),
        task: str = "language",
        places: Mapping[str, Sequence[str]] | None = None,
        text: Config | None = None,
        model: Mapping[str, Any] | None = None,
        config: Recipe | None = None,
        init_from: str | os.PathLike[str] | None = None,
        teacher: Any = None,
        extend_vocabulary: bool = False,
        overwrite: bool = False,
        on_message: Callable[[str], None] = lambda message: None,
        ranks: ProcessGroup = ALONE,
    ) -> Session:
        """Start a new run.

        task: of RUNS; what it takes is in its RunSettings. paths, valid: its places "corpus" and "valid"; places: its
        others. text: how they are read. model: fields of the network's config, without those that the data give.
        config: the recipe. init_from: a model file whose shape, vocabulary and weights to start from.
        teacher: a language model, or the file of one, whose distributions and vocabulary to learn.
        extend_vocabulary: add the text's other tokens to that vocabulary. overwrite: replace an earlier run at the output,
        which is renamed otherwise (`set_aside`). on_message: called with sentences for the user.
        ranks: those that train together, each with a session that is started alike.
        Raises ConfigError, TextError or ModelFileError before anything is written; TrainingError if another run writes
        to the output.
        """
        output, run, asked = Path(output), run_of(task), dict(model or {})
        reading: Any = run.SETTINGS.reading() if text is None else text
        recipe = run.SETTINGS.recipe() if config is None else config
        guide = load_teacher(teacher, task, output)
        run.check(reading, run.draft(asked), recipe)  # errors are found before anything is read
        check_divides(ranks, run, recipe)
        ranks.lead(lambda: check_folder(output))
        with _claimed(output, ranks) as lock:
            ranks.lead(lambda: check_existing(output, run.SETTINGS.network.KEY))
            kernels.load(recipe.device)
            if extend_vocabulary and init_from is None:
                raise ConfigError("extend_vocabulary adds to the vocabulary of a model; name one with init_from.")
            base: Any = load(init_from, [task]) if init_from is not None else None
            kept: Any = kept_shape(base.config, asked) if base else None
            recipe = distilling(recipe, kept or run.draft(asked), guide, extend_vocabulary)
            known = run.known_of_model(base or guide) if base or guide else None
            stored_places = absolute_places({"corpus": paths, "valid": valid, **(places or {})}, run)
            if ranks.size > 1 and STDIN in sum(stored_places.values(), []):
                raise ConfigError(f"standard input reaches one of {ranks.size} processes; save the text in a file.")
            if extend_vocabulary:
                material, reading = ranks.once_per_machine(
                    partial(run.read_growing, stored_places, reading, recipe, known, on_message)
                )
            else:
                reading = reading if known is None else run.reading_of(known, reading)
                material = ranks.once_per_machine(partial(run.read, stored_places, reading, recipe, known, on_message))
            shape: Any = kept or run.SETTINGS.network.from_dict(run.fields(material, asked))
            if extend_vocabulary:
                shape = dataclasses.replace(shape, vocab_size=len(material.vocabulary))
            fitted = {name: getattr(recipe, name) for name in run.FITTED}
            facts = {**stored_places, "text": reading.to_dict(), "asked": fitted, **teacher_facts(guide, teacher)}
            recipe = run.fitted(recipe, material, on_message)
            parameters = base.parameters.copy() if base else run.initial(shape, recipe, material)
            if extend_vocabulary:
                parameters = grown(parameters, base.config, run.initial(shape, recipe, material), shape)
            trainer = run.trainer(shape, parameters, recipe, material, on_message)
            start_teaching(trainer, guide, material.vocabulary)
            if not overwrite:
                ranks.lead(partial(set_aside, output, on_message))
            return cls(run, output, facts, material, trainer, on_message, lock, ranks)

    @classmethod
    def resume(
        cls,
        output: str | os.PathLike[str] = OUTPUT,
        *,
        paths: Sequence[str] = (),
        valid: Sequence[str] = (),
        places: Mapping[str, Sequence[str]] | None = None,
        changes: Mapping[str, Any] | None = None,
        task: str | None = None,
        teacher: Any = None,
        on_message: Callable[[str], None] = lambda message: None,
        ranks: ProcessGroup = ALONE,
    ) -> Session:
        """Go on exactly where the checkpoint beside `output` was taken.

        paths, valid, places: where the corpus is now, if it has moved. changes: fields of the recipe, of RESUMABLE.
        task: that of the run, if it must be this one. teacher: where it is now, or itself.
        ranks: those that go on together, however many there were before.
        Raises ModelFileError without an intact checkpoint, TrainingError if the text is not the same or another run
        writes to the output.
        """
        output = Path(output)
        ranks.lead(lambda: check_files(output))
        with _claimed(output, ranks) as lock:
            tensors, facts = ranks.agree(ranks.lead(lambda: read_checkpoint(checkpoint_path(output))))
            try:
                run = stored_run(facts)
                check_task(run, task)
                shape: Any = run.SETTINGS.network.from_dict(facts["model"])
                reading: Any = run.SETTINGS.reading.from_dict(facts["text"])
                stored = {**vars(reading), **vars(shape), **facts["model"]}
                recipe = changed_recipe(
                    run.SETTINGS.recipe.from_dict(facts["config"]), dict(changes or {}), stored, facts["asked"]
                )
                check_divides(ranks, run, recipe)
                kernels.load(recipe.device)
                guide = stored_teacher(facts, teacher, run.TASK)
                known = run.known(facts)
                moved = absolute_places({"corpus": paths, "valid": valid, **(places or {})}, run)
                facts = {**facts, **{name: new for name, new in moved.items() if new}}
                where = {name: facts.get(name, []) for name in moved}
                with where_it_was(moved):
                    material = ranks.once_per_machine(
                        partial(run.read_again, where, reading, recipe, known, facts["fingerprint"])
                    )
                if material.fingerprint != facts["fingerprint"]:
                    raise TrainingError(
                        "the text is not the one this run was started on; start a new run with another output."
                    )
                empty = np.zeros(shape.num_parameters, shape.dtype)
                trainer = run.trainer(shape, empty, recipe, material, lambda message: None)
                start_teaching(trainer, guide, material.vocabulary)
                trainer.restore(tensors, facts["trainer"])
            except (KeyError, TypeError) as error:
                raise ModelFileError(f"{checkpoint_path(output)} is damaged ({error!r}); start the run anew.") from None
            return cls(run, output, facts, material, trainer, on_message, lock, ranks)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self._unlock()

    def _unlock(self) -> None:
        """Let others write, where this rank has the lock."""
        if self.lock is not None:
            self.lock.release()

    # ------------------------------------------------------------ running

    def rehearse(self) -> None:
        """Let several ranks compile their kernels while signals still end them at once, rank 0 for the cache of all."""
        if self.ranks.size > 1:
            self.ranks.lead(lambda: rehearse(self.trainer))
            rehearse(self.trainer)

    def run(self, stop: Callable[[], bool] = lambda: False) -> Generator[Report, None, None]:
        """Train, and save: the model at every best validation, the checkpoint once a minute and at the end.

        Reports come after their files are safe. When the iterator ends, is closed or interrupted, the last whole update
        is saved. DivergenceError if training diverges and the config does not say rollback, or has done so often
        enough: the model file then holds the last good weights.
        """
        try:
            if self._rolls_back and not self.trainer.step:
                self._save_checkpoint()  # there must be one to go back to
            while (yield from self._attempt(stop)):
                pass
            self.save()
            self._finish(stop)
        except TrainingError:
            self._save_now_or_later(self._save_model)
            raise
        except (
            GeneratorExit,
            KeyboardInterrupt,
            SystemExit,
        ) as error:  # the caller has seen enough, or a signal's handler
            if self.trainer.kept_step != self.saved_step and self.ranks.all_know(error):
                self.save()
            raise
        finally:
            self._unlock()

    def _attempt(self, stop: Callable[[], bool]) -> Generator[Report, None, bool]:
        """Train to the end, or until training diverges and is taken back to the checkpoint; tell whether it is."""
        self._rows.open(self.trainer.step)
        saved = written = self._now()
        try:
            for report in self.trainer.run(stop):
                now = self._now()
                if report.validated and report.improved:
                    self._save_now_or_later(self._save_model)
                if report.validated and self.ranks.rank == 0:
                    report = self._after_validation(report)
                if report.validated or now - saved > SAVE_SECONDS:
                    self._save_now_or_later(self.save)
                    saved = now
                if report.validated or now - written > METRICS_SECONDS:
                    self._rows.write(report)
                    written = now
                yield report
        except DivergenceError as error:
            if not self._rolls_back:
                raise
            self._roll_back(error)
            return True
        finally:
            self._rows.close()
        return False

    def _now(self) -> float:
        """Return seconds of a clock that is the same for all ranks."""
        return self.ranks.agree(time.monotonic())

    def _after_validation(self, report: Report) -> Report:
        """Keep the model, and let it write, where that is asked for; return the report with what it has written."""
        value = self.trainer.last_value
        if self.keep and value is not None:
            kept = self._snapshots = self._snapshots or Snapshots(self.output, self.keep, self.first_step > 0)
            present = lambda: self.present_model(report.valid_loss)
            self._save_now_or_later(lambda: kept.offer(present, report.epoch, value))
        if not self.sample:
            return report
        written = self.present_model(report.valid_loss).generate_many(n=self.sample, seed=report.step, backend="cpu")[0]
        self._save_now_or_later(lambda: self._add_text(report, written))
        return dataclasses.replace(report, sample=written)

    def _add_text(self, report: Report, text: str) -> None:
        self._texts = self._texts or EarlyTexts(history_path(self.output), self.first_step)
        self._texts.add(report.step, report.epoch, report.valid_loss, text)

    @property
    def _rolls_back(self) -> bool:
        """Whether the next divergence is answered by going back."""
        return self.trainer.config.on_divergence == "rollback" and self.facts.get("rollbacks", 0) < MAX_ROLLBACKS

    def _roll_back(self, error: DivergenceError) -> None:
        """Go back to the last checkpoint with half the rate, which the checkpoint then has, too."""
        tensors, facts = self.ranks.agree(self.ranks.lead(lambda: read_checkpoint(self.checkpoint)))
        config = self.task.SETTINGS.recipe.from_dict(facts["config"])
        self.facts["asked"].setdefault("lr", config.lr)  # a resumed run may still be given it
        self.facts["rollbacks"] = count = self.facts.get("rollbacks", 0) + 1
        config = dataclasses.replace(config, lr=config.learning_rate / 2)
        self.trainer.go_back(config, tensors, facts["trainer"])
        self.first_step, self._texts = self.trainer.step, None  # what was written since did not happen
        self._save_checkpoint()
        self.on_message(
            f"{str(error).partition(':')[0]}: back to step {self.trainer.step:,} with half the learning rate, "
            f"{config.lr:g} ({count} of {MAX_ROLLBACKS} times)."
        )

    def save(self) -> None:
        """Write the checkpoint, and the model where no validation has written a better one.

        Where an error has ended an update in its middle, the checkpoint stays, and the model is that of before.
        """
        if self.ranks.agree(self.trainer.best_loss is None or self._model_fails or not self.output.exists()):
            self._save_model()
        if self.trainer.whole:
            self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        facts = {
            **({"task": self.task.TASK} if self.task.MARK else {}),
            **self.facts,
            "fingerprint": self.material.fingerprint,
            **self.task.stored(self.material),
            "model": self.trainer.network.config.to_dict(),
            "config": self.trainer.config.to_dict(),
            "trainer": self.trainer.facts(),
        }
        tensors = self.trainer.tensors()
        self.ranks.lead(lambda: save_checkpoint(self.checkpoint, tensors, facts))
        self.saved_step = self.trainer.kept_step

    def _finish(self, stop: Callable[[], bool]) -> None:
        """Write the model of a run that is over with what only such a one has, unless stopped meanwhile."""
        self._finished = finished_model(self.task, self.trainer, self.model(), self.material, self.ranks.agreed(stop))
        if self._finished is not None:
            self._save_model()

    def model(self) -> Any:
        """Return the best model so far."""
        return self._model_of(self.trainer.keep()) if self._finished is None else self._finished

    def present_model(self, valid_loss: float | None) -> Any:
        """Return the model as it is now. valid_loss: what a validation has found."""
        return self._model_of(self.trainer.present(), valid_loss=valid_loss)

    def _model_of(self, parameters: np.ndarray, **facts: Any) -> Any:
        names = {place: list(map(base_name, self.facts.get(place, []))) for place in self.task.SETTINGS.places}
        training = {**self.task.training(names, self.material, self.trainer), "text": self.facts["text"]}
        return self.task.model(self.trainer.network.config, self.material, parameters, {**training, **facts})

    def _save_model(self) -> None:
        self._model_fails = True
        self.ranks.lead(lambda: self.model().save(self.output))
        self._model_fails = False

    def _save_now_or_later(self, save: Callable[[], None]) -> None:
        """Save; a full disk in the middle of a run is worth a warning: the next save may succeed."""
        try:
            save()
        except ModelFileError as error:
            self.on_message(f"warning: not saved: {error}")


@contextlib.contextmanager
def _claimed(output: Path, ranks: ProcessGroup) -> Iterator[Lock | None]:
    """Lock a run's files for a block, by rank 0 alone, which is given the lock."""
    with contextlib.ExitStack() as held:
        yield ranks.lead(lambda: held.enter_context(locked(output)))
