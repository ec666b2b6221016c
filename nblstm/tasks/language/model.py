"""LanguageModel: a model that reads from left to right, to generate and to score with."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nblstm import checks
from nblstm.config import SampleConfig
from nblstm.errors import ConfigError
from nblstm.files.model_file import ModelFile, load_state, save_state
from nblstm.generation import sampler
from nblstm.kernels import fastest
from nblstm.nn.int8 import round_parameters
from nblstm.nn.network import Network
from nblstm.nn.parameters import flatten, named_tensors
from nblstm.nn.state import State
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.learning import LearningModel
from nblstm.tasks.language.writing import DrawnText, NovelTexts, SampleBatch, TextStream
from nblstm.text.lines import normalized
from nblstm.text.strings import checked

if TYPE_CHECKING:  # what only some need is imported where it is used: a text that is drawn starts sooner without
    from typing_extensions import Unpack

    from nblstm.generation.beam import Hypothesis
    from nblstm.generation.cowriter import CoWriter
    from nblstm.tasks.typed import BeamSettings, SampleSettings, WriteSettings

STATE_TENSORS = {"h": "h", "c": "c", "features": "top"}  # name of a state's array -> that of its tensor in a file
CONTEXTS_SHOWN = 8  # in a message
NOVEL_TRIES = 20  # rounds of texts that `generate_novel` writes at most


class BeamText(NamedTuple):
    """A text that `LanguageModel.beam` has found.

    log_probability: of its tokens, in nats, the end token and a stop string included, the prompt not.
    score: log_probability / ((5 + tokens) / 6)^length_penalty.
    """

    text: str
    log_probability: float
    score: float


class LanguageModel(LearningModel):
    """A trained language model, see `TextModel`."""

    CONFIG = LanguageConfig

    def state(self, text: str = "", before: State | None = None, backend: str = "numpy") -> State:
        """Return the state of the model after `text`, to be passed to `generate`.

        before: the state before the text; None for nothing. A model of documents then begins behind the end of one;
        without any text, others begin after a line end. NonFiniteError where the weights are too large for one.
        """
        after = self.state_after(self.encode(text), self._checked_state(before), backend)
        if not all(np.isfinite(array).all() for array in vars(after).values()):
            raise checks.non_finite("the state after this text is")
        return after

    def state_after(self, ids: np.ndarray, before: State | None, backend: str) -> State:
        """Read the ids (M,) int64 of a text that follows `before`, a state as `state()` returns it; see there."""
        if before is None and (not len(ids) or self.vocabulary.end_id is not None):
            ids = np.concatenate([[self.vocabulary.start_id], ids])
        return sampler.read_ids(self.network(backend), ids, before)

    def _checked_state(self, state: State | None) -> State | None:
        """Return the state, if there is one, as kernels read it. ConfigError unless it is finite and of such a model."""
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
        arrays = vars(self._checked_state(checks.a(State, "state", state)))
        save_state(path, {STATE_TENSORS[name]: array for name, array in arrays.items()}, self.fingerprint)

    def load_state(self, path: str | os.PathLike[str]) -> State:
        """Read the state in a file. ModelFileError if it is missing, damaged, or another model's."""
        shapes = {STATE_TENSORS[name]: array.shape for name, array in vars(State.zeros(self.config)).items()}
        tensors = load_state(path, self.fingerprint, shapes, self.config.dtype)
        return State(**{name: tensors[stored] for name, stored in STATE_TENSORS.items()})

    def in_context(self, context: str, prompt: str = "") -> str:
        """Return a prompt that has this context, for a model of documents that have one (context_column).

        ConfigError for a model without contexts, or a context that none of its documents had.
        """
        from nblstm.text.tables import in_context, one_line

        line, known = one_line(checks.a(str, "context", context)), self._contexts()
        if known is None:
            raise ConfigError("the documents of this model have no contexts; train one with context_column.")
        if not line or (known and line not in known):
            shown = ", ".join(known[:CONTEXTS_SHOWN]) + (", ..." if len(known) > CONTEXTS_SHOWN else "")
            raise ConfigError(f"context must be one that the model has read ({shown or 'any'}), got {context!r:.40}.")
        return in_context(line, checked(prompt, str))

    def _contexts(self) -> list[str] | None:
        """Return the contexts that are known, none where they were too many to keep; None for a model without."""
        text, known = (self.training.get(name) for name in ("text", "contexts"))
        if not isinstance(text, dict) or not text.get("context_column"):
            return None
        return [each for each in known if isinstance(each, str)] if isinstance(known, list) else []

    def generate(
        self, prompt: str = "", *, state: State | None = None, stop: str | Sequence[str] = (), until_end: bool = False,
        **settings: Unpack[SampleSettings],
    ) -> TextStream:  # fmt: skip
        """Generate the text that follows the prompt, in pieces as it is made; "".join(...) is the whole.

        settings: fields of SampleConfig (n, temperature, top_k, seed, backend, ...); ConfigError names a wrong one.
        state: what comes before the prompt, as `state()` returns it.
        stop: the text ends before the first of these strings. until_end: ConfigError if the model knows no end of a
        text; one that does ends there in any case.
        """
        return TextStream(self._batch(prompt, state, stop, until_end, {**settings, "num_samples": 1}))

    def generate_many(
        self, prompt: str = "", *, state: State | None = None, stop: str | Sequence[str] = (), until_end: bool = False,
        **settings: Unpack[SampleSettings],
    ) -> list[str]:  # fmt: skip
        """Generate num_samples texts that follow the prompt, as one batch; arguments as in `generate`."""
        return self._batch(prompt, state, stop, until_end, dict(settings)).finish()

    def draw(
        self, prompt: str = "", *, state: State | None = None, stop: str | Sequence[str] = (), until_end: bool = False,
        **settings: Unpack[SampleSettings],
    ) -> list[DrawnText]:  # fmt: skip
        """Generate as `generate_many` does: the texts with their log-probabilities and the seed, also where none was given."""
        return self._batch(prompt, state, stop, until_end, dict(settings)).draw()

    def generate_novel(
        self, prompt: str = "", *, corpus: str, state: State | None = None, stop: str | Sequence[str] = (),
        until_end: bool = False, **settings: Unpack[SampleSettings],
    ) -> NovelTexts:  # fmt: skip
        """Generate as `generate_many` does, but only texts that do not occur in the corpus, after the prompt.

        A model of documents is compared with whole lines of the corpus (or several lines in a row), others with any
        place in it; line ends are alike (see `nblstm.text.lines`), and so are blanks where the model knows only words.
        Up to NOVEL_TRIES rounds of num_samples texts are tried; then there may be fewer than num_samples.
        """
        texts = self._batch(prompt, state, stop, until_end, dict(settings))
        edge = "" if self.vocabulary.end_id is None else "\n"
        comparable = lambda text: edge + self.vocabulary.canonical(normalized(text)) + edge
        found, skipped, corpus = [], 0, comparable(checks.a(str, "corpus", corpus))
        for text in chain.from_iterable(texts.finish() for _ in range(NOVEL_TRIES)):
            if comparable(prompt + text) in corpus:
                skipped += 1
            else:
                found.append(text)
            if len(found) == texts.config.num_samples:
                break
        return NovelTexts(found, skipped)

    def _batch(
        self, prompt: str, before: State | None, stop: str | Sequence[str], until_end: bool, settings: dict[str, Any]
    ) -> SampleBatch:
        """Make the batch of texts that will be written: the settings are checked and the prompt is encoded now."""
        ids = self.encode(prompt)
        before = self._checked_state(before)
        if checks.a(bool, "until_end", until_end) and self.vocabulary.end_id is None:
            raise ConfigError("this model knows no end of a text; leave out until_end, or train one on documents.")
        stops = (stop,) if isinstance(stop, str) else tuple(checks.items("stop", stop))
        return SampleBatch(self, ids, before, stops, SampleConfig.from_dict(settings))

    def beam(
        self,
        prompt: str = "",
        *,
        state: State | None = None,
        on_progress: Callable[[int], None] | None = None,
        **settings: Unpack[BeamSettings],
    ) -> list[BeamText]:
        """Search the num_samples most likely texts that follow the prompt, the best first; distinct, so maybe fewer.

        settings: fields of BeamConfig (n, beam, num_samples, length_penalty, groups, diversity, stochastic, seed, stop,
        backend); ConfigError names a wrong one. Of several groups the best of each comes first, then their second, and
        so on. A stochastic beam returns texts in the order in which it drew them.
        state: what comes before the prompt, as `state()` returns it. on_progress: called with the number of tokens.
        """
        from nblstm.config import BeamConfig
        from nblstm.generation.beam import BeamSearch, StopStrings, distinct, text_after

        asked: dict[str, Any] = dict(settings)
        if "report" in asked:
            warnings.warn("beam(report=...) is now on_progress=...", DeprecationWarning, stacklevel=2)
            on_progress = asked.pop("report")
        config = BeamConfig.from_dict(asked)
        ids, before = self.encode(prompt), self._checked_state(state)
        if on_progress is not None and not callable(on_progress):
            raise ConfigError(f"on_progress must be a function or None, got {type(on_progress).__name__}.")
        like = SampleConfig(n=config.n, num_samples=config.beam, backend=config.backend)
        backend = sampler.choose_backend(self.config, like, len(ids))
        read = ids.tolist()
        ending = StopStrings(self.vocabulary, config.stop, read) if config.stop else None
        start = self.state_after(ids, before, backend)
        search = BeamSearch(self.network(backend), self.vocabulary, start, config, ending)
        while not search.done:
            search.step()
            if on_progress:
                on_progress(search.steps)

        def text_of(hypothesis: Hypothesis) -> str:
            text = text_after(self.vocabulary, read, hypothesis.tokens)
            return text if ending is None else ending.cut(text)

        found = distinct(search.hypotheses(), text_of)[: config.num_samples]
        return [BeamText(text, hypothesis.log_probability, hypothesis.score) for text, hypothesis in found]

    # ------------------------------------------------------------ small integers

    def quantize(self) -> LanguageModel:
        """Return the same model with its matrices rounded to int8, a scale for each row: a quarter of the file.

        Its parameters are the float32 numbers that these are, and compiled kernels write with the small integers. It has no
        gradient statistics; `prepared` finds them again. Learning goes on in float32: `adapt` gives a model that is not
        rounded.
        """
        config = replace(self.config, dtype="float32")
        model = LanguageModel(config, self.vocabulary, round_parameters(config, self.parameters), self.training)
        model.int8 = True
        return model

    def _described(self) -> list[Any]:
        return [*super()._described(), *(["int8"] if self.int8 else [])]

    def _new_network(self, backend: str, threads: int) -> Network:
        return self.NETWORK(self.config, self._given, backend, threads, constant=True, int8=self.int8)

    # ------------------------------------------------------------ files

    @classmethod
    def restore(cls, file: ModelFile) -> LanguageModel:
        """Make the model of a file's content. ConfigError where it does not fit together."""
        assert file.vocabulary is not None
        model = cls(file.config, file.vocabulary, file.parameters, file.training)
        model.int8 = file.int8
        return model.with_statistics(flatten(file.statistics, file.config)) if file.statistics else model

    def _file(self) -> ModelFile:
        statistics = {} if self.statistics is None else named_tensors(self.statistics, self.config)
        return replace(super()._file(), statistics=statistics, int8=self.int8)

    def cowriter(self, adapt: Mapping[str, Any] | None = None, **settings: Unpack[WriteSettings]) -> CoWriter:
        """Start a text to be written together: give it keys and ask for the model's continuations.

        adapt: learn from each line as it ends, by these fields of AdaptConfig, {} for good ones; `taught` makes a model of
        the writer's network. settings: fields of WriteConfig (continuations, until, n, backend); ConfigError names a
        wrong one.
        """
        from nblstm.config import WriteConfig
        from nblstm.generation.cowriter import CoWriter

        config, auto = WriteConfig.from_dict(settings), "numpy" if adapt is None else fastest()
        backend = auto if config.backend == "auto" else config.backend
        fresh = self.state(backend=backend)
        if adapt is None:
            return CoWriter(self.network(backend), self.vocabulary, fresh, config)
        network = self.adapting(backend, **checks.a(dict, "adapt", adapt))
        return CoWriter(network, self.vocabulary, fresh, config, network)
