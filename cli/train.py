"""nblstm train: text files -> a model file."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import click
from nblstm.cli import ranks
from nblstm.cli.names import Command
from nblstm.cli.options import CLASS_WEIGHTS, FILE, MODEL, TOKEN_WEIGHTS, given, run_setting
from nblstm.cli.signals import check, exit_code
from nblstm.cli.spelling import in_options

from nblstm.config import DEFAULT_BUCKETS, DEFAULT_MAX_VOCAB, DEFAULT_SUBWORDS, LEVELS
from nblstm.errors import ConfigError
from nblstm.nn.pooling import POOLINGS
from nblstm.reporting.durations import duration_text
from nblstm.tasks.classification.config import MONITORS
from nblstm.tasks.language.config import LANGUAGE_HEADS
from nblstm.tasks.registry import VERBS, run_named, settings_of, verbs_having
from nblstm.tasks.tagging.config import TAG_HEADS
from nblstm.tasks.tagging.settings import TAG_MONITORS
from nblstm.tasks.translation.config import ATTENTIONS, MONITORS_OF_TRANSLATION

OF_LANGUAGE = dict.fromkeys(("demo", "sample"), ["language"])  # options that are no settings, of some tasks
ARGUMENTS = {"sample": "-n 100"}  # of the command that uses the model, to be shown; others have a FILE
WATCHED = list(dict.fromkeys((*MONITORS, *MONITORS_OF_TRANSLATION, *TAG_MONITORS)))
OF_SOME = "Options of several tasks"
FEW_UPDATES = 50  # a model of fewer has learned next to nothing


class TrainCommand(Command):
    """The command, whose help parts the options by the tasks that have them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of all tasks, then those of some."""
        parts: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                verbs = [*OF_LANGUAGE.get(param.name or "", verbs_having(param.name or ""))]
                alike, some = not verbs or len(verbs) == len(VERBS), len(verbs) > 1
                title = "Options" if alike else OF_SOME if some else f"Options of --task {verbs[0]}"
                record = (record[0], f"{record[1]}  [of {', '.join(verbs)}]") if some and not alike else record
                parts.setdefault(title, []).append(record)
        for title, records in sorted(parts.items(), key=lambda part: part[0] == OF_SOME):
            with formatter.section(title):
                formatter.write_dl(records)


@click.command("train", cls=TrainCommand)
@click.argument("corpus", nargs=-1, metavar="CORPUS...", type=FILE)
@click.option(
    "-o", "--output", default=MODEL, show_default=True, metavar="FILE", type=FILE, help="Model file to write."
)
@click.option(
    "--valid", multiple=True, metavar="FILE", type=FILE, help="Validation text (repeatable); else the end of CORPUS."
)
@click.option("--source", multiple=True, metavar="FILE", type=FILE, help="Sources, a line each (repeatable) ...")
@click.option("--target", multiple=True, metavar="FILE", type=FILE, help="... and their targets, in place of CORPUS.")
@click.option("--valid-source", multiple=True, metavar="FILE", type=FILE, help="Sources to validate with ...")
@click.option("--valid-target", multiple=True, metavar="FILE", type=FILE, help="... and their targets.")
@click.option(
    "--vectors", metavar="FILE", type=FILE, help="Vectors that words begin with, in word2vec's or GloVe's text form."
)
@click.option("--task", type=click.Choice(list(VERBS)), help="What the model is for.  [default: language]")
@click.option("--demo", is_flag=True, help="Train for a minute on the help texts that come with Python.")
@click.option("--resume", is_flag=True, help="Go on with the run that wrote the checkpoint beside the output.")
@click.option("--init-from", metavar="FILE", type=FILE, help="Start from the weights and the vocabulary of this model.")
@click.option(
    "--extend-vocabulary", is_flag=True, help="With --init-from: add the tokens that the model does not have."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
@run_setting("level", "What a token is.")
@run_setting("source_level", "What a token of the sources is; else as of the targets.", type=click.Choice(LEVELS))
@run_setting("shared_vocabulary", "Give both sides one vocabulary, and its tokens one vector each.")
@run_setting("tokenizer", "How text is cut into words; whitespace is for pre-tokenised text.")
@run_setting("min_count", "Rarer tokens become <unk>.")
@run_setting(
    "max_vocab",
    f"Keep the most frequent tokens, <unk> (and <end>) included.  [default: {DEFAULT_MAX_VOCAB}; of sub-words "
    f"{DEFAULT_SUBWORDS}]",
    flags=("--vocab-size",),
)
@run_setting("encoding", "Encoding of the files.")
@run_setting("newline", "lf reads CRLF and CR as LF; keep as they are.  [default: lf, at byte level keep]")
@run_setting("include", "Of folders read only files of such names, as in '*.txt'; what is no text is skipped.")
@run_setting("valid_fraction", "Share of the text (of the documents), at its end, kept for validation.")
@run_setting("text_column", "Of tables (CSV, TSV, JSONL): the column of the texts. Of language, a document is a row.")
@run_setting("label_column", "And the column of the labels; else a line is text TAB label.")
@run_setting("context_column", "And the column of what a text is written to: sample --context writes to it.")
@run_setting("token_column", "The column of the words, from 1 on, or from the last one, -1, backwards.")
@run_setting("tag_column", "And the column of the tags.")
@run_setting("lowercase", "Look words up in lower case; their spelling keeps its capitals.")
@run_setting("zero_digits", "And with a 0 for every digit.")
@run_setting("documents", "What is a text of its own, with an end; without it all is one stream of text.")
@run_setting("hidden_size", "Units per layer.")
@run_setting("num_layers", "Recurrent layers.")
@run_setting("cell", "What a layer computes with.")
@run_setting("nonlinearity", "Of an rnn.")
@run_setting("proj_size", "Of an lstm: project its output to so many numbers; 0 is off.")
@run_setting("peepholes", "Of an lstm: let its gates see the cell state.")
@run_setting("mogrifier_rounds", "Of a mogrifier-lstm: how often input and output gate each other.")
@run_setting("layer_norm", "Normalise what goes into the gates.")
@run_setting("residual", "Add a layer's input to its output, where their sizes match.")
@click.option(
    "--bidirectional/--no-bidirectional",
    default=None,
    help="Read in both directions; a language model then fills in masked tokens, and cannot generate.  "
    "[classify, and the encoder of translate: both]",
)
@run_setting("mask_fraction", "Of a bidirectional model: share of the tokens hidden at a time.")
@run_setting("attention", "How a step of the decoder looks at its source.", type=click.Choice(ATTENTIONS))
@run_setting("input_feeding", "Let a step read what the one before has found in its source; several times slower.")
@run_setting("pooling", "How the outputs of all steps of a text become one vector.", type=click.Choice(list(POOLINGS)))
@run_setting("max_length", "Tokens of a text that are read, from its start.")
@run_setting("learned_state", "Train the state before a text, too.")
@run_setting("char_embedding_size", "Size of a character's vector.")
@run_setting("char_hidden_size", "Units that read a word's characters, in each direction; 0 is off.")
@run_setting("max_characters", "Characters of a word that are read, from its start.")
@run_setting(
    "head",
    "What the output layer sees: the last layer's output (linear), or its cell state as well (cell); of a language model "
    "of words adaptive: rare words in clusters, many times faster; of a tagger whether tags are chosen together (crf) or "
    "each by itself (softmax).",
    type=click.Choice([*LANGUAGE_HEADS, *TAG_HEADS]),
)
@run_setting(
    "cutoffs", "Of an adaptive head: how many of the most frequent words come before each cluster, as in 2000,10000; "
    "without it the text's counts choose.", metavar="N,N...",
)  # fmt: skip
@run_setting("embedding_size", "Size of a token's vector; 0 means the hidden size.")
@run_setting("tie", "Let the output layer share the embedding's weights.")
@run_setting("dropout", "Between layers: share of the outputs zeroed while training.")
@run_setting("input_dropout", "The same behind the embedding.")
@run_setting("output_dropout", "The same behind the last layer.")
@run_setting("embedding_dropout", "Share of the tokens whose whole vector is zeroed in an update.")
@run_setting("variational_dropout", "Behind embedding and layers: the same units at all steps of a text.")
@run_setting("weight_dropout", "Share of the recurrent weights zeroed in an update.")
@run_setting("batch_size", "Streams, or documents, read side by side.")
@run_setting("bptt", "Tokens between two updates.")
@run_setting("buckets", "Documents: longest lengths of the buckets (10,20,40), <end> counted, or auto.")
@run_setting("num_buckets", f"Documents: how many buckets auto makes.  [default: {DEFAULT_BUCKETS}]")
@run_setting("tokens_per_batch", "Documents: fill batches with so many tokens, not --batch-size texts.")
@run_setting("optimizer", "Update rule.")
@run_setting("lr", "Learning rate; without it 0.005 (adam, adamw), 1 (sgd), 0.002 (rmsprop) or 10 (asgd).")
@run_setting("momentum", "For sgd.")
@run_setting("nesterov", "For sgd: look ahead along the momentum.")
@run_setting("averaging_patience", "For asgd: average once the loss is no better than so many validations ago.")
@run_setting("weight_decay", "L2 penalty; for adamw decoupled from the gradient.")
@run_setting(
    "lazy_embedding",
    "For adam, adamw: leave the vectors of tokens that an update's text lacks, and their moments, as they are.",
)
@run_setting("label_smoothing", "Share of a target's probability spread over all tokens; not in validation.")
@click.option(
    "--token-weights", type=TOKEN_WEIGHTS, metavar="FILE",
    help="JSON object, token -> how much it counts as a target (0: not at all; others: 1); not in validation.",
)  # fmt: skip
@run_setting("bayes_init", "Let words begin with how much more the texts of each label have them (the default).")
@run_setting(
    "class_weights", "balanced: every label counts alike; or a JSON object, label -> how much its texts count.",
    type=CLASS_WEIGHTS, metavar="FILE",
)  # fmt: skip
@run_setting("monitor", "The measure in validation by which the best weights are kept.", type=click.Choice(WATCHED))
@run_setting("unknown_fraction", "Share of the updates in which a word that was seen once is read as <unk>.")
@run_setting("schedule", "How the learning rate changes.")
@run_setting("lr_decay", "exponential, step: factor per epoch; plateau: factor per plateau.")
@run_setting("decay_after", "step: epochs at the full rate; plateau: epochs without improvement.")
@run_setting("warmup", "cosine: updates of linear warm-up.")
@run_setting("clip", "Largest norm of the whole gradient; 0 is off.")
@run_setting("clip_value", "Largest single gradient; 0 is off.")
@run_setting(
    "epochs", "Stop after so many passes over the text; 15 (classify 10, tag 20) unless --steps or --minutes is given."
)
@run_setting("steps", "Stop after so many updates.")
@run_setting("minutes", "Stop so long after the first update; compiling kernels is not counted.")
@run_setting("patience", "Stop after so many epochs without a better validation; 0 is off.")
@run_setting("on_divergence", "stop; or rollback: to the last checkpoint with half the rate, three times at most.")
@run_setting("seed", "Of the initial weights and of dropout.")
@run_setting("threads", "0 means every core.")
@run_setting("device", "What computes: the processor, or an NVIDIA card (pip install 'nblstm[cuda]').")
@run_setting("wire", "How several processes send gradients to each other; bfloat16 takes half of the time.")
@run_setting("precision", "cuda: how weights and activations are stored; sums are always single.")
@run_setting(
    "valid_every", "Validate also inside an epoch, after so many updates, or after a time: 90s, 5m, 1h.",
    metavar="N|TIME",
)  # fmt: skip
@click.option(
    "--keep", type=click.IntRange(0), default=0,
    help="Keep the models of so many validations, those with the least loss, which is in their names.",
)  # fmt: skip
@click.option("--sample", type=click.IntRange(0), default=0, help="Show so many tokens of text after each validation.")
@click.option(
    "--tensorboard", metavar="DIR", type=FILE, help="Write curves there, too (pip install 'nblstm[tensorboard]')."
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    corpus: tuple[str, ...], output: str, valid: tuple[str, ...], demo: bool, resume: bool, init_from: str | None,
    extend_vocabulary: bool, overwrite: bool, task: str | None, keep: int, sample: int,
    tensorboard: str | None, quiet: bool, **settings: Any,
) -> int:  # fmt: skip
    """Train a model on text: files, folders, .gz files, or - for standard input.

    Writes the best model to the output, and beside it a checkpoint to --resume from and the metrics as CSV.
    Ctrl-C stops, saves and says how to go on.
    """
    from nblstm.cli.progress import Progress

    from nblstm.tasks.train import train
    from nblstm.text.demo import DEMO

    asked = given(settings)
    if demo:
        if corpus or resume:
            raise ConfigError("--demo brings its own text; leave out CORPUS and --resume.")
        corpus, asked = (DEMO,), {**_demo_settings(settings_of(run_named(task or "language")).demo, asked), **asked}
    if not corpus and not resume and "source" not in asked:
        raise ConfigError("name the text to train on, or try --demo.")
    progress, context = Progress(sys.stderr, quiet or ranks.is_silent()), click.get_current_context()
    run = RunShown(progress, None if tensorboard is None or ranks.is_silent() else _event_files(tensorboard))

    try:
        train(
            corpus, output, task=task, valid=valid, resume=resume, init_from=init_from, overwrite=overwrite, keep=keep,
            extend_vocabulary=extend_vocabulary, sample=sample, on_start=run.start, on_report=run.render,
            on_message=lambda message: progress.line(in_options(message, context.command)),
            stop=run.stop, mpi=True, **asked,
        )  # fmt: skip
    except KeyboardInterrupt:
        if not run.is_saved:
            raise
        run.stopped = True
    finally:
        run.end()
    return 0 if ranks.is_silent() else _conclude(run.session, run.first, run.stopped, progress)


def _event_files(folder: str) -> Any:
    """Begin event files in a folder."""
    from nblstm.reporting.tensorboard import EventFiles

    return EventFiles(folder)


class RunShown:
    """The run that the command has started. first: the step it began with; stopped: by a signal."""

    def __init__(self, progress: Any, events: Any = None) -> None:
        """events: files for TensorBoard that the reports are written to as well."""
        self.events = events
        self.progress, self.session, self.first, self.stopped = progress, None, 0, False
        self.told = False  # that kernels are compiled

    def start(self, session: Any) -> None:
        """Tell which model is trained on which text, and that kernels are being compiled."""
        self.session, self.first = session, session.trainer.step
        _introduce(session, self.progress)
        self._listen()

    def _listen(self) -> None:
        """Ask to be called when kernels are compiled."""
        from nblstm.kernels.cpu.jit import KernelCache  # not before it is known whether there is numba at all

        KernelCache.on_compile = self._compiling

    def _compiling(self) -> None:
        """Tell that kernels are compiled; that is asked for again once there is other news, on a terminal."""
        if self.progress.in_place or not self.told:
            self.progress.wait("compiling the kernels for this machine, once: about 10 s of work")
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
        step = self.session.trainer.step
        return step != self.first and step == self.session.saved_step

    def end(self) -> None:
        """Leave the terminal, and the kernels, as they were."""
        if self.events is not None:
            self.events.close()
        jit = sys.modules.get("nblstm.kernels.cpu.jit")
        if jit is not None and hasattr(jit, "KernelCache"):
            jit.KernelCache.on_compile = None
        self.progress.close()


def run_on_stderr() -> RunShown:
    """Show a run that is started from Python: on standard error, as the command does."""
    from nblstm.cli.progress import Progress

    return RunShown(Progress(sys.stderr))


def _demo_settings(demo: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the demo's recipe; a limit that the user gave replaces its minute. ConfigError for a task without any."""
    if demo is None:
        raise ConfigError("--demo trains a language model; leave out --task.")
    limited = {"epochs", "steps", "minutes"} & set(asked)
    return {name: value for name, value in demo.items() if name != "minutes" or not limited}


