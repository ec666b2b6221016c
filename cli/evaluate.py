"""nblstm eval: how probable models find texts, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import click
from nblstm.cli.figures import Dynamic, Reading, check_adapts, documents, figures, filling_in, heads, protocol, row
from nblstm.cli.measured import measured, refuse
from nblstm.cli.models import rounded, texts_and_models, trained_model
from nblstm.cli.names import Command
from nblstm.cli.options import (
    FILE,
    MODEL,
    adapt_options,
    cache_options,
    echo_json,
    given,
    json_option,
    run_setting,
    scoring_options,
    setting,
    weights_option,
)
from nblstm.cli.shown import say

from nblstm.errors import ConfigError, TextError
from nblstm.tasks.registry import run_of_model
from nblstm.tasks.translation.config import TranslateConfig

COLUMNS = ("text_column", "label_column", "token_column", "tag_column")
DECODING = ("beam", "length_penalty")
STREAM = "one stream per file, state carried from its first token to its last, the first token given"
SPANS = "one stream per file, read in spans of {} tokens, the state carried from left to right"
WINDOWS = "windows of {} tokens, each read from nothing, the first token of the file given"
TARGET = "Of a translator: the targets of a FILE of sources, line by line; else a line of FILE is source TAB target."
STREAMS = "each file cut into {} parallel streams, each from the zero state, the first token given"


@click.command("eval", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=FILE)
@click.option(
    "-m", "--model", "models", multiple=True, metavar="FILE", type=FILE,
    help=f"Model file; give it again to compare models.  [default: those among the files, or {MODEL}]",
)  # fmt: skip
@click.option(
    "--protocol",
    "name",
    type=click.Choice(["stream", "documents"]),
    help="Read a file as one stream, or each of its documents on its own.  [default: stream, or documents where a "
    "model was trained on them]",
)
@click.option(
    "--documents", "kind", type=click.Choice(["line", "blank-line"]), help="What a document is.  [default: line]"
)
@click.option(
    "--streams",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Cut a long file into up to so many parallel streams: faster, a little pessimistic.",
)
@click.option(
    "--windows",
    type=click.IntRange(1, 10**6),
    help="Read windows of so many tokens, each from nothing, as models with a fixed context are scored.",
)
@run_setting("text_column", "Of a classifier's CSV file with a header: the column of the texts.")
@run_setting("label_column", "And the column of the labels.")
@run_setting("token_column", "Of a tagger's file: the column of the words, from 1 on, or from -1 backwards.")
@run_setting("tag_column", "And the column of the tags.")
@click.option("--target", "targets", multiple=True, metavar="FILE", type=FILE, help=TARGET)
@setting(TranslateConfig, "beam", "Of a translator: hypotheses kept at every step.")
@setting(TranslateConfig, "length_penalty", "And what it has against short translations.")
@weights_option
@adapt_options
@cache_options
@scoring_options
@json_option
def command(
    files: Sequence[str],
    models: Sequence[str],
    name: str | None,
    kind: str | None,
    streams: int,
    windows: int | None,
    weights: str | None,
    adapt: dict[str, Any] | None,
    cache: dict[str, Any] | None,
    json: bool,
    targets: Sequence[str],
    **how: Any,
) -> None:
    """Print how good models are on files (- is standard input).

    Of models of text loss, perplexity and bits per character, a row for each model and file; bits per character and per
    byte compare models of different tokenizations, in the same protocol. Of a classifier accuracy, macro F1, confusion
    and calibration on labelled texts; of a translator perplexity, exact match and BLEU on pairs; of a tagger accuracy and
    precision, recall and F1 of spans on tagged words.
    """
    files, models = texts_and_models(files, models)
    models = models or [MODEL]
    loaded = [rounded(trained_model(model), weights) for model in models]
    columns, decoding = (given({each: how.pop(each) for each in names}) for names in (COLUMNS, DECODING))
    if any(run_of_model(model).MEASURES for model in loaded):
        others = {"protocol": name, "documents": kind, "windows": windows, "adapt": adapt, "cache": cache}
        refuse({**others, "streams": streams if streams > 1 else None})
        return measured(files, targets, list(zip(models, loaded)), columns, json, **how, **decoding)
    refuse({**columns, **decoding, "target": targets or None})
    asked = _Protocol(name, kind or "", streams, windows).of(loaded)
    dynamic = Dynamic(adapt, cache)
    if dynamic.option is not None:
        check_adapts(loaded, streams if windows is None else 2, dynamic.option)
    rows = _rows(files, models, loaded, asked, dynamic, **how)
    if json:
        echo_json({"protocol": asked.name, "files": rows})
    else:
        _show(rows, loaded)


class _Protocol(NamedTuple):
    """How texts are read to be judged: as a stream or documents of a kind, in parallel streams, or windows of tokens."""

    name: str | None
    kind: str  # "" where it is not said
    streams: int
    windows: int | None

    def of(self, loaded: Sequence[Any]) -> _Protocol:
        """Return what is meant for these models. ConfigError if the options contradict each other or a model."""
        have_ends = any(model.vocabulary.end_id is not None for model in loaded)
        name = self.name or ("documents" if self.kind or have_ends else "stream")
        if name == "stream" and self.kind:
            raise ConfigError("--documents needs --protocol documents.")
        if name == "documents" and self.streams > 1:
            raise ConfigError("--streams needs --protocol stream; documents are read side by side anyway.")
        if self.windows is not None and (name == "documents" or self.streams > 1):
            raise ConfigError(
                "--windows are cut from a stream; leave out --documents, --protocol documents and --streams."
            )
        if self.in_parts and any(model.NETWORK.span for model in loaded):
            raise ConfigError(
                "--streams and --windows are for models that read from left to right; a bidirectional one reads spans."
            )
        if name == "stream" and have_ends:
            raise ConfigError("a model of documents cannot read a stream, which has no ends; use --protocol documents.")
        return self._replace(name=name, kind=self.kind or "line")

    def nothing_in(self, file: str) -> str:
        """Say why a file has no token to score."""
        if self.name == "documents":
            return f"there is nothing to score in {file}: all lines are empty."
        return f"{file} has fewer than 2 tokens; the first is given, so there is nothing to score."

    @property
    def in_parts(self) -> bool:
        """Whether a text is cut into parts that are read at once."""
        return self.streams > 1 or self.windows is not None


def _rows(
    files: Sequence[str], models: Sequence[str], loaded: Sequence[Any], asked: _Protocol, dynamic: Dynamic, **how: Any
) -> list[dict[str, Any]]:  # fmt: skip
    """Score every file by every model: a row for each, those of a file together."""
    from nblstm.text.sources import rereadable, texts_in

    rows: list[dict[str, Any]] = []
    with Reading(files, len(loaded)) as reading, ExitStack() as open_files:
        texts = all(model.vocabulary.level != "byte" for model in loaded)
        tell = lambda message: say(message, err=True)
        listed = [texts_in([file], "*", "char" if texts else "byte", tell) for file in files]
        for file, sources in zip(files, rereadable(listed, how["encoding"] if texts else None, open_files)):
            for path, model in zip(models, loaded):
                if dynamic.option is None:
                    score, said = _scored(model, sources, asked, reading, **how)
                else:
                    score, said = _dynamically(model, sources, asked, dynamic, reading, **how)
                if score.tokens == 0:
                    raise TextError(asked.nothing_in(file))
                rows.append(
                    {"model": path, "file": file, "protocol": said, **figures(score), **_of_words(model, score)}
                )
    return rows


def _of_words(model: Any, score: Any) -> dict[str, float | None]:
    """Return what compares models with those of papers; a model that fills in predicts no text that could be compared."""
    return {"perplexity_per_word": score.perplexity_per_word if model.config.causal else None}


def _scored(model: Any, files: Any, asked: _Protocol, reading: Reading, encoding: str, **how: Any) -> tuple[Any, str]:
    """Return the score of a file, or of a folder's, under a protocol, and the protocol in words."""
    from nblstm import scoring
    from nblstm.text.reading import read_chunks

    vocabulary, windows = model.vocabulary, asked.windows
    if asked.name == "documents":
        texts = (text for _, text in documents(files, asked.kind, vocabulary.level, encoding))
        network, texts = model.scorer(texts, side_by_side=True, **how)
        reading.listen()
        judged = scoring.judge(network, vocabulary, texts, reading.update)
        return sum((text.score for text in judged), scoring.NOTHING), protocol(model, asked.kind)
    chunks = read_chunks(files, vocabulary.level, encoding)
    network, chunks = model.scorer(chunks, side_by_side=asked.in_parts, **how)
    reading.listen()
    if windows is not None:
        return scoring.score_in_windows(network, vocabulary, chunks, windows, reading.update), WINDOWS.format(windows)
    if asked.streams > 1:
        score, used = scoring.score_in_streams(network, vocabulary, chunks, asked.streams, reading.update)
        return score, STREAMS.format(used) if used > 1 else STREAM
    said = f"{SPANS.format(network.span)}; {filling_in(model.config)}" if network.span else STREAM
    return scoring.score(network, vocabulary, chunks, reading.update), said


