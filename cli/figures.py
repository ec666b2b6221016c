"""The parts that `eval` and `score` share: figures of a score, their table, the protocol in words, progress."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from nblstm.cli.progress import COMPILING, Progress, speed, when_compiling

from nblstm.errors import ConfigError

UNITS = {"char": "character", "word": "word", "byte": "byte", "subword": "sub-word"}  # what a token is called, by level
QUICK = 2.0  # seconds without a word before progress is shown
NARROWEST = 10  # characters of a column


def figures(score: Any) -> dict[str, float]:
    """Return a score as names and numbers."""
    return {
        "nats_per_token": score.loss,
        "perplexity": score.perplexity,
        "bits_per_character": score.bits_per_character,
        "bits_per_byte": score.bits_per_byte,
        "tokens": score.tokens,
        "unknown": score.unknown,
    }


def heads(levels: set[str]) -> list[str]:
    """Return the columns of `figures`, for models of these levels."""
    unit = UNITS[next(iter(levels))] if len(levels) == 1 else "token"
    return [f"nats/{unit}", "perplexity", "bits/character", "bits/byte", f"{unit}s", "unknown"]


def row(columns: list[str], values: list[Any], *names: str) -> str:
    """Return a line of the table: numbers below their columns, to the right, and names behind them."""
    from nblstm.scoring.results import figure_text

    cells = [
        value if isinstance(value, str) else figure_text(value, 4) if isinstance(value, float) else f"{value:,}"
        for value in values
    ]
    return "  ".join([f"{cell:>{max(NARROWEST, len(head))}}" for head, cell in zip(columns, cells)] + list(names))


KINDS = {"line": "line", "blank-line": "document (lines up to an empty one)", "file": "file"}  # of texts on their own


def filling_in(config: Any) -> str:
    """Tell how a bidirectional model scores, in words."""
    return (
        f"every token is hidden once, one in {config.masked_passes} at a time, and filled in from both sides "
        "(pseudo-log-likelihood)"
    )


def protocol(model: Any, kind: str) -> str:
    """Tell how texts that know nothing of each other are scored, in words."""
    vocabulary = model.vocabulary
    if model.NETWORK.span:
        return f"each {KINDS[kind]} on its own; {filling_in(model.config)}"
    if vocabulary.end_id is None:
        rest = "" if kind == "file" else ", the line end behind it is not"
        return f"each {KINDS[kind]} on its own, read after a line end; its first token is scored{rest}"
    end = vocabulary.tokens[vocabulary.end_id]
    return f"each {KINDS[kind]} on its own, read after {end}; its first token is scored, and so is the {end} behind it"


def check_adapts(models: Sequence[Any], streams: int = 1, option: str = "--adapt") -> None:
    """Raise ConfigError unless models can learn from, or remember, one stream while they read it."""
    if streams > 1:
        raise ConfigError(
            f"{option} reads one stream, from its first token to its last; leave out --streams and --windows."
        )
    if any(not hasattr(model, "adapting") for model in models):
        raise ConfigError(f"{option} is for models that read from left to right; a bidirectional one cannot do so.")


class Dynamic(NamedTuple):
    """How a model changes by what it reads: fields of AdaptConfig, fields of CacheConfig; None: not so."""

    adapt: dict[str, Any] | None
    cache: dict[str, Any] | None

    @property
    def option(self) -> str | None:
        """The option that asks for it; None where nothing changes."""
        return "--adapt" if self.adapt is not None else "--cache" if self.cache is not None else None

    def network(self, model: Any, **how: Any) -> Any:
        """Return the network that changes."""
        if self.cache is None:
            return model.adapting(**how, **(self.adapt or {}))
        return model.caching(**how, adapt=self.adapt, **self.cache)

    def said(self, network: Any) -> str:
        """Tell how such a network changes, in words."""
        parts = []
        if self.adapt is not None:
            how = network.how
            by = f"({how.rule}, rate {how.rate:g}, decay {how.decay:g})"
            parts.append(f"every {how.segment} tokens learned from once they are scored {by}")
        if self.cache is not None:
            how = network.head.how
            parts.append(f"a neural cache of the last {how.size:,} tokens (theta {how.theta:g}, share {how.share:g})")
        return f"dynamic evaluation, {' and '.join(parts)}"


def documents(files: Sequence[Any], kind: str, level: str, encoding: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield ({"file", "line"}, text) of every document (a line, or a blank-line one); bytes at byte level."""
    from nblstm.text.documents import numbered
    from nblstm.text.reading import read_each

    for file, chunks in read_each(files, level, encoding):
        for line, text in numbered(chunks, kind, file):
            yield {"file": file, "line": line}, text


class Reading:
    """Progress through the files, on stderr, once it takes longer than QUICK; scoring calls `update`."""

    def __init__(self, names: Sequence[str], times: int = 1, hidden: bool = False) -> None:
        """names: the files, each read so many times. The share that is done is known if all are plain files."""
        self.progress = Progress(sys.stderr, quiet=hidden)
        self.started = time.monotonic()
        self.tokens, self.size = 0, 0.0
        plain = all(os.path.isfile(name) and not name.endswith(".gz") for name in names)
        self.total = times * sum(map(os.path.getsize, names)) if plain else 0

    def listen(self) -> None:
        """Tell on a terminal that kernels are compiled; to be called when it is chosen what computes."""
        if self.progress.in_place:
            when_compiling(lambda: self.progress.wait(COMPILING))

    def update(self, tokens: int, size: float) -> None:
        """Count so many more tokens as done, of so many bytes of text."""
        self.tokens, self.size = self.tokens + tokens, self.size + size
        seconds = time.monotonic() - self.started
        if seconds > QUICK:
            done = min(1.0, self.size / self.total) if self.total else 0.0
            share = [f"{100 * done:.0f} %"] if self.total else []
            self.progress.tell(f"{self.tokens:,} tokens", done, "  ".join([*share, speed(self.tokens / seconds)]))

    def tokens_done(self, tokens: int) -> None:
        """Count so many more tokens as done, where it is not known how much text they are."""
        self.update(tokens, 0.0)

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *error: Any) -> None:
        when_compiling(None)
        self.progress.close()
