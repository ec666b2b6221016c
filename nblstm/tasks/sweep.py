"""A sweep: a run for every combination of some settings, one after the other, with their files in one folder.

FOLDER/hidden-size-128_dropout-0.2.safetensors   the model of a run, beside it its checkpoint and its metrics
FOLDER/sweep.json                                what each run was asked for, and what it has come to
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nblstm import checks, kernels
from nblstm.config import said
from nblstm.errors import ConfigError, DivergenceError, ModelFileError, TrainingError
from nblstm.files.atomic import replacing
from nblstm.files.fields import AMOUNT, COUNT, OBJECT, STRING, Rule, fault
from nblstm.files.lock import Lock
from nblstm.tasks.outputs import check_folder, checkpoint_path
from nblstm.tasks.registry import run_named, run_of, split_settings, verb_of
from nblstm.tasks.session import Session
from nblstm.tasks.train import train
from nblstm.text.sources import STDIN, regular
from nblstm.training.report import BEST_MEASURES, Report

SWEEP_RECORD = "sweep.json"
MAX_RUNS = 1000  # more are a typing error
LONGEST_NAME = 120  # characters of a run's name; a longer one ends in its digest
TOKENS = ("level", "tokenizer", "min_count", "max_vocab", "lowercase", "zero_digits")  # how a text becomes tokens
BEGUN, FINISHED, DIVERGED = STATES = ("begun", "finished", "diverged")
RECORDED = {
    "asked": OBJECT, "state": Rule(f"one of {', '.join(STATES)}", lambda value: value in STATES),
    "fingerprint": STRING, "measures": BEST_MEASURES, "epochs": AMOUNT, "steps": COUNT, "seconds": AMOUNT,
}  # fmt: skip
NOT_YET: dict[str, Any] = {
    "state": BEGUN, "fingerprint": "", "measures": {}, "epochs": 0.0, "steps": 0, "seconds": 0.0,
}  # fmt: skip


class SweptRun(NamedTuple):
    """One run of a sweep. varied: its values of the settings that vary. settings: all that it was asked for."""

    name: str
    output: Path
    varied: dict[str, Any]
    settings: dict[str, Any]


class Sweep:
    """The runs of a folder. runs: all of them, in order. records: name -> what has become of it, as RECORDED says."""

    def __init__(
        self, corpus: Any, folder: str | os.PathLike[str], vary: Mapping[str, Sequence[Any]], *, valid: Any = (),
        task: str | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        """Check everything that can be wrong, and write nothing.

        corpus, valid, task, settings: as of `nblstm.train`. vary: setting -> its values. ConfigError for a wrong
        setting, for runs whose losses cannot be compared, and for a folder with other runs; ModelFileError for a
        damaged record.
        """
        self.corpus, self.valid = checks.paths("corpus", corpus), checks.paths("valid", valid)
        self.folder = Path(checks.path("folder", folder))
        self.task = run_named(task or "language")
        self.runs = [self._run(varied, settings) for varied in combinations(vary, settings)]
        self.kind = self._check_settings(list(vary))
        self._check_texts(settings)
        self.records = self._recorded()

    def _run(self, varied: dict[str, Any], settings: Mapping[str, Any]) -> SweptRun:
        name = swept_name(varied)
        return SweptRun(name, self.folder / f"{name}.safetensors", varied, {**settings, **varied})

    # ------------------------------------------------------------ what can be wrong

    def _check_settings(self, names: Sequence[str]) -> Any:
        """Check the settings of every run, as its start would; return what makes runs of their task."""
        tasks, devices = set(), set()
        for one in self.runs:
            named, reading, network, recipe, _ = split_settings(one.settings, self.task)
            kind = run_of(named)
            made = kind.SETTINGS.recipe(**recipe)
            kind.check(kind.SETTINGS.reading(**reading), kind.draft(network), made)
            tasks |= {named}
            devices |= {made.device}
        fixed = kind.SETTINGS.reading.names() | {"mask_fraction"}
        fixed -= set() if kind.UNIT == "token" else set(TOKENS)
        for name in ["bidirectional"] if len(tasks) > 1 else filter(fixed.__contains__, names):
            raise ConfigError(
                f"{name} changes what is predicted, so that losses cannot be compared; give it one value."
            )
        for device in devices:
            kernels.load(device)
        return kind

    def _check_texts(self, settings: Mapping[str, Any]) -> None:
        """Raise ConfigError for a text that can be read only once, or none to validate with."""
        places = [*self.corpus, *self.valid]
        for name in self.kind.SETTINGS.places:
            places += checks.paths(name, settings.get(name, ()))
        if STDIN in places:
            raise ConfigError("a sweep reads its text several times, and standard input can be read once; name a file.")
        if settings.get("valid_fraction") == 0 and not (self.valid or settings.get("valid_source")):
            raise ConfigError("a sweep compares validation losses, so valid_fraction must be more than 0, got 0.")

    def _recorded(self) -> dict[str, dict[str, Any]]:
        """Read what has become of the folder's runs. ConfigError if one that is asked for now was another one."""
        if not self.folder.exists():
            check_folder(self.folder)  # that of the folder itself
            return {}
        if not self.folder.is_dir():
            raise ConfigError(f"{self.folder} is a file; name a folder as output.")
        check_folder(self.folder / SWEEP_RECORD)
        records = read_sweep(self.folder / SWEEP_RECORD)
        for one in self.runs:
            record = records.get(one.name)
            if record is None and (one.output.exists() or checkpoint_path(one.output).exists()):
                raise ConfigError(f"{one.output} exists and is no run of this sweep; choose another output.")
            if record is not None and record["asked"] != self._asked(one):
                changed = _first_difference(record["asked"], self._asked(one))
                raise ConfigError(f"{self.folder} holds a sweep with {changed}; choose another output.")
        return records

    def _asked(self, one: SweptRun) -> dict[str, Any]:
        """Return what makes a run the same one when it goes on, as JSON values: all but the number of threads."""
        places = {"corpus": self.corpus, "valid": self.valid}
        rest = {name: value for name, value in one.settings.items() if name != "threads"}
        for name in self.kind.SETTINGS.places:
            if name in rest:
                places[name] = checks.paths(name, rest.pop(name))
        absolute = {name: list(map(os.path.abspath, paths)) for name, paths in places.items()}
        return json.loads(json.dumps({"task": verb_of(self.task), **absolute, **rest}))

    # ------------------------------------------------------------ running

    def run(
        self,
        on_run: Callable[[int, SweptRun], None] = lambda number, one: None,
        on_start: Callable[[Session], None] = lambda session: None,
        on_report: Callable[[Report], None] = lambda report: None,
        on_end: Callable[[Session], None] = lambda session: None,
        on_message: Callable[[str], None] = lambda message: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train every run that is not done; one that was interrupted goes on where it was.

        on_run is called before each with its number, from 1, on_end after it; the others are those of `nblstm.train`.
        A run that diverges is recorded, and the next one comes. KeyboardInterrupt comes through once all is saved.
        TrainingError if another process has the folder, or the text is another one than that of the runs before.
        """
        self.folder.mkdir(exist_ok=True)
        lock = Lock(self.folder / SWEEP_RECORD)
        try:
            self.records = self._recorded()  # by now another process may have changed it
            for number, one in enumerate(self.runs, start=1):
                if not self.is_done(one):
                    on_run(number, one)
                    if self._train(one, on_start, on_report, on_end, on_message, stop):
                        return
        finally:
            lock.release()

    def is_done(self, one: SweptRun) -> bool:
        """Tell whether a run has ended by itself, and its model is there."""
        return self.records.get(one.name, NOT_YET)["state"] != BEGUN and one.output.exists()

    def _train(
        self, one: SweptRun, on_start: Callable[[Session], None], on_report: Callable[[Report], None],
        on_end: Callable[[Session], None], on_message: Callable[[str], None], stop: Callable[[], bool],
    ) -> bool:  # fmt: skip
        """Train a run and record it; tell whether it was stopped."""
        sessions: list[Session] = []

        def started(session: Session) -> None:
            self._check_same_text(one, session)
            sessions.append(session)
            on_start(session)

        asked = _Stop(stop)
        how: dict[str, Any] = {"on_start": started, "on_report": on_report, "on_message": on_message, "stop": asked}
        begun = one.name in self.records
        self._record(one, NOT_YET)
        state = FINISHED
        try:
            if begun and checkpoint_path(one.output).exists():
                train((), one.output, resume=True, **how)
            else:
                train(self.corpus, one.output, valid=self.valid, task=self.task, overwrite=begun, **how, **one.settings)
        except DivergenceError as error:
            state = DIVERGED
            on_message(f"warning: {error}")
        if asked.was:
            return True
        self._record(one, {"state": state, **_found(sessions[0])})
        on_end(sessions[0])
        return False

    def _check_same_text(self, one: SweptRun, session: Session) -> None:
        """Raise TrainingError if runs that are done have read another text in the same way."""
        for other in self.done():
            alike = all(one.settings.get(name) == other.settings.get(name) for name in TOKENS)
            if alike and self.records[other.name]["fingerprint"] != session.material.fingerprint:
                raise TrainingError(
                    f"the text is not the one that {other.output} was trained on; start the sweep with another output."
                )

    def _record(self, one: SweptRun, found: Mapping[str, Any]) -> None:
        """Write down what has become of a run."""
        self.records[one.name] = {"asked": self._asked(one), **found}
        with replacing(self.folder / SWEEP_RECORD) as file:
            file.write(json.dumps(self.records, indent=1).encode())

    # ------------------------------------------------------------ what they have come to

    def done(self) -> list[SweptRun]:
        """Return the runs that are done, that of the least validation loss first, those without one last."""
        done = [one for one in self.runs if self.is_done(one)]
        return sorted(done, key=lambda one: self.records[one.name]["measures"].get("loss", float("inf")))


class _Stop:
    """Asks whether to stop, and remembers that it `was` said."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self.stop, self.was = stop, False

    def __call__(self) -> bool:
        self.was = self.was or self.stop()
        return self.was


def combinations(vary: Mapping[str, Sequence[Any]], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List all combinations of the values of settings, the last setting varying fastest. ConfigError for none or many."""
    count = 1
    for name, values in vary.items():
        for value in values:
            if not isinstance(value, (str, int, float, bool)):
                raise ConfigError(f"{name} can vary over words and numbers, got {said(value)}.")
        if twice := [value for k, value in enumerate(values) if value in values[:k]]:
            raise ConfigError(f"{name} must have different values, got {said(twice[0])} twice.")
        if name in settings:
            raise ConfigError(f"{name} is fixed and varies; give it once.")
        count *= len(values)
    if count < 2:
        raise ConfigError(
            "a sweep needs a setting that varies, such as hidden_size with 128 and 256; give one more value."
        )
    if count > MAX_RUNS:
        raise ConfigError(f"a sweep has at most {MAX_RUNS:,} runs, got {count:,}; give fewer values.")
    return [dict(zip(vary, values)) for values in itertools.product(*vary.values())]


def swept_name(varied: Mapping[str, Any]) -> str:
    """Return the name of a run's files: hidden-size-128_dropout-0.2."""
    said_so = {name: swept_value(value) for name, value in varied.items()}
    plain = "_".join(f"{name.replace('_', '-')}-{value}" for name, value in said_so.items())
    name = re.sub(r"[^A-Za-z0-9._+-]", "-", plain)
    if name == plain and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.blake2b(plain.encode(), digest_size=4).hexdigest()}"


def swept_value(value: Any) -> str:
    """Return a value as it is typed: yes, no, a word or a number, 0 of 0.0."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def read_sweep(path: Path) -> dict[str, dict[str, Any]]:
    """Read the record of a sweep; nothing where there is none. ModelFileError if it is damaged."""
    try:
        with open(path, "rb", opener=regular) as file:
            records = json.loads(file.read())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError):
        records = None
    wrong = None if isinstance(records, dict) else "it must be a JSON object"
    for record in records.values() if wrong is None else ():
        wrong = wrong or fault(record, RECORDED)
    if wrong is not None:
        raise ModelFileError(f"{path} is not the record of a sweep: {wrong}; choose another output.")
    return records


def _found(session: Session) -> dict[str, Any]:
    """Return what a run has come to, for its record."""
    trainer = session.trainer
    return {
        "fingerprint": session.material.fingerprint, "measures": dict(trainer.best_measures), "epochs": trainer.epoch,
        "steps": trainer.step, "seconds": trainer.seconds,
    }  # fmt: skip


def _first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say the first setting in which two runs differ: "steps=10, not 20"."""
    name = next(name for name in {**new, **old} if old.get(name) != new.get(name))
    was, now = ("nothing" if name not in asked else said(asked[name]) for asked in (old, new))
    return f"{name} {was}, not {now}"