def _dynamically(
    model: Any, files: Any, asked: _Protocol, dynamic: Dynamic, reading: Reading, encoding: str, **how: Any
) -> tuple[Any, str]:
    """Return the score of a file, or of a folder's, by a network that it changes, and the protocol in words."""
    from nblstm import scoring
    from nblstm.text.reading import read_chunks

    network, vocabulary = dynamic.network(model, **how), model.vocabulary
    reading.listen()
    changing = dynamic.said(network)
    if asked.name == "documents":
        texts = (text for _, text in documents(files, asked.kind, vocabulary.level, encoding))
        judged = (
            piece for text in texts for piece in scoring.stream(network, vocabulary, [text], True, reading.update)
        )
        return sum((piece.score for piece in judged), scoring.NOTHING), f"{changing}; {protocol(model, asked.kind)}"
    chunks = read_chunks(files, vocabulary.level, encoding)
    return scoring.score(network, vocabulary, chunks, reading.update), f"{changing}; {STREAM}"


def _show(rows: Sequence[dict[str, Any]], loaded: Sequence[Any]) -> None:
    """Print the rows, and what speaks against them."""
    from nblstm.scoring import worse_than_guessing

    for found, model in zip(rows, [*loaded] * len(rows)):  # the rows of a file stand together, one for each model
        if (doubt := worse_than_guessing(found["nats_per_token"], len(model.vocabulary))) is not None:
            say(f"warning: {found['model']} on {found['file']}: {doubt}.", err=True)
    _table(rows, {model.vocabulary.level for model in loaded})
    if len({model.vocabulary for model in loaded}) > 1 and any(found["unknown"] for found in rows):
        say("note: an unknown token hides its spelling, so models that know fewer tokens look better.", err=True)


def _table(rows: Sequence[dict[str, Any]], levels: set[str]) -> None:
    """Return a line for each row; the model is named where there are several."""
    protocols = dict.fromkeys(found["protocol"] for found in rows)
    for said in protocols:
        read_so = [f"{found['model']} on {found['file']}" for found in rows if found["protocol"] == said]
        say(f"protocol{' of ' + ', '.join(read_so) if len(protocols) > 1 else ''}: {said}", err=True)
    columns, several = [*heads(levels), "perplexity/word"], len({found["model"] for found in rows}) > 1
    width = max(len(found["model"]) for found in rows)
    say(row(columns, columns, *(["model".ljust(width)] if several else []), "file"))
    for found in rows:
        model, file, _, *values = ("-" if value is None else value for value in found.values())
        say(row(columns, values, *([model.ljust(width)] if several else []), file))
