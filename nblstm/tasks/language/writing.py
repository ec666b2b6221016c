"""Texts under way: a batch of samples, and the stream of one of them."""

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


class _TextDecoder:
    """Decodes one text as its ids come, until its end or a stop string. over: whether that has come."""

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
        """Return the text that was held back; it ends here."""
        if self.over:
            return ""
        self.over = True
        return self.stops.feed(self.decoder.flush()) + self.stops.flush()


class SampleBatch:
    """A batch of config.num_samples texts that follow a prompt. Made by `LanguageModel.generate` and its like."""

    def __init__(
        self, model: LanguageModel, prompt: np.ndarray, before: State | None, stops: tuple[str, ...],
        config: SampleConfig,
    ) -> None:  # fmt: skip
        """prompt: its ids (M,) int64. before: the state before it; None for nothing. Nothing is read yet."""
        Stops(stops)  # ConfigError now, not at the first piece
        self.model, self.prompt, self.before, self.stops, self.config = model, prompt, before, stops, config
        self.backend = sampler.choose_backend(model.config, config, len(prompt))
        self.random = np.random.default_rng(config.seed)
        self._start: State | None = None

    @property
    def start(self) -> State:
        """The state after the prompt, read when it is first asked for."""
        if self._start is None:
            self._start = self.model.state_after(self.prompt, self.before, self.backend)
        return self._start

    def pieces(self) -> Iterator[list[str]]:
        """Yield the next piece of each text, then the text still held back. Each call writes new texts."""
        vocabulary, before = self.model.vocabulary, self.prompt.tolist()
        texts = [_TextDecoder(vocabulary, before, self.stops) for _ in range(self.config.num_samples)]
        banned = vocabulary.never_written
        network = self.model.network(self.backend)
        over = lambda n: texts[n].over
        for piece in sampler.generate(network, self.start, self.config, self.random, banned, self.prompt, over):
            yield [text.feed(row) for text, row in zip(texts, piece.tolist())]
        yield [text.flush() for text in texts]

    def finish(self) -> list[str]:
        """Write new texts, whole."""
        return ["".join(parts) for parts in zip(*self.pieces())]


class TextStream(Iterator[str]):
    """The pieces of one text as they are made, and the state after them."""

    def __init__(self, batch: SampleBatch) -> None:
        """batch: of one text."""
        self._batch, self._pieces = batch, batch.pieces()
        self._written: list[str] = []

    def __next__(self) -> str:
        (piece,) = next(self._pieces)
        self._written.append(piece)
        return piece

    def state(self) -> State:
        """Read the text so far, and return the state after it and the prompt, as `LanguageModel.state` gives it."""
        batch = self._batch
        return batch.model.state_after(batch.model.encode("".join(self._written)), batch.start, batch.backend)


class NovelTexts(NamedTuple):
    """Texts that `generate_novel` has found."""

    texts: list[str]
    skipped: int  # texts that stand in the corpus
