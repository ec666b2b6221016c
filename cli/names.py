"""Names: what char-rnn, torch-rnn, textgenrnn, Keras, nanoGPT and llama.cpp call things, and what they are called here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import click

PROMPTS, LENGTHS = ("--prompt",), ("-n", "--bptt")
OPTIONS: dict[str, tuple[str, ...]] = {  # elsewhere, without dashes -> here: the first that a command has
    **dict.fromkeys(("seq-length", "seq-len", "block-size", "maxlen", "sequence-length", "time-steps"), ("--bptt",)),
    **dict.fromkeys(("rnn-size", "hidden-dim", "n-embd", "units", "n-hidden", "hidden"), ("--hidden-size",)),
    **dict.fromkeys(("n-layer", "n-layers", "layers", "rnn-layers"), ("--num-layers",)),
    **dict.fromkeys(("wordvec-size", "embedding-dim", "emb-size", "dim-embeddings"), ("--embedding-size",)),
    **dict.fromkeys(("model-type", "model", "rnn-type"), ("--cell",)),
    **dict.fromkeys(("bidirectional-rnn", "rnn-bidirectional"), ("--bidirectional",)),
    **dict.fromkeys(("learning-rate", "base-lr"), ("--lr",)),
    **dict.fromkeys(("decay-rate", "learning-rate-decay", "lr-decay-factor"), ("--lr-decay",)),
    **dict.fromkeys(("learning-rate-decay-after", "lr-decay-every"), ("--decay-after",)),
    **dict.fromkeys(("warmup-iters", "warmup-steps"), ("--warmup",)),
    **dict.fromkeys(("max-epochs", "num-epochs", "nb-epoch", "n-epochs"), ("--epochs",)),
    **dict.fromkeys(("max-iters", "max-steps", "iters", "iterations"), ("--steps",)),
    **dict.fromkeys(("grad-clip", "gradient-clip", "clipnorm", "max-grad-norm"), ("--clip",)),
    **dict.fromkeys(("clipvalue", "grad-clip-value"), ("--clip-value",)),
    **dict.fromkeys(("batch", "batchsize", "n-batch"), ("--batch-size",)),
    **dict.fromkeys(("val-frac", "val-split", "validation-split"), ("--valid-fraction",)),
    **dict.fromkeys(("validation-data", "val-data"), ("--valid",)),
    **dict.fromkeys(("early-stopping", "early-stop"), ("--patience",)),
    **dict.fromkeys(("eval-val-every", "eval-interval", "checkpoint-every", "save-every"), ("--valid-every",)),
    **dict.fromkeys(("word-level", "word-tokens", "wordrnn"), ("--level",)),
    **dict.fromkeys(("data-dir", "data", "input", "input-txt", "train-data", "file-path", "corpus"), ("CORPUS",)),
    **dict.fromkeys(("out-dir", "checkpoint-dir", "checkpoint-name", "save-dir", "savefile", "out"), ("--output",)),
    **dict.fromkeys(("checkpoint", "weights-path", "model-path", "ckpt"), ("--model", "--init-from")),
    **dict.fromkeys(("gpu", "gpuid", "gpu-backend", "cuda"), ("--device", "--backend")),
    **dict.fromkeys(("n-threads", "num-threads", "t"), ("--threads",)),
    **dict.fromkeys(("temp", "temperatures"), ("--temperature",)),
    **dict.fromkeys(("length", "max-length", "max-gen-length"), LENGTHS),
    **dict.fromkeys(
        ("n-predict", "predict", "max-new-tokens", "max-tokens", "num-predict", "num-tokens", "tokens"), ("-n",)
    ),
    **dict.fromkeys(("start", "start-text", "primetext", "prime", "p", "prefix", "seed-text", "text"), PROMPTS),
    **dict.fromkeys(("f", "file"), ("--prompt-file",)),
    **dict.fromkeys(("context-label", "context-labels", "label"), ("--context", "--context-column")),
    **dict.fromkeys(("r", "reverse-prompt"), ("--stop",)),
    **dict.fromkeys(("s", "random-seed"), ("--seed",)),
    **dict.fromkeys(("dtype",), ("--precision",)),
    **dict.fromkeys(("repeat-penalty",), ("--repetition-penalty",)),
    **dict.fromkeys(("repeat-last-n",), ("--repetition-window",)),
    **dict.fromkeys(("samples", "n-samples"), ("--num-samples",)),
    **dict.fromkeys(("num-beams", "beam-size", "beam-width"), ("--beam",)),
    **dict.fromkeys(("src", "train-src", "source-file"), ("--source",)),
    **dict.fromkeys(("tgt", "train-tgt", "target-file"), ("--target",)),
    **dict.fromkeys(("valid-src", "dev-source"), ("--valid-source",)),
    **dict.fromkeys(("valid-tgt", "dev-target"), ("--valid-target",)),
    **dict.fromkeys(("global-attention", "attention-type"), ("--attention",)),
    **dict.fromkeys(("prompt-cache", "state-file"), ("--save-state",)),
}
COMMANDS = {  # elsewhere -> here
    **dict.fromkeys(("generate", "gen", "predict", "infer", "inference", "run", "complete", "completion"), "sample"),
    **dict.fromkeys(("fit", "finetune", "fine-tune", "learn", "resume"), "train"),
    **dict.fromkeys(("evaluate", "test", "validate", "perplexity", "ppl"), "eval"),
    **dict.fromkeys(("grid", "grid-search", "tune", "hyperparameters"), "sweep"),
    **dict.fromkeys(("interactive", "chat", "cowrite"), "write"),
    **dict.fromkeys(("show", "describe", "inspect", "summary"), "info"),
    **dict.fromkeys(("rank", "logprob"), "score"),
    **dict.fromkeys(("compile",), "warmup"),
    **dict.fromkeys(("draw", "curves"), "plot"),
    **dict.fromkeys(("server", "api", "web"), "serve"),
}
PREFIX = "NBLSTM_"
SWITCHES = {"NBLSTM_TILES", "NBLSTM_TEST_SECONDS", "NBLSTM_DOCS"}  # environment variables that are no options


class Command(click.Command):
    """A command that knows what its options are called elsewhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does. UsageError that names the option that was meant, where another's name is the reason."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError:
            for word in given:
                if (meant := meant_option(word, self)) is not None:
                    name = word.partition("=")[0]
                    raise click.UsageError(f"there is no option {name}; {ctx.info_name} has {meant}.", ctx) from None
            raise


