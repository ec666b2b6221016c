"""nblstm train: text files -> a model file."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import click
from nblstm.cli.names import Command
from nblstm.cli.options import FILE, MODEL, TOKEN_WEIGHTS, given, setting
from nblstm.cli.signals import check, exit_code

from nblstm.config import DEFAULT_BUCKETS, DEFAULT_MAX_VOCAB, TextConfig, TrainConfig
from nblstm.errors import ConfigError
from nblstm.reporting.durations import duration_text
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.masked.config import MaskedConfig

FEW_UPDATES = 50  # a model of fewer has learned next to nothing
DEMO_SETTINGS = {"hidden_size": 128, "dropout": 0.2, "minutes": 1.0}


@click.command("train", cls=Command)
@click.argument("corpus", nargs=-1, metavar="CORPUS...", type=FILE)
@click.option(
    "-o", "--output", default=MODEL, show_default=True, metavar="FILE", type=FILE, help="Model file to write."
)
@click.option(
    "--valid", multiple=True, metavar="FILE", type=FILE, help="Validation text (repeatable); else the end of CORPUS."
)
@click.option("--demo", is_flag=True, help="Train for a minute on the help texts that come with Python.")
@click.option("--resume", is_flag=True, help="Go on with the run that wrote the checkpoint beside the output.")
@click.option("--init-from", metavar="FILE", type=FILE, help="Start from the weights and the vocabulary of this model.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
@setting(TextConfig, "level", "What a token is.")
@setting(TextConfig, "tokenizer", "How text is cut into words; whitespace is for pre-tokenised text.")
@setting(TextConfig, "min_count", "Rarer tokens become <unk>.")
@setting(
    TextConfig,
    "max_vocab",
    f"Keep the most frequent tokens, <unk> (and <end>) included.  [default: {DEFAULT_MAX_VOCAB}]",
)
@setting(TextConfig, "encoding", "Encoding of the files.")
@setting(
    TextConfig, "newline", "lf reads CRLF and CR as LF; keep as they are.  [default: lf, at byte level keep]"
)
@setting(TextConfig, "include", "Of folders read only files of such names, as in '*.txt'; what is no text is skipped.")
@setting(TextConfig, "valid_fraction", "Share of the text (of the documents), at its end, kept for validation.")
@setting(TextConfig, "documents", "What is a text of its own, with an end; without it all is one stream of text.")
@setting(LanguageConfig, "hidden_size", "Units per layer.")
@setting(LanguageConfig, "num_layers", "Recurrent layers.")
@setting(LanguageConfig, "cell", "What a layer computes with.")
@setting(LanguageConfig, "nonlinearity", "Of an rnn.")
@setting(LanguageConfig, "proj_size", "Of an lstm: project its output to so many numbers; 0 is off.")
@setting(LanguageConfig, "peepholes", "Of an lstm: let its gates see the cell state.")
@setting(LanguageConfig, "mogrifier_rounds", "Of a mogrifier-lstm: how often input and output gate each other.")
@setting(LanguageConfig, "layer_norm", "Normalise what goes into the gates.")
@setting(LanguageConfig, "residual", "Add a layer's input to its output, where their sizes match.")
@click.option(
    "--bidirectional/--no-bidirectional",
    default=None,
    help="Read in both directions; learns to fill in masked tokens, cannot generate.",
)
@setting(MaskedConfig, "mask_fraction", "Of a bidirectional model: share of the tokens hidden at a time.")
@setting(LanguageConfig, "learned_state", "Train the state before a text, too.")
@setting(LanguageConfig, "head", "What the output layer sees: the last layer's output, or its cell state as well.")
@setting(LanguageConfig, "embedding_size", "Size of a token's vector; 0 means the hidden size.")
@setting(LanguageConfig, "tie", "Let the output layer share the embedding's weights.")
@setting(LanguageConfig, "dropout", "Between layers: share of the outputs zeroed while training.")
@setting(LanguageConfig, "input_dropout", "The same behind the embedding.")
@setting(LanguageConfig, "output_dropout", "The same behind the last layer.")
@setting(LanguageConfig, "embedding_dropout", "Share of the tokens whose whole vector is zeroed in an update.")
@setting(LanguageConfig, "variational_dropout", "Behind embedding and layers: the same units at all steps of a text.")
@setting(LanguageConfig, "weight_dropout", "Share of the recurrent weights zeroed in an update.")
@setting(TrainConfig, "batch_size", "Streams, or documents, read side by side.")
@setting(TrainConfig, "bptt", "Tokens between two updates.")
@setting(TrainConfig, "buckets", "Documents: longest lengths of the buckets (10,20,40), <end> counted, or auto.")
@setting(TrainConfig, "num_buckets", f"Documents: how many buckets auto makes.  [default: {DEFAULT_BUCKETS}]")
@setting(TrainConfig, "tokens_per_batch", "Documents: fill batches with so many tokens, not --batch-size texts.")
@setting(TrainConfig, "optimizer", "Update rule.")
@setting(TrainConfig, "lr", "Learning rate; without it 0.005 (adam, adamw), 1 (sgd), 0.002 (rmsprop) or 10 (asgd).")
@setting(TrainConfig, "momentum", "For sgd.")
@setting(TrainConfig, "nesterov", "For sgd: look ahead along the momentum.")
@setting(
    TrainConfig, "averaging_patience", "For asgd: average once the loss is no better than so many validations ago."
)
@setting(TrainConfig, "weight_decay", "L2 penalty; for adamw decoupled from the gradient.")
@setting(TrainConfig, "label_smoothing", "Share of a target's probability spread over all tokens; not in validation.")
@click.option(
    "--token-weights", type=TOKEN_WEIGHTS, metavar="FILE",
    help="JSON object, token -> how much it counts as a target (0: not at all; others: 1); not in validation.",
)  # fmt: skip
@setting(TrainConfig, "schedule", "How the learning rate changes.")
@setting(TrainConfig, "lr_decay", "exponential, step: factor per epoch; plateau: factor per plateau.")
@setting(TrainConfig, "decay_after", "step: epochs at the full rate; plateau: epochs without improvement.")
@setting(TrainConfig, "warmup", "cosine: updates of linear warm-up.")
@setting(TrainConfig, "clip", "Largest norm of the whole gradient; 0 is off.")
@setting(TrainConfig, "clip_value", "Largest single gradient; 0 is off.")
@setting(TrainConfig, "epochs", "Stop after so many passes over the text; 15 unless --steps or --minutes is given.")
@setting(TrainConfig, "steps", "Stop after so many updates.")
@setting(TrainConfig, "minutes", "Stop so long after the first update; compiling kernels is not counted.")
@setting(TrainConfig, "patience", "Stop after so many epochs without a better validation loss; 0 is off.")
@setting(
    TrainConfig, "on_divergence", "stop; or rollback: to the last checkpoint with half the rate, three times at most."
)
@setting(TrainConfig, "seed", "Of the initial weights and of dropout.")
@setting(TrainConfig, "threads", "0 means every core.")
@setting(TrainConfig, "device", "What computes: the processor, or an NVIDIA card (pip install 'nblstm[cuda]').")
@setting(TrainConfig, "precision", "cuda: how weights and activations are stored; sums are always single.")
@click.option("--sample", type=click.IntRange(0), default=0, help="Show so many tokens of text after each epoch.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    corpus: tuple[str, ...], output: str, valid: tuple[str, ...], demo: bool, resume: bool, init_from: str | None,
    overwrite: bool, sample: int, quiet: bool, **settings: Any,
) -> int:  # fmt: skip
    """Train a model on text: files, folders, .gz files, or - for standard input.

    Writes the best model to the output, and beside it a checkpoint to --resume from and the metrics as CSV.
    Ctrl-C stops, saves and says how to go on.
    """
    from nblstm.cli.progress import Progress

    from nblstm.nn.decoder import check_writes
    from nblstm.tasks.session import train
    from nblstm.text.demo import DEMO

    asked = given(settings)
    if demo:
        if corpus or resume:
            raise ConfigError("--demo brings its own text; leave out CORPUS and --resume.")
        corpus, asked = (DEMO,), {**_demo_settings(asked), **asked}
    if not corpus and not resume:
        raise ConfigError("name the text to train on, or try --demo.")
    progress = Progress(sys.stderr, quiet)
    run = _Run(progress)

    def start(session: Any) -> None:
        if sample:
            check_writes(session.trainer.network.config)
        run.start(session)

    try:
        train(
            corpus, output, valid=valid, resume=resume, init_from=init_from, overwrite=overwrite, on_start=start,
            on_report=lambda report: _render(run.session, report, progress, sample), on_message=progress.line,
            stop=check, **asked,
        )  # fmt: skip
    except KeyboardInterrupt:
        if not run.is_saved:
            raise
        run.stopped = True
    finally:
        run.end()
    return _conclude(run.session, run.first, run.stopped, progress)


class _Run:
    """The run that the command has started. first: the step it began with; stopped: by a signal."""

    def __init__(self, progress: Any) -> None:
        self.progress, self.session, self.first, self.stopped = progress, None, 0, False

    def start(self, session: Any) -> None:
        """Tell which model is trained on which text, and that kernels are being compiled."""
        from nblstm.kernels.cpu.jit import KernelCache  # not before it is known whether there is numba at all

        self.session, self.first = session, session.trainer.step
        _introduce(session, self.progress)
        why = "compiling the kernels for this machine, once: about 10 s of work"
        KernelCache.on_compile = lambda: self.progress.line(why)

    @property
    def is_saved(self) -> bool:
        """Whether there is something new, and it is in the checkpoint."""
        if self.session is None:
            return False
        step = self.session.trainer.step
        return step != self.first and step == self.session.saved_step

    def end(self) -> None:
        """Leave the terminal, and the kernels, as they were."""
        jit = sys.modules.get("nblstm.kernels.cpu.jit")
        if jit is not None and hasattr(jit, "KernelCache"):
            jit.KernelCache.on_compile = None
        self.progress.close()


def _demo_settings(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the demo's recipe; a limit that the user gave replaces its minute."""
    limited = {"epochs", "steps", "minutes"} & set(asked)
    return {name: value for name, value in DEMO_SETTINGS.items() if name != "minutes" or not limited}


