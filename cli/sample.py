"""nblstm sample: a model file -> text."""

from __future__ import annotations

import sys
from typing import Any

import click
from nblstm.cli.beam import beam_config, beam_options, write_beam
from nblstm.cli.escapes import escape_option, unescaped
from nblstm.cli.models import writer
from nblstm.cli.names import Command
from nblstm.cli.options import FILE, given, model_option, setting
from nblstm.cli.shown import echo, safe_text

from nblstm.config import SampleConfig
from nblstm.errors import ConfigError, NblstmError


@click.command("sample", cls=Command)
@model_option
@setting(SampleConfig, "n", "Tokens to write at most; the prompt is not counted.", "-n")
@click.option("--prompt", metavar="TEXT", help="Text to go on from.")
@click.option(
    "--prompt-file", metavar="FILE", type=FILE, help="Go on from the text of a file, or - for standard input."
)
@click.option(
    "--echo/--no-echo", default=None, help="Write the prompt before the text.  [default: echo, except with -n 0]"
)
@escape_option
@click.option("--state", metavar="FILE", type=FILE, help="Go on from a state that --save-state wrote, then the prompt.")
@click.option("--save-state", metavar="FILE", type=FILE, help="Keep what the model remembers after the text.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text (repeatable).")
@click.option("--until-end", is_flag=True, help="Write until the model ends the text; only models of documents do.")
@setting(SampleConfig, "temperature", "Below 1 is safer, above 1 is bolder; 0 takes the most likely token.")
@setting(SampleConfig, "top_k", "Draw from the k most likely tokens; 0 draws from all.")
@setting(SampleConfig, "top_p", "Draw from the most likely tokens that together have this probability.")
@setting(SampleConfig, "min_p", "Draw from tokens at least this times as likely as the most likely.")
@setting(SampleConfig, "typical_p", "Draw from the tokens of most typical surprise, together this likely.", "--typical")
@setting(SampleConfig, "repetition_penalty", "Above 1 makes tokens that were there less likely.")
@setting(SampleConfig, "repetition_window", "Tokens that the penalty looks back; 0 looks at all.")
@setting(SampleConfig, "no_repeat_ngram", "Never write the same so many tokens in a row twice; 0 may.")
@setting(SampleConfig, "seed", "The same seed writes the same text; without one every text is new.")
@setting(SampleConfig, "num_samples", "Texts to write, side by side.")
@click.option(
    "--novel", multiple=True, metavar="CORPUS", type=FILE, help="Skip texts that stand in this corpus (repeatable)."
)
@setting(SampleConfig, "backend", "What computes: NumPy, compiled kernels, or whichever is done first.")
@beam_options
def command(
    model: str, prompt: str | None, prompt_file: str | None, echo: bool | None, escape: bool, state: str | None,
    save_state: str | None, stop: tuple[str, ...], until_end: bool, novel: tuple[str, ...], **settings: Any,
) -> None:  # fmt: skip
    """Let a model write. Text goes to stdout as it is made, the prompt first.

    With --beam the most likely text is searched, which suits short texts that have an end; long ones repeat themselves.
    """
    if escape:
        prompt = None if prompt is None else unescaped(prompt, "--prompt")
        stop = tuple(unescaped(text, "--stop") for text in stop)
    drawing_only = {"save_state": save_state, "until_end": until_end, "novel": novel}
    search, scores = beam_config(settings, stop, drawing_only)
    config = SampleConfig(**given(settings))
    if prompt is not None and prompt_file is not None:
        raise ConfigError("give --prompt or --prompt-file, not both.")
    if save_state is not None and (novel or config.num_samples > 1):
        raise ConfigError("--save-state needs one text; leave out --num-samples and --novel.")
    text = _read((prompt_file,)) if prompt_file is not None else checked(prompt or "")
    loaded = writer(model)
    warn_of_unknown(loaded, text)
    shown = text if (config.n > 0 if echo is None else echo) else ""
    before = None if state is None else loaded.load_state(state)
    if search:
        return write_beam(loaded, text, shown, before, search, scores)
    asked = {**config.to_dict(), "state": before, "stop": stop, "until_end": until_end}
    if novel:
        _write_novel(loaded, text, shown, _read(novel, apart=loaded.vocabulary.end_id is not None), asked)
    elif config.num_samples > 1:
        _write_all(loaded, shown, loaded.generate_many(text, **asked), config.num_samples)
    else:
        writing = loaded.generate(text, **asked)
        _stream(shown, writing)
        if save_state is not None:
            loaded.save_state(save_state, writing.state())


def _stream(shown: str, pieces: Any) -> None:
    """Write one text behind the shown prompt, as it is made."""
    safe = safe_text()
    sys.stdout.write(safe(shown))
    for piece in pieces:
        sys.stdout.write(safe(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _write_all(model: Any, shown: str, texts: list[str], num_samples: int) -> None:
    """Write whole texts: those of a model of documents one below the other, others with a line between them."""
    safe = safe_text()
    for text in texts:
        echo(safe(shown + text))
        if model.vocabulary.end_id is None and num_samples > 1:
            echo("-" * 20)


def _write_novel(model: Any, prompt: str, shown: str, corpus: str, asked: dict[str, Any]) -> None:
    """Write texts that do not occur in the corpus. NblstmError after them if they are too few."""
    found = model.generate_novel(prompt, corpus=corpus, **asked)
    _write_all(model, shown, found.texts, asked["num_samples"])
    tried = found.skipped + len(found.texts)
    click.echo(f"{found.skipped:,} of {tried:,} texts stand in the corpus and were skipped.", err=True)
    if len(found.texts) < asked["num_samples"]:
        raise NblstmError(
            f"only {len(found.texts):,} of {asked['num_samples']:,} texts are novel; raise --temperature or -n, or ask "
            "for fewer."
        )


def _read(paths: tuple[str, ...], apart: bool = False) -> str:
    """Read the text of a prompt file or a corpus. apart: no line goes on from one file into the next."""
    from nblstm.text.corpus import read_each, read_text

    if not apart:
        return "".join(read_text(paths))
    return "\n".join("".join(chunks) for _, chunks in read_each(paths, "char"))


def checked(prompt: str) -> str:
    """Return the prompt. ConfigError if it has bytes that are not text: Python makes lone surrogates of them."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise ConfigError("--prompt is not text in the terminal's encoding; use --prompt-file with UTF-8.") from None
    return prompt


def warn_of_unknown(model: Any, text: str) -> None:
    """Tell which tokens of the prompt the model has never seen."""
    unknown = model.vocabulary.unknown(text)
    if unknown:
        shown = ", ".join(repr(token) for token in unknown[:10]) + (", ..." if len(unknown) > 10 else "")
        click.echo(f"the model has never seen {shown} of the prompt; it reads <unk> instead.", err=True)
