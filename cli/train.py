"""nblstm train: text files -> a model file."""

from __future__ import annotations

import sys
from typing import Any

import click
from nblstm.cli import ranks
from nblstm.cli.names import Command
from nblstm.cli.options import CLASS_WEIGHTS, FILE, MODEL, TOKEN_WEIGHTS, given, run_setting
from nblstm.cli.spelling import in_options
from nblstm.cli.train_shown import RunShown, conclude

from nblstm.config import DEFAULT_BUCKETS, DEFAULT_MAX_VOCAB, DEFAULT_SUBWORDS, LEVELS
from nblstm.errors import ConfigError
from nblstm.nn.pooling import POOLINGS
from nblstm.tasks.classification.config import MONITORS
from nblstm.tasks.language.config import LANGUAGE_HEADS
from nblstm.tasks.registry import VERBS, run_named, settings_of, verbs_having
from nblstm.tasks.tagging.config import TAG_HEADS
from nblstm.tasks.tagging.settings import TAG_MONITORS
from nblstm.tasks.translation.config import ATTENTIONS, MONITORS_OF_TRANSLATION

OF_LANGUAGE = dict.fromkeys(("demo", "sample", "teacher"), ["language"])  # options that are no settings, of some tasks
WATCHED = list(dict.fromkeys((*MONITORS, *MONITORS_OF_TRANSLATION, *TAG_MONITORS)))
OF_SOME = "Options of several tasks"


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
    "--teacher",
    metavar="FILE",
    type=FILE,
    help="Learn what this larger model says, too, with its vocabulary (distillation).",
)
@click.option(
    "--extend-vocabulary", is_flag=True, help="With --init-from: add the tokens that the model does not have."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing model, which else becomes NAME.1, NAME.2, ...")
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
@run_setting("weight_decay", "L2 penalty; for adamw decoupled from the gradient; without it 0.1 (adamw) or 0.")
@run_setting(
    "lazy_embedding",
    "For adam, adamw: leave the vectors of tokens that an update's text lacks, and their moments, as they are.",
)
@run_setting("label_smoothing", "Share of a target's probability spread over all tokens; not in validation.")
@click.option(
    "--token-weights", type=TOKEN_WEIGHTS, metavar="FILE",
    help="JSON object, token -> how much it counts as a target (0: not at all; others: 1); not in validation.",
)  # fmt: skip
@run_setting("distil_temperature", "With --teacher: soften both models' distributions so much.  [default: 2]")
@run_setting("distil_weight", "With --teacher: its share in the loss; the text has the rest.  [default: 0.5]")
@run_setting(
    "sparsity", "Share of the recurrent layers' weights made zero, in blocks, while training; see nblstm prune."
)
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
@run_setting("keep_statistics", "Prepare the model for eval --adapt at the end, as nblstm adapt-prepare does.")
@run_setting("average_every", "Let several processes update by themselves and average every so many updates.")
@run_setting("wire", "How several processes send gradients to each other; bfloat16 takes half of the time.")
@run_setting(
    "precision",
    "half, on cuda: weights and activations are stored so; bfloat16, on cpu: factors of products are rounded.",
)
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
    teacher: str | None, extend_vocabulary: bool, overwrite: bool, task: str | None, keep: int, sample: int,
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
    with run.shown():
        train(
            corpus, output, task=task, valid=valid, resume=resume, init_from=init_from, teacher=teacher,
            overwrite=overwrite, keep=keep, extend_vocabulary=extend_vocabulary, sample=sample, on_start=run.start,
            on_report=run.render,
            on_message=lambda message: progress.line(in_options(message, context.command)),
            stop=run.stop, mpi=True, **asked,
        )  # fmt: skip
    return 0 if ranks.is_silent() else conclude(run.session, run.first, run.stopped, progress)


def _event_files(folder: str) -> Any:
    """Begin event files in a folder."""
    from nblstm.reporting.tensorboard import EventFiles

    return EventFiles(folder)


def _demo_settings(demo: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the demo's recipe; a limit that the user gave replaces its minute. ConfigError for a task without any."""
    if demo is None:
        raise ConfigError("--demo trains a language model; leave out --task.")
    limited = {"epochs", "steps", "minutes"} & set(asked)
    return {name: value for name, value in demo.items() if name != "minutes" or not limited}