def _introduce(session: Any, progress: Any) -> None:
    """Tell which model is trained on which text."""
    corpus, trainer = session.corpus, session.trainer
    c, t, unit = trainer.network.config, trainer.config, f"{corpus.vocabulary.level}s"
    train = _size(corpus.train, corpus.train_offsets, unit) + " to train on" + _unknown(corpus.train_unknown)
    valid = _size(corpus.valid, corpus.valid_offsets, unit) + " to validate" + _unknown(corpus.valid_unknown)
    batch = t.batch_size if t.tokens_per_batch is None else f"{t.tokens_per_batch:,} tokens"
    progress.line(f"text    {train}, {valid}, vocabulary {len(corpus.vocabulary):,}")
    if corpus.train_offsets is not None:
        _introduce_buckets(trainer.source, progress)
    progress.line(f"model   {c.description}, {c.num_parameters:,} parameters, dropout {c.dropout:g}")
    place = f"{trainer.network.threads} threads" if t.device == "cpu" else f"{t.device}, {t.precision} precision"
    progress.line(f"recipe  {t.optimizer}, lr {t.lr:g}, {t.schedule}, batch {batch}, bptt {t.bptt}, {place}")
    if t.device == "cuda":
        _introduce_card(trainer, progress)
    if trainer.step:
        progress.line(f"resume  at step {trainer.step:,}, epoch {trainer.epoch:.2f}")


