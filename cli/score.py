"""nblstm score: how plausible each line, document or file is."""

from __future__ import annotations

import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click
from nblstm.cli.figures import (
    KINDS,
    UNITS,
    Dynamic,
    Reading,
    check_adapts,
    documents,
    figures,
    heads,
    protocol,
    row,
)
from nblstm.cli.models import rounded, text_model, texts_and_models
from nblstm.cli.names import Command
from nblstm.cli.options import (
    FILE,
    MODEL,
    adapt_options,
    cache_options,
    echo_json,
    json_option,
    model_flag,
    scoring_options,
    weights_option,
)
from nblstm.cli.shown import say

from nblstm.errors import ConfigError, TextError

RANKS = {  # what --rank-by knows -> the figure; the smallest comes first
    "loss": lambda score: score.loss,
    "nats": lambda score: score.nats,
    "bits-per-character": lambda score: score.bits_per_character,
    "bits-per-byte": lambda score: score.bits_per_byte,
}
SHOWN = 60  # characters of a text in the table

Place = dict[str, Any]  # where a text stands: its file and, unless it is the whole file, its first line


@click.command("score", cls=Command)
@click.argument("files", nargs=-1, metavar="[FILE...]", type=FILE)
@model_flag
@click.option("--text", "texts", multiple=True, metavar="TEXT", help="Score this text itself (repeatable).")
@click.option(
    "--by", type=click.Choice(list(KINDS)), default="line", show_default=True, help="What is scored on its own."
)
@click.option("--per-token", is_flag=True, help="List what each token costs, in bits and nats, instead.")
@click.option("--rank", is_flag=True, help="The most plausible first. All texts and scores are held in memory.")
@click.option(
    "--rank-by", type=click.Choice(list(RANKS)), help="The figure to rank by.  [default: loss (nats per token)]"
)
@weights_option
@adapt_options
@cache_options
@scoring_options
@json_option
def command(
    files: Sequence[Any],
    model: str | None,
    texts: tuple[str, ...],
    by: str,
    per_token: bool,
    rank: bool,
    rank_by: str | None,
    weights: str | None,
    adapt: dict[str, Any] | None,
    cache: dict[str, Any] | None,
    json: bool,
    **how: Any,
) -> None:
    """Tell how plausible a model finds each line, document or file: log-probability, perplexity, bits per character.

    Reads files, folders, .gz or standard input (-) of any size; empty lines are left out. With --json every line of the
    output is a JSON object.
    """
    from nblstm.scoring import NOTHING
    from nblstm.text.sources import text_source, texts_in

    files, models = texts_and_models(files, [] if model is None else [model])
    if len(models) > 1:
        raise ConfigError(f"score reads one model, not {' and '.join(models)}; nblstm eval compares several.")
    if not files and not texts:
        raise ConfigError("name a FILE to score, or give a --text.")
    rank = rank or rank_by is not None
    if rank and per_token:
        raise ConfigError("--rank sorts texts and --per-token lists tokens; give one of them.")
    loaded = rounded(text_model(models[0] if models else MODEL), weights)
    names = [*files, *["--text"] * len(texts)]
    files = texts_in(files, "*", loaded.vocabulary.level, lambda message: say(message, err=True))
    files = [*files, *(text_source("--text", text, how["encoding"]) for text in texts)]
    network, learning = _changing(loaded, Dynamic(adapt, cache), **how)
    say(f"protocol: {learning}{protocol(loaded, by)}", err=True)
    several = len(names) > 1 or os.path.isdir(names[0])
    output = (_JsonLines if json else _Table)(loaded.vocabulary, by, per_token, several, learning)
    with Reading(names, hidden=sys.stdout.isatty() and not rank) as reading:
        judge = _judged_files if by == "file" else _judged_texts
        if network is not None:
            judged = _judged_while_learning(network, loaded.vocabulary, files, by, reading, how["encoding"])
        else:
            judged = judge(loaded, files, by, reading, **how)
        scored: Iterable[tuple[Place, Any, Any]] = _scored(
            judged, output.tokens if per_token else lambda place, piece: None
        )
        if rank:
            scored = _ranked(scored, rank_by or "loss")
        total, count = NOTHING, 0
        for place, score, text in scored:
            if not per_token:
                output.score(place, score, text)
            total, count = total + score, count + 1
    if not total.tokens:
        what = "files" if by == "file" else "lines"
        raise TextError(f"there is nothing to score in {', '.join(names[:3])}: all {what} are empty.")
    say(_summary(total, count, UNITS[loaded.vocabulary.level], by), err=True)


# ---------------------------------------------------------------- what is scored


def _judged_texts(loaded: Any, files: Sequence[Any], by: str, reading: Reading, encoding: str, **how: Any) -> Iterator:
    """Yield (place, [the judged text]) of every document in the files; many of them are read side by side."""
    from nblstm.scoring import judge

    places: deque[Place] = deque()  # of the texts that are taken and not yet judged

    def texts() -> Iterator[Any]:
        for place, text in documents(files, by, loaded.vocabulary.level, encoding):
            places.append(place)
            yield text

    network, taken = loaded.scorer(texts(), side_by_side=True, **how)
    reading.listen()
    for text in judge(network, loaded.vocabulary, taken, reading.update):
        yield places.popleft(), [text]


