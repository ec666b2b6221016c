"""LanguageModel: a model file in memory, to generate and to score with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from nblstm import checks
from nblstm.config import BeamConfig, ModelConfig, SampleConfig, WriteConfig, check_writes
from nblstm.errors import ConfigError, TextError
from nblstm.files.model_file import load_model, load_state, save_state
from nblstm.generation import sampler
from nblstm.generation.beam import BeamSearch, Hypothesis, StopStrings, distinct, text_after
from nblstm.generation.cowriter import CoWriter
from nblstm.generation.stops import Stops
from nblstm.kernels.threads import WORKERS
from nblstm.model.network import Network
from nblstm.model.parameters import check_parameters, flatten, parameter_shapes
from nblstm.model.state import State
from nblstm.scoring import Score, Surprisals, Text, choose_backend, judge, score, start_id
from nblstm.text.lines import normalized, without_end
from nblstm.text.vocabulary import Vocabulary, check_vocabulary, checked

NOVEL_TRIES = 20  # rounds of texts that `generate_novel` writes at most


@dataclass(frozen=True)
class Found:
    """A text that `LanguageModel.beam` has found.

    log_probability: of its tokens, in nats, the end token and a stop string included, the prompt not.
    score: log_probability / ((5 + tokens) / 6)^length_penalty.
    """

    text: str
    log_probability: float
    score: float


class LanguageModel:
    """A trained model. `nblstm.load(path)` makes one.

    config: ModelConfig. vocabulary: Vocabulary. training: facts about how it was made.
    parameters: (config.num_parameters,) of config.dtype, finite, only to be read: shared, not copied, if they are
    `checks.in_form`, and then those that were given must not change. ConfigError unless these fit together.

    Any number of threads may ask one model for anything at once; what it returns step by step (`generate`, `cowriter`,
    `score_lines`) is for one thread at a time.
    """

    def __init__(
        self, config: ModelConfig, vocabulary: Vocabulary, parameters: np.ndarray, training: dict[str, Any]
    ) -> None:
        self.config, self.vocabulary = check_vocabulary(ModelConfig, config, vocabulary), vocabulary
        self._given = check_parameters(config, parameters)  # the same numbers, of the type that the compiled kernels know
        self.parameters, self.training = self._given.view(), checks.a(dict, "training", training)
        self.parameters.flags.writeable = False
        self._networks: dict[tuple[str, int], Network] = {}
        self._fingerprint: str | None = None

    def network(self, backend: str = "numpy", threads: int = 0) -> Network:
        """The network on a backend, "numpy", "cpu" or "cuda" (DeviceError where that cannot run); made once."""
        checks.a(str, "backend", backend), checks.whole("threads", threads, 0, WORKERS)
        network = self._networks.get((backend, threads))
        if network is None:
            network = Network(self.config, self._given, backend, threads, constant=True)
            network = self._networks.setdefault((backend, threads), network)  # the first one, if two threads made it
        return network

    def encode(self, text: str) -> np.ndarray:
        """Token ids (tokens,) int64 of a text. TextError if it is none."""
        return self.vocabulary.encode(checked(text)).astype(np.int64)

    def state(self, text: str = "", before: State | None = None, backend: str = "numpy") -> State:
        """What the model remembers after `text`, to be passed to `generate`.

        before: the state before the text; None for nothing. A model of documents then begins behind the end of one;
        without any text, others begin after a line end. ConfigError if the model is bidirectional, as for all that
        writes.
        """
        check_writes(self.config)
        before = self._checked_state(before)
        ids, end = self.encode(text), self.vocabulary.end_id
        if before is None:
            ids = ids if len(ids) and end is None else np.concatenate([[start_id(self.vocabulary)], ids])
        return sampler.read(self.network(backend), ids, before)

    def _checked_state(self, state: State | None) -> State | None:
        """The state, if there is one, as kernels read it. ConfigError unless it is finite, and of such a model."""
        if state is None:
            return None
        if not isinstance(state, State):
            raise ConfigError(f"state must be what model.state() returns, got {type(state).__name__}.")
        try:
            state = state.of(self.config, 1)
        except ConfigError as error:
            raise ConfigError(f"the state is of another model; make one with this model's state(): {error}") from None
        state.check_finite()
        return state

    def save_state(self, path: str | os.PathLike[str], state: State) -> None:
        """Write a state to a file that only this model will read. ModelFileError if it cannot be written."""
        save_state(path, vars(self._checked_state(checks.a(State, "state", state))), self.fingerprint)

    def load_state(self, path: str | os.PathLike[str]) -> State:
        """The state in a file. ModelFileError if it is missing, damaged, or another model's."""
        shapes = {name: array.shape for name, array in vars(State.zeros(self.config)).items()}
        return State(**load_state(path, self.fingerprint, shapes, self.config.dtype))

    @property
    def fingerprint(self) -> str:
        """A digest of all that makes the model write what it writes: config, vocabulary, parameters."""
        if self._fingerprint is None:
            facts = json.dumps([self.config.to_dict(), self.vocabulary.to_dict()])
            digest = hashlib.blake2b(facts.encode(), digest_size=16)
            digest.update(self.parameters.view(np.uint8))
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def generate(
        self, prompt: str = "", *, state: State | None = None, stop: str | Sequence[str] = (), until_end: bool = False,
        **settings: Any,
    ) -> Writing:  # fmt: skip
        """The text that follows the prompt, in pieces as it is made; "".join(...) is the whole.

        settings: fields of SampleConfig (n, temperature, top_k, seed, backend, ...); ConfigError names a wrong one.
        state: what comes before the prompt, as `state()` returns it.
        stop: the text ends before the first of these strings. until_end: ConfigError if the model knows no end of a
        text; one that does ends there in any case.
        """
        return Writing(self._writing(prompt, state, stop, until_end, {**settings, "num_samples": 1}))

    def generate_many(
        self, prompt: str = "", *, state: State | None = None, stop: str | Sequence[str] = (), until_end: bool = False,
        **settings: Any,
    ) -> list[str]:  # fmt: skip
        """num_samples texts that follow the prompt, advanced together; arguments as in `generate`."""
        return self._writing(prompt, state, stop, until_end, settings).finish()

    def generate_novel(
        self, prompt: str = "", *, corpus: str, state: State | None = None, stop: str | Sequence[str] = (),
        until_end: bool = False, **settings: Any,
    ) -> Novel:  # fmt: skip
        """As `generate_many`, but only texts that do not stand in the corpus, the prompt in front of them.

        A model of documents is compared with whole lines of the corpus (or several lines in a row), others with any
        place in it; line ends are alike (see `nblstm.text.lines`), and so are blanks where the model knows only words.
        Up to NOVEL_TRIES rounds of num_samples texts are tried; then there may be fewer than num_samples.
        """
        texts = self._writing(prompt, state, stop, until_end, settings)
        edge = "" if self.vocabulary.end_id is None else "\n"
        comparable = lambda text: edge + self.vocabulary.canonical(normalized(text)) + edge  # noqa: E731
        found, skipped, corpus = [], 0, comparable(checks.a(str, "corpus", corpus))
        for text in chain.from_iterable(texts.finish() for _ in range(NOVEL_TRIES)):
            if comparable(prompt + text) in corpus:
                skipped += 1
            else:
                found.append(text)
            if len(found) == texts.config.num_samples:
                break
        return Novel(found, skipped)

    def _writing(
        self, prompt: str, before: State | None, stop: str | Sequence[str], until_end: bool, settings: dict[str, Any]
    ) -> Texts:
        """The texts that will be written; every setting is checked now, nothing is read yet."""
        check_writes(self.config)
        checked(prompt)
        before = self._checked_state(before)
        if checks.a(bool, "until_end", until_end) and self.vocabulary.end_id is None:
            raise ConfigError("this model knows no end of a text; leave out until_end, or train one on documents.")
        stops = (stop,) if isinstance(stop, str) else tuple(checks.items("stop", stop))
        return Texts(self, prompt, before, stops, SampleConfig.from_dict(settings))

    def beam(
        self,
        prompt: str = "",
        *,
        state: State | None = None,
        report: Callable[[int], None] | None = None,
        **settings: Any,
    ) -> list[Found]:
        """The num_samples most likely texts that follow the prompt, the best first; distinct, so there may be fewer.

        settings: fields of BeamConfig (n, beam, num_samples, length_penalty, groups, diversity, stochastic, seed, stop,
        backend); ConfigError names a wrong one. Of several groups the best of each comes first, then their second, and
        so on. A stochastic beam returns texts in the order in which it drew them.
        state: what comes before the prompt, as `state()` returns it. report: told the number of tokens now and then.
        """
        config = BeamConfig.from_dict(settings)
        checked(prompt)
        checks.a((Callable, type(None)), "report", report)
        like = SampleConfig(n=config.n, num_samples=config.beam, backend=config.backend)
        backend = sampler.choose_backend(self.config, like, len(prompt))
        read = self.encode(prompt).tolist()
        ending = StopStrings(self.vocabulary, config.stop, read) if config.stop else None
        before = self.state(prompt, state, backend)
        search = BeamSearch(self.network(backend), self.vocabulary, before, config, ending)
        while not search.done:
            search.step()
            if report:
                report(search.steps)

        def text_of(hypothesis: Hypothesis) -> str:
            text = text_after(self.vocabulary, read, hypothesis.tokens)
            return text if ending is None else ending.cut(text)

        found = distinct(search.hypotheses(), text_of)[: config.num_samples]
        return [Found(text, hypothesis.log_probability, hypothesis.score) for text, hypothesis in found]

    def cowriter(self, **settings: Any) -> CoWriter:
        """A text to be written together: give it keys and ask how the model would go on.

        settings: fields of WriteConfig (continuations, until, n, backend); ConfigError names a wrong one.
        """
        config = WriteConfig.from_dict(settings)
        backend = "numpy" if config.backend == "auto" else config.backend
        return CoWriter(self.network(backend), self.vocabulary, self.state(backend=backend), config)

    def score(self, text: Text | Iterable[Text], backend: str = "auto", threads: int = 0) -> Score:
        """How probable the model finds a text (or its pieces, cut between tokens). Its first token is given.

        A bidirectional model fills in every token from both sides, the first as well; see `nblstm.scoring`.

        backend: "numpy", "cpu", or "auto" for the one that is expected to be done first. threads: 0 for every core.
        """
        chunks = [text] if isinstance(text, (str, bytes)) else checks.items("text", text)
        network, chunks = self.scorer(chunks, backend, threads)
        return score(network, self.vocabulary, chunks)

    def score_lines(self, lines: Iterable[Text], backend: str = "auto", threads: int = 0) -> Iterator[Score]:
        """The score of each line, as many of them are read at once; a line end behind it is not part of it.

        Every line is a text of its own, read after a line end, so its first token is scored too. A model of documents
        reads it after its end token and must predict that token in the end. Lines are taken as they are needed, some
        hundred thousand characters ahead.
        """
        if isinstance(lines, (str, bytes)):
            raise TextError("lines must be several texts, got a single one; split it with .splitlines().")
        checks.items("lines", lines)
        bare = (without_end(checked(line)) for line in lines)
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
        texts = map(checked, checks.items("texts", texts))
        if checks.a(str, "backend", backend) == "auto":
            backend, texts = choose_backend(self.config, texts, side_by_side)
        return self.network(backend, threads), texts