def meant_option(word: str, command: click.Command) -> str | None:
    """Tell the option, or the argument, of a command that is meant by another name; None for its own and for no name."""
    name = word.partition("=")[0]
    bare = name.lstrip("-").replace("_", "-").lower()
    own = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    if not name.startswith("-") or not bare or name in own:
        return None
    if f"--{bare}" in own:
        return f"--{bare}"
    return next((flag for flag in OPTIONS.get(bare, ()) if flag in own or _is_argument(flag, command)), None)


def _is_argument(name: str, command: click.Command) -> bool:
    return any(isinstance(part, click.Argument) and (part.metavar or "").startswith(name) for part in command.params)


def _closest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that is most like another; None where none is like it."""
    from difflib import get_close_matches  # what a command that is spelt right need not import

    return next(iter(get_close_matches(name, names, 1)), None)


def meant_command(name: str, commands: Iterable[str]) -> str | None:
    """Tell the command that is meant by another, or a misspelt, name; None if there is none like it."""
    close = _closest(name.lower(), [*commands, *COMMANDS])
    return COMMANDS.get(close, close) if close else None


def misspelt_variables(
    environment: Mapping[str, str], names: Iterable[str], ours: str, command: click.Command
) -> Iterator[str]:
    """Yield a sentence for each variable of an environment that looks like one for a command's option and is none.

    names: of all commands. ours, command: the one that runs; variables of others are not looked at.
    """
    start = f"{PREFIX}{ours.upper()}_"
    known = {
        start + option.name.upper() for option in command.params if isinstance(option, click.Option) and option.name
    }
    others = tuple(f"{PREFIX}{name.upper()}_" for name in names if name != ours)
    meant = {name.removeprefix(part): name for part in (PREFIX, start) for name in known | SWITCHES}
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in known | SWITCHES or name.startswith(others):
            continue
        close = _closest(name.removeprefix(PREFIX), meant)
        hint = f"; did you mean {meant[close]}?" if close else ", and no option has such a name."
        yield f"note: {name} is set in the environment, which nblstm {ours} does not know{hint}"
