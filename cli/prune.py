"""nblstm prune: a model file -> the same with most of its recurrent weights zero, trained on so that it is as good."""

from __future__ import annotations

import sys
from typing import Any

import click
from nblstm.cli.names import Command
from nblstm.cli.options import FILE, given, setting
from nblstm.cli.spelling import in_options
from nblstm.cli.train_shown import RunShown, conclude

from nblstm.config import TextConfig, TrainConfig
from nblstm.errors import ConfigError
from nblstm.tasks.pruning import DEFAULT_PRUNE_EPOCHS, DEFAULT_SPARSITY


@click.command("prune", cls=Command)
@click.argument("model", metavar="MODEL", type=FILE)
@click.argument("corpus", nargs=-1, metavar="CORPUS...", type=FILE)
@click.option("-o", "--output", required=True, metavar="FILE", type=FILE, help="Model file to write.")
@click.option(
    "--sparsity", type=float, default=DEFAULT_SPARSITY, show_default=True, help="Share of the weights made zero."
)
@click.option(
    "--valid", multiple=True, metavar="FILE", type=FILE, help="Validation text (repeatable); else the end of CORPUS."
)
@click.option("--teacher", metavar="FILE", type=FILE, help="Learn what this model says, too, such as MODEL itself.")
@setting(TrainConfig, "distil_temperature", "With --teacher: soften both models' distributions so much.  [default: 2]")
@setting(TrainConfig, "distil_weight", "With --teacher: its share in the loss; the text has the rest.  [default: 0.5]")
@setting(TextConfig, "encoding", "Encoding of the files.")
@click.option("--dropout", type=float, help="Between layers.  [default: the model's, times sqrt(1 - sparsity)]")
@setting(TrainConfig, "batch_size", "Streams, or documents, read side by side.")
@setting(TrainConfig, "bptt", "Tokens between two updates.")
@setting(TrainConfig, "lr", "Learning rate; without it 0.005.")
@click.option(
    "--epochs", type=int, help=f"Passes over the text; {DEFAULT_PRUNE_EPOCHS} unless --steps or --minutes is given."
)
@setting(TrainConfig, "steps", "Stop after so many updates.")
@setting(TrainConfig, "minutes", "Stop so long after the first update; compiling kernels is not counted.")
@setting(TrainConfig, "seed", "Of dropout.")
@setting(TrainConfig, "threads", "0 means every core.")
@setting(TrainConfig, "precision", "bfloat16 rounds the factors of products, which takes half the time on some CPUs.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model, which else becomes NAME.1, NAME.2, ...")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    model: str, corpus: tuple[str, ...], output: str, valid: tuple[str, ...], teacher: str | None, sparsity: float,
    overwrite: bool, quiet: bool, **settings: Any,
) -> int:  # fmt: skip
    """Make most of a language model's recurrent weights zero while it trains on: it then writes faster.

    \b
    nblstm prune model.safetensors corpus.txt --sparsity 0.8 -o pruned.safetensors
    nblstm sample -m pruned.safetensors

    Weights go in blocks of 16 units, the smallest first. It is a run as those of nblstm train, which goes on with it
    by --resume where it was stopped.
    """
    from nblstm.cli.progress import Progress

    from nblstm.tasks.pruning import prune

    if not corpus:
        raise ConfigError("name the text to train on behind the model.")
    progress, context = Progress(sys.stderr, quiet), click.get_current_context()
    run = PruningShown(progress)
    with run.shown():
        prune(
            model, corpus, output, sparsity=sparsity, valid=valid, teacher=teacher, overwrite=overwrite,
            on_start=run.start, on_report=run.render, stop=run.stop,
            on_message=lambda message: progress.line(in_options(message, context.command)), **given(settings),
        )  # fmt: skip
    run.compare()
    return conclude(run.session, run.first, run.stopped, progress)


class PruningShown(RunShown):
    """The run that the command has started, and what it has cost."""

    before: float | None = None  # the validation loss of the model that was given

    def start(self, session: Any) -> None:
        """Tell what is trained, and measure the model before."""
        super().start(session)
        trainer = session.trainer
        found = trainer.measure(trainer.network, trainer.valid, self.stop) if len(trainer.valid) else None
        if found is not None:
            self.before = found.value
            self.progress.line(f"before  valid {session.task.best({'loss': found.value})}")

    def compare(self) -> None:
        """Tell how much is zero in the best weights, and what that costs."""
        from nblstm.nn.sparsity import count_blocks

        trainer = self.session.trainer
        zero, blocks = count_blocks(trainer.network.config, trainer.keep())
        cost = "" if None in (self.before, trainer.best_loss) else f", {trainer.best_loss - self.before:+.4f} nats"
        self.progress.line(f"pruned  {100 * zero / blocks:.1f} % of the recurrent weights are zero{cost}")