def _introduce(session: Any, progress: Any) -> None:
    """Tell which model is trained on what."""
    trainer = session.trainer
    c, t = trainer.network.config, trainer.config
    for head, line in session.task.introduce(session.material, trainer):
        progress.line(f"{head:<8}{line}")
    progress.line(f"model   {c.description}, {c.num_parameters:,} parameters, dropout {c.dropout:g}")
    size = session.ranks.size
    processes = f"{size} processes of " if size > 1 else ""
    place = (
        f"{processes}{trainer.network.threads} threads" if t.device == "cpu" else f"{t.device}, {t.precision} precision"
    )
    progress.line(f"recipe  {t.optimizer}, lr {t.lr:g}, {t.schedule}, {session.task.batches(t)}, {place}")
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
    from nblstm.cli.progress import speed

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


def _conclude(session: Any, first: int, stopped: bool, progress: Any) -> int:
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
    progress.line(f"saved   {output} ({output.stat().st_size / 1e6:.1f} MB)")
    if not stopped:
        name = session.task.next(trainer.network.config)
        progress.line(f"next    nblstm {name} {ARGUMENTS.get(name, 'FILE')}{_where(output, ' -m')}")
        return 0
    progress.line(f"stopped at step {trainer.step:,}; go on with: nblstm train --resume{_where(output, ' -o')}")
    return exit_code()


def _where(output: Any, option: str) -> str:
    """Return the option that names a run's output in a command, if one is needed."""
    return "" if str(output) == MODEL else f"{option} {shlex.quote(str(output))}"


def doubts(session: Any, stopped: bool) -> Iterator[str]:
    """Yield what speaks against a model that has just been trained. stopped: by a signal, so that it may go on."""
    trainer = session.trainer
    if trainer.step < FEW_UPDATES and not stopped:
        updates = f"{trainer.step} update{'s' * (trainer.step != 1)}"
        yield f"only {updates}, so it is hardly trained; raise --epochs, --steps or --minutes"
    for found in session.task.doubts(session.material, trainer):
        yield f"{found}; lower --lr, or train longer"