def _introduce_card(trainer: Any, progress: Any) -> None:
    """Tell the card's name, and the memory that training takes of it."""
    from nblstm.training.memory import card_bytes

    name, free = trainer.network.kernels.describe()
    room = "" if free is None else f", {free / 1e6:,.0f} MB free"
    needed = card_bytes(trainer.network.config, trainer.config)
    progress.line(f"card    {name}{room}; training takes up to {needed / 1e6:,.1f} MB of it")


def _unknown(count: int) -> str:
    """Tell how many tokens the vocabulary does not have, if any."""
    return f", {count:,} of them unknown" if count else ""


def _size(ids: Any, offsets: Any, unit: str) -> str:
    """Tell how much text there is; the <end> of documents is not counted."""
    if offsets is None:
        return f"{len(ids):,} {unit}"
    return f"{len(offsets) - 1:,} documents of {len(ids) - len(offsets):,} {unit}"


def _introduce_buckets(buckets: Any, progress: Any) -> None:
    """Tell how documents are batched, and what packing saves: on a card, time goes with the padded rectangles."""
    from nblstm.text.buckets import padding

    inside, outside = buckets.padding, padding(buckets.lengths, ())
    saved = 1 - (1 - outside) / (1 - inside)
    progress.line(f"buckets up to {', '.join(f'{length:,}' for length in buckets.longest)} tokens")
    progress.line(
        f"padding {100 * inside:.1f} % if batches were padded, {100 * outside:.1f} % in one bucket: "
        f"{100 * saved:.1f} % of the time saved"
    )


