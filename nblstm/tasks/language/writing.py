"""Texts under way: a batch of samples, and the stream of one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nblstm.config import SampleConfig
from nblstm.generation import sampler
from nblstm.generation.stops import Stops
from nblstm.generation.uniform import uniform
from nblstm.nn.state import State
from nblstm.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from nblstm.tasks.language.model import LanguageModel


class DrawnText(NamedTuple):
    """A text that `LanguageModel.draw` has drawn.

    log_probability: in nats, of the text behind the prompt as the model finds it, without temperature and filters; an
    end token that ended it is included. tokens: how many these are. seed: the one that all texts of the call have.
    """

    text: str
    log_probability: float
    tokens: int
    seed: int


class _TextDecoder:
    """Decodes one text as its ids come, until its end or a stop string. over: whether that has come. ids: up to an end."""

    def __init__(self, vocabulary: Vocabulary, prompt: list[int], stops: tuple[str, ...]) -> None:
        self.decoder, self.end, self.stops, self.over = vocabulary.decoder(), vocabulary.end_id, Stops(stops), False
        self.ids: list[int] = []
        for token in prompt:
            self.decoder.feed(token)

    def feed(self, ids: list[int]) -> str:
        """Return the text that is certain now that these ids have come; "" after the end."""
        if self.over:
            return ""
        if self.end in ids:
            self.ids += ids[: ids.index(self.end) + 1]
            return self.stops.feed("".join(map(self.decoder.feed, ids[: ids.index(self.end)]))) + self.flush()
        self.ids += ids
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
        self.seed = fresh_seed() if config.seed is None else config.seed
        self.random = uniform(self.seed, config.n * config.num_samples)
        self._bias, never = sampler.biases(model.vocabulary, config.logit_bias)
        self._never = [*model.vocabulary.never_written, *never]
        self._texts: list[_TextDecoder] = []  # of the last call of `pieces`
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
        self._texts = texts
        network = self.model.network(self.backend)
        over = lambda n: texts[n].over
        for piece in sampler.generate(
            network, self.start, self.config, self.random, self._never, self.prompt, over, self._bias
        ):
            yield [text.feed(row) for text, row in zip(texts, piece.tolist())]
        yield [text.flush() for text in texts]

    def finish(self) -> list[str]:
        """Write new texts, whole."""
        return ["".join(parts) for parts in zip(*self.pieces())]

    def draw(self) -> list[DrawnText]:
        """Write new texts, whole, each with its probability."""
        return [self._judged(text, drawn) for text, drawn in zip(self.finish(), self._texts)]

    def _judged(self, text: str, drawn: _TextDecoder) -> DrawnText:
        """Find the probability of a text; one that a stop string has cut is read again."""
        from nblstm.scoring import following_losses  # which who only writes does not need

        ids = self.model.encode(text) if drawn.stops.found else np.array(drawn.ids, np.int64)
        nats = following_losses(self.model.network(self.backend), self.start, ids)
        return DrawnText(text, -float(nats.sum(dtype=np.float64)), len(ids), self.seed)


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


def fresh_seed() -> int:
    """Draw a seed that nobody has asked for, to be told to who wants the same text again."""
    return int.from_bytes(os.urandom(4), "little")


class NovelTexts(NamedTuple):
    """Texts that `generate_novel` has found."""

    texts: list[str]
    skipped: int  # texts that stand in the corpus