class _Text:
    """One text as its ids come: what is certain of it, until its end or a stop string. over: whether that has come."""

    def __init__(self, vocabulary: Vocabulary, prompt: list[int], stops: tuple[str, ...]) -> None:
        self.decoder, self.end, self.stops, self.over = vocabulary.decoder(), vocabulary.end_id, Stops(stops), False
        for token in prompt:
            self.decoder.feed(token)

    def feed(self, ids: list[int]) -> str:
        """The text that is certain now that these ids have come; none behind the end."""
        if self.over:
            return ""
        if self.end in ids:
            return self.stops.feed("".join(map(self.decoder.feed, ids[: ids.index(self.end)]))) + self.flush()
        text = self.stops.feed("".join(map(self.decoder.feed, ids)))
        self.over = self.stops.found
        return text

    def flush(self) -> str:
        """What was held back; the text ends here."""
        if self.over:
            return ""
        self.over = True
        return self.stops.feed(self.decoder.flush()) + self.stops.flush()


class Texts:
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
        """The state behind the prompt, read when it is first asked for."""
        if self._start is None:
            self._start = self.model.state(self.prompt, self.before, self.backend)
        return self._start

    def pieces(self) -> Iterator[list[str]]:
        """The next piece of each text, then what is still held back. Each call writes new texts."""
        vocabulary, N = self.model.vocabulary, self.config.num_samples
        ids = self.model.encode(self.prompt)
        texts = [_Text(vocabulary, ids.tolist(), self.stops) for _ in range(N)]
        banned = vocabulary.never_written
        network = self.model.network(self.backend)
        over = lambda n: texts[n].over  # noqa: E731
        for piece in sampler.generate(network, self.start, self.config, self.random, banned, ids, over):
            yield [text.feed(row) for text, row in zip(texts, piece.tolist())]
        yield [text.flush() for text in texts]

    def finish(self) -> list[str]:
        """New texts, whole."""
        return ["".join(parts) for parts in zip(*self.pieces())]


class Writing(Iterator[str]):
    """The pieces of one text, and what the model remembers behind them."""

    def __init__(self, texts: Texts) -> None:
        self._texts, self._pieces = texts, texts.pieces()
        self._written: list[str] = []

    def __next__(self) -> str:
        (piece,) = next(self._pieces)
        self._written.append(piece)
        return piece

    def state(self) -> State:
        """The state behind the prompt and the text so far, as `LanguageModel.state` gives it."""
        texts = self._texts
        return texts.model.state("".join(self._written), texts.start, texts.backend)


class Novel(NamedTuple):
    """What `generate_novel` found."""

    texts: list[str]
    skipped: int  # texts that stand in the corpus


def load(path: str | os.PathLike[str]) -> LanguageModel:
    """The model in a file. ModelFileError if it is missing, damaged, foreign or from a newer version."""
    file = load_model(path, parameter_shapes)
    return LanguageModel(file.config, file.vocabulary, flatten(file.weights, file.config), file.training)
