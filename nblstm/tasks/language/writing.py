"""Texts under way, as `LanguageModel.generate` and its like write them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nblstm.config import SampleConfig
from nblstm.generation import sampler
from nblstm.generation.stops import Stops
from nblstm.nn.state import State
from nblstm.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from nblstm.tasks.language.model import LanguageModel


class _TextDecoding:
    """One text as its ids come: what is certain of it, until its end or a stop string. over: whether that has come."""

    def __init__(self, vocabulary: Vocabulary, prompt: list[int], stops: tuple[str, ...]) -> None:
        self.decoder, self.end, self.stops, self.over = vocabulary.decoder(), vocabulary.end_id, Stops(stops), False
        for token in prompt:
            self.decoder.feed(token)

    def feed(self, ids: list[int]) -> str:
        """Return the text that is certain now that these ids have come; "" after the end."""
        if self.over:
            return ""
        if self.end in ids:
            return self.stops.feed("".join(map(self.decoder.feed, ids[: ids.index(self.end)]))) + self.flush()
        text = self.stops.feed("".join(map(self.decoder.feed, ids)))
        self.over = self.stops.found
        return text

    def flush(self) -> str:
        """Return the text that was held back; the text ends here."""
        if self.over:
            return ""
        self.over = True
        return self.stops.feed(self.decoder.flush()) + self.stops.flush()


class SampleBatch:
    """config.num_samples texts that follow a prompt, written side by side. `generate` and its like make them."""

    def __init__(
        self, model: LanguageModel, prompt: str, before: State | None, stops: tuple[str, ...], config: SampleConfig
    ) -> None:
        Stops(stops)  # ConfigError now, not at the first piece
        self.model, self.prompt, self.before, self.stops, self.config = model, prompt, before, stops, config
        self.backend = sampler.choose_backend(model.config, config, len(prompt))
        self.random = np.random.default_rng(config.seed)
        self._start: State | None = None

    @property
    def start(self) -> State:
        """The state after the prompt, read when it is first asked for."""
        if self._start is None:
            self._start = self.model.state(self.prompt, self.before, self.backend)
        return self._start

    def pieces(self) -> Iterator[list[str]]:
        """Yield the next piece of each text, then the text still held back. Each call writes new texts."""
        vocabulary, N = self.model.vocabulary, self.config.num_samples
        ids = self.model.encode(self.prompt)
        texts = [_TextDecoding(vocabulary, ids.tolist(), self.stops) for _ in range(N)]
        banned = vocabulary.never_written
        network = self.model.network(self.backend)
        over = lambda n: texts[n].over
        for piece in sampler.generate(network, self.start, self.config, self.random, banned, ids, over):
            yield [text.feed(row) for text, row in zip(texts, piece.tolist())]
        yield [text.flush() for text in texts]

    def finish(self) -> list[str]:
        """Write new texts, and return them whole."""
        return ["".join(parts) for parts in zip(*self.pieces())]


class TextStream(Iterator[str]):
    """The pieces of one text, and the state of the model after them."""

    def __init__(self, texts: SampleBatch) -> None:
        self._texts, self._pieces = texts, texts.pieces()
        self._written: list[str] = []

    def __next__(self) -> str:
        (piece,) = next(self._pieces)
        self._written.append(piece)
        return piece

    def state(self) -> State:
        """Return the state after the prompt and the text so far, as `LanguageModel.state` gives it."""
        texts = self._texts
        return texts.model.state("".join(self._written), texts.start, texts.backend)


class NovelTexts(NamedTuple):
    """The texts that `generate_novel` found."""

    texts: list[str]
    skipped: int  # texts that stand in the corpus