def _judged_files(loaded: Any, files: Sequence[Any], by: str, reading: Reading, encoding: str, **how: Any) -> Iterator:
    """Yield (place, the judged pieces) of every file, each a stream of its own."""
    from nblstm.scoring import stream
    from nblstm.text.reading import read_each

    for file, chunks in read_each(files, loaded.vocabulary.level, encoding):
        network, chunks = loaded.scorer(chunks, **how)
        reading.listen()
        yield {"file": file}, stream(network, loaded.vocabulary, chunks, alone=True, on_progress=reading.update)


def _changing(loaded: Any, dynamic: Dynamic, encoding: str, **how: Any) -> tuple[Any, str]:
    """Return a network that learns from, or remembers, what it reads, and how in words; None unless that is asked for."""
    if dynamic.option is None:
        return None, ""
    check_adapts([loaded], option=dynamic.option)
    network = dynamic.network(loaded, **how)
    return network, f"{dynamic.said(network)}; "


def _judged_while_learning(
    network: Any, vocabulary: Any, files: Sequence[Any], by: str, reading: Reading, encoding: str
) -> Iterator:
    """Yield (place, the judged pieces) of every text in its order: each changes the network for those behind it."""
    from nblstm.scoring import stream
    from nblstm.text.reading import read_each

    places: Iterable[tuple[Place, Any]] = (
        (({"file": file}, chunks) for file, chunks in read_each(files, vocabulary.level, encoding))
        if by == "file"
        else ((place, [text]) for place, text in documents(files, by, vocabulary.level, encoding))
    )
    for place, pieces in places:
        yield place, stream(network, vocabulary, pieces, alone=True, on_progress=reading.update)


def _scored(judged: Iterator, each: Callable[[Place, Any], None]) -> Iterator[tuple[Place, Any, Any]]:
    """Yield (place, score, text) of everything judged, text: its first piece; `each` is called with every piece."""
    from nblstm.scoring import NOTHING

    for place, pieces in judged:
        score, text = NOTHING, None
        for piece in pieces:
            each(place, piece)
            score, text = score + piece.score, piece.text if text is None else text
        yield place, score, text


def _ranked(scored: Iterable, by: str) -> list:
    """Sort the most plausible first, those without such a figure last."""
    key = RANKS[by]
    return sorted(scored, key=lambda found: (math.isnan(key(found[1])), key(found[1])))


# ---------------------------------------------------------------- what is printed


class _Table:
    """For people: numbers in columns, the place and the text behind them."""

    def __init__(self, vocabulary: Any, by: str, per_token: bool, several: bool, learning: str) -> None:
        self.several = several
        self.columns = ["bits", "nats"] if per_token else ["log-probability", *heads({vocabulary.level})]
        where = "file" if by == "file" else "file:line" if several else "line"
        say(row(self.columns, self.columns, where, *(["token"] if per_token else ["text"] if by != "file" else [])))

    def tokens(self, place: Place, piece: Any) -> None:
        """Write a line for each token of a piece."""
        for token, bits, nats, unknown in _tokens(piece):
            say(row(self.columns, [bits, nats], self._where(place), repr(token), *["unknown"] * unknown))

    def score(self, place: Place, score: Any, text: Any) -> None:
        """Write a line for a text."""
        shown = [clipped(text)] if "line" in place else []
        say(row(self.columns, [-score.nats, *figures(score).values()], self._where(place), *shown))

    def _where(self, place: Place) -> str:
        if "line" not in place:
            return place["file"]
        return f"{place['file']}:{place['line']}" if self.several else f"{place['line']:>4}"


class _JsonLines:
    """For programs: an object on each line."""

    def __init__(self, vocabulary: Any, by: str, per_token: bool, several: bool, learning: str) -> None:
        end = vocabulary.end_id
        place = f"{by} after a line end" if end is None else f"{by} between two {vocabulary.tokens[end]}"
        self.protocol = learning + place

    def tokens(self, place: Place, piece: Any) -> None:
        """Write an object for each token of a piece."""
        for token, bits, nats, unknown in _tokens(piece):
            echo_json({**place, "token": token, "bits": bits, "nats": nats, "unknown": unknown}, indent=None)

    def score(self, place: Place, score: Any, text: Any) -> None:
        """Write an object for a text."""
        facts = {**place, "log_probability": -score.nats, **figures(score), "characters": score.characters}
        facts |= {"bytes": score.bytes, "protocol": self.protocol}
        echo_json(facts | ({"text": decoded(text)} if "line" in place else {}), indent=None)


def _tokens(piece: Any) -> Iterator[tuple[str, float, float, bool]]:
    """Yield (token, bits, nats, whether it is unknown) of each token of a piece."""
    return zip(piece.tokens, piece.bits.tolist(), piece.nats.tolist(), piece.unknown.tolist())


def decoded(text: Any) -> str:
    """Return a text, or the bytes of one."""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def clipped(text: Any) -> str:
    """Return the beginning of a text, on one line, with nothing in it that a terminal obeys."""
    shown = repr(decoded(text[: SHOWN + 1]))[1:-1]
    return shown if len(text) <= SHOWN else shown[: SHOWN - 3] + "..."


def _summary(total: Any, texts: int, unit: str, by: str) -> str:
    """Say how plausible all texts are together."""
    from nblstm.scoring.results import figure_text

    kind = ("document" if by == "blank-line" else by) + "s" * (texts != 1)
    return (
        f"{texts:,} {kind}: {total.tokens:,} {unit}s, {total.unknown:,} unknown; perplexity {figure_text(total.perplexity, 4)}, "
        f"{total.bits_per_character:.4f} bits per character, {total.bits_per_byte:.4f} per byte"
    )
