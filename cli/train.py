"""nblstm train: text files -> a model file."""

from __future__ import annotations

import math
import shlex
import signal
import sys
from typing import Any

import click

from nblstm.cli.options import MODEL, TOKEN_WEIGHTS, given, setting
from nblstm.config import DEFAULT_BUCKETS, ModelConfig, TextConfig, TrainConfig, check_writes
from nblstm.errors import ConfigError

DEMO_SETTINGS = {"hidden_size": 128, "dropout": 0.2, "minutes": 1.0}


@click.command("train")
@click.argument("corpus", nargs=-1, metavar="CORPUS...")
@click.option("-o", "--output", default=MODEL, show_default=True, metavar="FILE", help="Model file to write.")
@click.option("--valid", multiple=True, metavar="FILE", help="Validation text (repeatable); else the end of CORPUS.")
@click.option("--demo", is_flag=True, help="Train for a minute on the help texts that come with Python.")
@click.option("--resume", is_flag=True, help="Go on with the run that wrote the checkpoint beside the output.")
@click.option("--init-from", metavar="FILE", help="Start from the weights and the vocabulary of this model.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
@setting(TextConfig, "level", "What a token is.")
@setting(TextConfig, "tokenizer", "How text is cut into words; whitespace is for pre-tokenised text.")
@setting(TextConfig, "min_count", "Rarer tokens become <unk>.")
@setting(TextConfig, "max_vocab", "Keep the most frequent tokens, <unk> (and <end>) included.")
@setting(TextConfig, "encoding", "Encoding of the files.")
@setting(TextConfig, "valid_fraction", "Share of the text (of the documents), at its end, kept for validation.")
@setting(TextConfig, "documents", "What is a text of its own, with an end; without it all is one stream of text.")
@setting(ModelConfig, "hidden_size", "Units per layer.")
@setting(ModelConfig, "num_layers", "Recurrent layers.")
@setting(ModelConfig, "cell", "What a layer computes with.")
@setting(ModelConfig, "nonlinearity", "Of an rnn.")
@setting(ModelConfig, "proj_size", "Of an lstm: project its output to so many numbers; 0 is off.")
@setting(ModelConfig, "peepholes", "Of an lstm: let its gates see the cell state.")
@setting(ModelConfig, "mogrifier_rounds", "Of a mogrifier-lstm: how often input and output gate each other.")
@setting(ModelConfig, "layer_norm", "Normalise what goes into the gates.")
@setting(ModelConfig, "residual", "Add a layer's input to its output, where their sizes match.")
@setting(ModelConfig, "bidirectional", "Read in both directions; learns to fill in masked tokens, cannot generate.")
@setting(ModelConfig, "mask_fraction", "Of a bidirectional model: share of the tokens hidden at a time.")
@setting(ModelConfig, "learned_state", "Train the state before a text, too.")
@setting(ModelConfig, "head", "What the output layer sees: the last layer's output, or its cell state as well.")
@setting(ModelConfig, "embedding_size", "Size of a token's vector; 0 means the hidden size.")
@setting(ModelConfig, "tie", "Let the output layer share the embedding's weights.")
@setting(ModelConfig, "dropout", "Between layers: share of the outputs zeroed while training.")
@setting(ModelConfig, "input_dropout", "The same behind the embedding.")
@setting(ModelConfig, "output_dropout", "The same behind the last layer.")
@setting(ModelConfig, "embedding_dropout", "Share of the tokens whose whole vector is zeroed in an update.")
@setting(ModelConfig, "variational_dropout", "Behind embedding and layers: the same units at all steps of a text.")
@setting(ModelConfig, "weight_dropout", "Share of the recurrent weights zeroed in an update.")
@setting(TrainConfig, "batch_size", "Streams, or documents, read side by side.")
@setting(TrainConfig, "bptt", "Tokens between two updates.")
@setting(TrainConfig, "buckets", "Documents: longest lengths of the buckets (10,20,40), <end> counted, or auto.")
@setting(TrainConfig, "num_buckets", f"Documents: how many buckets auto makes.  [default: {DEFAULT_BUCKETS}]")
@setting(TrainConfig, "tokens_per_batch", "Documents: fill batches with so many tokens, not --batch-size texts.")
@setting(TrainConfig, "optimizer", "Update rule.")
@setting(TrainConfig, "lr", "Learning rate; without it 0.005 (adam, adamw), 1 (sgd), 0.002 (rmsprop) or 10 (asgd).")
@setting(TrainConfig, "momentum", "For sgd.")
@setting(TrainConfig, "nesterov", "For sgd: look ahead along the momentum.")
@setting(TrainConfig, "averaging_patience", "For asgd: average once the loss is no better than so many validations ago.")
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
@setting(TrainConfig, "minutes", "Stop after so much time.")
@setting(TrainConfig, "patience", "Stop after so many epochs without a better validation loss; 0 is off.")
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
    from nblstm.text.demo import DEMO
    from nblstm.training.session import Session, check_resume, split_settings

    asked = given(settings)
    if demo:
        if corpus or resume:
            raise ConfigError("--demo brings its own text; leave out CORPUS and --resume.")
        corpus, asked = (DEMO,), {**_demo_settings(asked), **asked}
    if not corpus and not resume:
        raise ConfigError("name the text to train on, or try --demo.")
    if resume:
        check_resume(init_from, overwrite)
    progress = Progress(sys.stderr, quiet)
    text, model, config = split_settings(asked)
    if resume:
        session = Session.resume(output, paths=corpus, valid=valid, changes=asked, notify=progress.line)
    else:
        session = Session.start(
            corpus, output, valid=valid, text=TextConfig(**text), model=model, config=TrainConfig(**config),
            init_from=init_from, overwrite=overwrite, notify=progress.line,
        )  # fmt: skip
    from nblstm.kernels.cpu.jit import KernelCache  # not before the session has told whether there is numba at all

    if sample:
        check_writes(session.trainer.network.config)
    _introduce(session, progress)
    KernelCache.on_compile = lambda: progress.line("compiling the kernels for this machine, once: a few seconds")
    stopper = _Stopper(session)
    try:
        with stopper:
            for report in session.run(stopper):
                _render(session, report, progress, sample)
    finally:
        KernelCache.on_compile = None
        progress.close()
    return _conclude(session, stopper, progress)


def _demo_settings(asked: dict[str, Any]) -> dict[str, Any]:
    """The demo's recipe; a limit that the user gave replaces its minute."""
    limited = {"epochs", "steps", "minutes"} & set(asked)
    return {name: value for name, value in DEMO_SETTINGS.items() if name != "minutes" or not limited}


class _Stopper:
    """Ctrl-C and SIGTERM end the run between two updates; a second one, or one before the first update, at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, session: Any) -> None:
        self.session, self.signal, self._before = session, 0, {}
        self.first_step = session.trainer.step

    def __call__(self) -> bool:
        return bool(self.signal)

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._received) for number in self.SIGNALS}

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: object) -> None:
        if self.signal or self.session.trainer.step == self.first_step:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self.signal = number


def _introduce(session: Any, progress: Any) -> None:
    """What is trained on what."""
    corpus, trainer = session.corpus, session.trainer
    c, t, unit = trainer.network.config, trainer.config, f"{corpus.vocabulary.level}s"
    unknown = f", {corpus.valid_unknown:,} of them unknown" if corpus.valid_unknown else ""
    train, valid = _size(corpus.train, corpus.train_offsets, unit), _size(corpus.valid, corpus.valid_offsets, unit)
    batch = t.batch_size if t.tokens_per_batch is None else f"{t.tokens_per_batch:,} tokens"
    progress.line(f"text    {train} to train on, {valid} to validate{unknown}, vocabulary {len(corpus.vocabulary):,}")
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
    """The card, and the memory that training takes of it."""
    from nblstm.training.memory import card_bytes

    name, free = trainer.network.kernels.describe()
    room = "" if free is None else f", {free / 1e6:,.0f} MB free"
    needed = card_bytes(trainer.network.config, trainer.config)
    progress.line(f"card    {name}{room}; training takes up to {needed / 1e6:,.1f} MB of it")


def _size(ids: Any, offsets: Any, unit: str) -> str:
    """How much text there is; the <end> of documents is not counted."""
    if offsets is None:
        return f"{len(ids):,} {unit}"
    return f"{len(offsets) - 1:,} documents of {len(ids) - len(offsets):,} {unit}"


def _introduce_buckets(buckets: Any, progress: Any) -> None:
    """How documents are put together, and what it saves where batches are padded: time goes with the rectangles."""
    from nblstm.text.buckets import padding

    inside, outside = buckets.padding, padding(buckets.lengths, ())
    saved = 1 - (1 - outside) / (1 - inside)
    progress.line(f"buckets up to {', '.join(f'{length:,}' for length in buckets.longest)} tokens")
    progress.line(
        f"padding {100 * inside:.1f} % if batches were padded, {100 * outside:.1f} % in one bucket: "
        f"{100 * saved:.1f} % of the time saved"
    )


def _render(session: Any, report: Any, progress: Any, sample_tokens: int) -> None:
    """The bar after an update; a line, and a sample if asked, after an epoch."""
    epochs = session.trainer.config.epochs
    if not report.validated:
        progress.update(
            report.progress, max(1, math.ceil(report.epoch)), epochs, report.smooth_loss, report.tokens_per_second,
            report.seconds_left,
        )  # fmt: skip
        return
    train = "" if math.isnan(report.smooth_loss) else f"  train {report.smooth_loss:.4f}"
    valid = "" if report.valid_loss is None else f"  valid {report.valid_loss:.4f}"
    best = "  best" if report.improved and valid else ""
    progress.line(
        f"epoch {report.epoch:5.2f}  step {report.step:6,}{train}{valid}  "
        f"lr {report.lr:.2g}  {report.tokens_per_second / 1000:.1f}k tok/s  {_clock(report.seconds)}{best}"
    )
    if sample_tokens:
        progress.line("".join(session.model().generate(n=sample_tokens, seed=report.step, backend="cpu")))


def _conclude(session: Any, stopper: _Stopper, progress: Any) -> int:
    """Why it ended, where the model is and what to do next; the exit code."""
    trainer, output = session.trainer, session.output
    where = "" if str(output) == MODEL else f" {shlex.quote(str(output))}"
    if not stopper.signal and trainer.patience_is_over:
        progress.line(f"early   no better validation loss for {trainer.waited} epochs (--patience)")
    elif not stopper.signal and trainer.step == stopper.first_step:
        progress.line("done    the run had reached its limit before; go on with more --epochs, --steps or --minutes")
    if trainer.best_loss is not None:
        loss = trainer.best_loss
        progress.line(f"best    valid {loss:.4f} nats per token, perplexity {math.exp(min(loss, 700)):.2f}")
    progress.line(f"saved   {output} ({output.stat().st_size / 1e6:.1f} MB)")
    if not stopper.signal:
        next_ = "score FILE" if trainer.network.config.bidirectional else "sample -n 100"
        progress.line(f"next    nblstm {next_}{where and ' -m' + where}")
        return 0
    progress.line(f"stopped at step {trainer.step:,}; go on with: nblstm train --resume{where and ' -o' + where}")
    return 128 + stopper.signal


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"
