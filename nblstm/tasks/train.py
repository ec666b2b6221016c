"""train: a model from files, in one call."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from nblstm import checks
from nblstm.config import MAX_SIZE, MAX_TOKENS
from nblstm.errors import ConfigError
from nblstm.tasks.in_memory import files_of
from nblstm.tasks.registry import RUNS, run_named, run_of, split_settings
from nblstm.tasks.session import OUTPUT, Session
from nblstm.training.mpi import world
from nblstm.training.ranks import ALONE, ProcessGroup
from nblstm.training.report import Report

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from nblstm.tasks.language.model import LanguageModel
    from nblstm.tasks.typed import TrainSettings

BAR = (
    "nblstm.cli.train_shown",
    "run_on_stderr",
)  # what makes the bar of a verbose run; it lies above, and is imported when asked for


def train(
    corpus: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    output: str | os.PathLike[str] = OUTPUT,
    *,
    valid: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    resume: bool = False,
    init_from: str | os.PathLike[str] | None = None,
    teacher: LanguageModel | str | os.PathLike[str] | None = None,
    extend_vocabulary: bool = False,
    overwrite: bool = False,
    keep: int = 0,
    sample: int = 0,
    on_start: Callable[[Session], None] = lambda session: None,
    on_report: Callable[[Report], None] = lambda report: None,
    on_message: Callable[[str], None] = lambda message: None,
    stop: Callable[[], bool] = lambda: False,
    task: str | None = None,
    text: str | None = None,
    texts: Iterable[str] | None = None,
    verbose: bool = False,
    mpi: bool = False,
    **settings: Unpack[TrainSettings],
) -> Any:
    """Train a model on files, save it at `output`, and return the best one.

    corpus, valid: a file or folder, or several. text, texts: in place of a corpus, one stream in memory, or documents.
    task: "language" (None) or "classify", whose files have lines of text TAB label, or of fastText's form, or are tables
    with text_column and label_column. settings: fields of the task's configs (TextConfig, LanguageConfig and TrainConfig,
    with bidirectional=True MaskedConfig; for "classify" those of TextClassifier), such as level="word", hidden_size=128,
    epochs=3. resume: go on with the run at `output`. init_from: a model whose shape, vocabulary and weights to start from;
    extend_vocabulary: add the tokens of the text that it does not have. teacher: a larger language model, or its file,
    whose vocabulary the new one gets, and whose distributions it learns beside the text (distil_temperature, distil_weight).
    overwrite: replace an earlier run at the output; else its files are renamed first, model.safetensors to
    model.1.safetensors, say.
    keep: also keep the models of so many validations, those with the least loss, as NAME.epochE.L.safetensors. sample: let
    the model write so many tokens after each validation; reports have the text, and NAME.samples.jsonl keeps it.
    verbose: show a bar on standard error, in notebooks, too. mpi: train one model in all processes that MPI has started,
    which all make this call; process 0 writes the files, and it alone calls on_start, on_report and on_message.
    on_start is called with the Session before the first update, on_report after every update with a Report, on_message
    with sentences for the user; training ends early once stop() is true.
    KeyboardInterrupt comes through once the last whole update is saved, so that resume goes on exactly.
    Raises NblstmError: ConfigError for a wrong setting, TextError for the corpus, TrainingError if it diverges.
    """
    checks.whole("keep", keep, 0, MAX_SIZE), checks.whole("sample", sample, 0, MAX_TOKENS)
    ranks = world() if checks.a(bool, "mpi", mpi) else ALONE
    asked: dict[str, Any] = dict(settings)
    with contextlib.ExitStack() as given:
        if text is not None or texts is not None:
            if checks.paths("corpus", corpus):
                raise ConfigError("corpus names files, and text or texts are in memory; give one of them.")
            corpus, how = given.enter_context(files_of(text, texts))
            asked = {**how, **asked}
        callbacks = (on_start, on_report, on_message) if ranks.rank == 0 else (_ignore,) * 3
        shown = given.enter_context(_shown(checks.a(bool, "verbose", verbose) and ranks.rank == 0, *callbacks, stop))
        with ranks.beginning():
            session = given.enter_context(
                _begun(
                    checks.paths("corpus", corpus), checks.path("output", output), checks.paths("corpus", valid), task,
                    asked, resume, init_from, teacher, checks.a(bool, "extend_vocabulary", extend_vocabulary), overwrite,
                    shown.on_message, ranks,
                )
            )  # fmt: skip
            if sample:
                session.task.check_writes(session.trainer.network.config)
            session.keep, session.sample = keep, sample
            shown.on_start(session)
            session.rehearse()
        with ranks.running(), contextlib.closing(session.run(shown.stop)) as reports:
            for report in reports:
                shown.on_report(report)
    return session.model()


def _ignore(value: Any) -> None:
    """Do nothing: process 0 tells."""


def _begun(
    paths: list[str], output: str, valid: list[str], task: str | None, settings: dict[str, Any], resume: bool,
    init_from: str | os.PathLike[str] | None, teacher: Any, extend_vocabulary: bool, overwrite: bool,
    on_message: Callable[[str], None], ranks: ProcessGroup,
) -> Session:  # fmt: skip
    """Start the session of a run, or take it up again."""
    asked = None if task is None else run_named(task)
    if resume:
        check_resume(init_from, overwrite or extend_vocabulary)
        changes, places = _parted(settings)
        return Session.resume(
            output, paths=paths, valid=valid, places=places, changes=changes, task=asked, teacher=teacher,
            on_message=on_message, ranks=ranks,
        )  # fmt: skip
    named, reading, model, config, others = split_settings(settings, asked or "language")
    kinds = run_of(named).SETTINGS
    return Session.start(
        paths, output, valid=valid, task=named, places=_paths(others), text=kinds.reading(**reading), model=model,
        config=kinds.recipe(**config), init_from=init_from, teacher=teacher, extend_vocabulary=extend_vocabulary,
        overwrite=overwrite, on_message=on_message, ranks=ranks,
    )  # fmt: skip


class _Callbacks(NamedTuple):
    """What a run calls."""

    on_start: Callable[[Session], None]
    on_report: Callable[[Report], None]
    on_message: Callable[[str], None]
    stop: Callable[[], bool]


@contextlib.contextmanager
def _shown(verbose: bool, *callbacks: Any) -> Iterator[_Callbacks]:
    """Give the callbacks of a run for a block, those of a bar on standard error before them where it is verbose."""
    theirs = _Callbacks(*callbacks)
    if not verbose:
        yield theirs
        return
    bar = getattr(import_module(BAR[0]), BAR[1])()

    def both(name: str, first: Callable[[Any], Any]) -> Callable[[Any], None]:
        return lambda value: (first(value), getattr(theirs, name)(value))[1]

    try:
        yield _Callbacks(
            both("on_start", bar.start), both("on_report", bar.render), both("on_message", bar.message),
            lambda: bar.stop() or theirs.stop(),
        )  # fmt: skip
    finally:
        bar.end()


def _parted(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Part the settings of a run that goes on into (changes, places). ConfigError for a name that no task has."""
    kinds = [run_of(task).SETTINGS for task in RUNS]
    for name in settings:
        if not any(name in kind.names() for kind in kinds):
            raise checks.no_setting(name, set().union(*(kind.names() for kind in kinds)))
    places = {name: value for name, value in settings.items() if any(name in kind.places for kind in kinds)}
    return {name: value for name, value in settings.items() if name not in places}, _paths(places)


def _paths(places: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the paths of every place. ConfigError for what is none."""
    return {name: checks.paths(name, value) for name, value in places.items()}


def check_resume(init_from: str | os.PathLike[str] | None, overwrite: bool) -> None:
    """Raise ConfigError if a run is to be resumed and started at once."""
    if init_from is not None or overwrite:
        raise ConfigError("resume=True goes on with a run; it cannot be combined with init_from or overwrite=True.")