def _render(session: Any, report: Any, progress: Any, sample_tokens: int) -> None:
    """Show the bar after an update; a line of 80 columns at most, and a sample if asked, after an epoch."""
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
    best = " best" if report.improved and valid else ""
    progress.line(
        f"epoch {report.epoch:5.2f} step {report.step:5,}{train}{valid} "
        f"lr {report.lr:.2g} {speed(report.tokens_per_second)} {duration_text(report.seconds)}{best}"
    )
    if sample_tokens:
        progress.text("".join(session.model().generate(n=sample_tokens, seed=report.step, backend="cpu")))


def _conclude(session: Any, first: int, stopped: bool, progress: Any) -> int:
    """Tell why the run ended, where the model is and what to do next; return the exit code. first: its first step."""
    trainer, output = session.trainer, session.output
    where = "" if str(output) == MODEL else f" {shlex.quote(str(output))}"
    if not stopped and trainer.patience_is_over:
        progress.line(f"early   no better validation loss for {trainer.waited} epochs (--patience)")
    elif not stopped and trainer.step == first:
        progress.line("done    the run had reached its limit before; go on with more --epochs, --steps or --minutes")
    if trainer.best_loss is not None:
        loss = trainer.best_loss
        progress.line(f"best    valid {loss:.4f} nats per token, perplexity {math.exp(min(loss, 700)):.2f}")
    for warning in _doubts(trainer, len(session.corpus.vocabulary), stopped):
        progress.line(f"warning {warning}")
    progress.line(f"saved   {output} ({output.stat().st_size / 1e6:.1f} MB)")
    if not stopped:
        next_ = "score FILE" if trainer.network.config.directions == 2 else "sample -n 100"
        progress.line(f"next    nblstm {next_}{where and ' -m' + where}")
        return 0
    progress.line(f"stopped at step {trainer.step:,}; go on with: nblstm train --resume{where and ' -o' + where}")
    return exit_code()


def _doubts(trainer: Any, vocab_size: int, stopped: bool) -> Iterator[str]:
    """Yield what speaks against a model that has just been trained. stopped: by a signal, so that it may go on."""
    from nblstm.scoring import worse_than_guessing

    if trainer.step < FEW_UPDATES and not stopped:
        updates = f"{trainer.step} update{'s' * (trainer.step != 1)}"
        yield f"only {updates}, so it is hardly trained; raise --epochs, --steps or --minutes"
    if (found := worse_than_guessing(trainer.best_loss, vocab_size)) is not None:
        yield f"{found}; lower --lr, or train longer"
