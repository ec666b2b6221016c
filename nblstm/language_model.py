"""LanguageModel: a model file in memory, to generate and to score with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nblstm.config import ModelConfig, SampleConfig
from nblstm.files.model_file import check_tensors, load_model
from nblstm.generation import sampler
from nblstm.model.network import Network
from nblstm.model.parameters import flatten, parameter_shapes
from nblstm.model.state import State
from nblstm.scoring import START, Score, Surprisals, Text, choose_backend, judge, score
from nblstm.text.vocabulary import Vocabulary


class LanguageModel:
    """A trained model. `nblstm.load(path)` makes one.

    config: ModelConfig. vocabulary: Vocabulary. training: facts about how it was made.
    parameters: (config.num_parameters,) of config.dtype.
    """

    def __init__(
        self, config: ModelConfig, vocabulary: Vocabulary, parameters: np.ndarray, training: dict[str, Any]
    ) -> None:
        self.config, self.vocabulary, self.parameters, self.training = config, vocabulary, parameters, training
        self._networks: dict[tuple[str, int], Network] = {}

    def network(self, backend: str = "numpy", threads: int = 0) -> Network:
        """The network on a backend, "numpy" or "cpu" (DeviceError without numba); made once."""
        if (backend, threads) not in self._networks:
            self._networks[backend, threads] = Network(self.config, self.parameters, backend, threads)
        return self._networks[backend, threads]

    def encode(self, text: str) -> np.ndarray:
        """Token ids (tokens,) int64 of a text."""
        return self.vocabulary.encode(text).astype(np.int64)

    def state(self, text: str = "", before: State | None = None, backend: str = "numpy") -> State:
        """What the model remembers after `text`, to be passed to `generate`.

        before: the state before the text; None for nothing. Without any text, the state after a line end.
        """
        if not text and before is None:
            text = START
        return sampler.read(self.network(backend), self.encode(text), before)

    def generate(self, prompt: str = "", *, state: State | None = None, **settings: Any) -> Iterator[str]:
        """The text that follows the prompt, in pieces as it is made; "".join(...) is the whole.

        settings: fields of SampleConfig (n, temperature, top_k, seed, backend); ConfigError names a wrong one.
        state: what comes before the prompt, as `state()` returns it.
        """
        config = self._sampling({**settings, "num_samples": 1})
        return (piece for (piece,) in self._pieces(prompt, state, config))

    def generate_many(self, prompt: str = "", *, state: State | None = None, **settings: Any) -> list[str]:
        """num_samples texts that follow the prompt, advanced together; settings as in `generate`."""
        pieces = self._pieces(prompt, state, self._sampling(settings))
        return ["".join(parts) for parts in zip(*pieces)]

    def _sampling(self, settings: dict[str, Any]) -> SampleConfig:
        return SampleConfig.from_dict(settings)

    def _pieces(self, prompt: str, before: State | None, config: SampleConfig) -> Iterator[list[str]]:
        """The next piece of each text, for every token, then what the decoders still hold."""
        backend = sampler.choose_backend(self.config, config, len(prompt))
        state = self.state(prompt, before, backend)
        decoders = [self.vocabulary.decoder() for _ in range(config.num_samples)]
        for decoder in decoders:
            for token in self.encode(prompt).tolist():
                decoder.feed(token)
        banned = () if self.vocabulary.unk_id is None or len(self.vocabulary) == 1 else (self.vocabulary.unk_id,)
        for tokens in sampler.generate(self.network(backend), state, config, banned):
            yield [decoder.feed(token) for decoder, token in zip(decoders, tokens.tolist())]
        yield [decoder.flush() for decoder in decoders]

    def score(self, text: Text | Iterable[Text], backend: str = "auto", threads: int = 0) -> Score:
        """How probable the model finds a text (or its pieces, cut between tokens). Its first token is given.

        backend: "numpy", "cpu", or "auto" for the one that is expected to be done first. threads: 0 for every core.
        """
        chunks = [text] if isinstance(text, (str, bytes)) else text
        network, chunks = self.scorer(chunks, backend, threads)
        return score(network, self.vocabulary, chunks)

    def score_lines(self, lines: Iterable[Text], backend: str = "auto", threads: int = 0) -> Iterator[Score]:
        """The score of each line, as many of them are read at once; a line end behind it is not part of it.

        Every line is a text of its own, read after a line end, so its first token is scored too. A model of documents
        reads it after its end token and must predict that token in the end. Lines are taken as they are needed, some
        hundred thousand characters ahead.
        """
        bare = (line.removesuffix("\n" if isinstance(line, str) else b"\n") for line in lines)
        network, bare = self.scorer(bare, backend, threads, side_by_side=True)
        return (found.score for found in judge(network, self.vocabulary, bare))

    def surprisals(self, text: Text, backend: str = "auto", threads: int = 0) -> Surprisals:
        """What each token of a text costs: .tokens, .nats, .bits; the text is read as `score_lines` reads a line."""
        network, texts = self.scorer([text], backend, threads)
        (found,) = judge(network, self.vocabulary, texts)
        return found

    def scorer(
        self, texts: Iterable[Text], backend: str = "auto", threads: int = 0, side_by_side: bool = False
    ) -> tuple[Network, Iterable[Text]]:
        """The network to score these texts or pieces with, and the texts: "auto" looks at the first of them."""
        if backend == "auto":
            backend, texts = choose_backend(self.config, texts, side_by_side)
        return self.network(backend, threads), texts


def load(path: str | os.PathLike[str]) -> LanguageModel:
    """The model in a file. ModelFileError if it is missing, damaged, foreign or from a newer version."""
    file = load_model(path)
    check_tensors(file.weights, parameter_shapes(file.config), path)
    return LanguageModel(file.config, file.vocabulary, flatten(file.weights, file.config), file.training)
