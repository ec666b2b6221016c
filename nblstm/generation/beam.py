"""Beam search: the most likely texts, diverse ones, or a sample without replacement. All beams advance as one batch.

A hypothesis y of t tokens has log p(y) = sum_s log p(y_s | y_<s), in nats, and is judged by

    score(y) = log p(y) / lp(t),   lp(t) = ((5 + t) / 6)^alpha                                 (Wu et al. 2016, eq. 14)

At each step the `beam` best children of all hypotheses take the places. A hypothesis that ends keeps its place, so that
the beam searches on with fewer (Sutskever, Vinyals & Le 2014, section 3.2); at the end all that ended are compared.

Groups (Vijayakumar et al. 2018, "Diverse Beam Search", algorithm 1, Hamming diversity): the places are split into
groups that choose one after the other; a token costs `diversity` nats for each beam of an earlier group that takes it
at the same step. This guides the choice only: log p stays the model's.

Stochastic beams (Kool, van Hoof & Welling 2019, "Stochastic Beams and Where to Find Them", algorithm 1): the places go
to the children with the largest perturbed log-probability G. So the texts are drawn without replacement from p.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nblstm import checks
from nblstm.config import BeamConfig
from nblstm.generation.sampler import steps_of_a_call
from nblstm.generation.stops import Stops
from nblstm.kernels import Beam, Hypotheses
from nblstm.kernels.reference.searching import over, rank, score
from nblstm.nn.network import Network
from nblstm.nn.state import State
from nblstm.text.lines import count_ends
from nblstm.text.strings import utf8
from nblstm.text.vocabulary import Vocabulary

NOISE = 1 << 20  # numbers that a stochastic beam draws ahead
CONTEXT = 4  # tokens before others that may change their text: a word a blank, three bytes a character


@dataclass(frozen=True)
class Hypothesis:
    """A text that a search has found.

    tokens: (t,) int64, an end token included. log_probability: of all of them, in nats. score: see above.
    group: which of the beam's groups found it, from 0.
    """

    tokens: np.ndarray
    log_probability: float
    score: float
    group: int


class Ending(Protocol):
    """Where a hypothesis ends, beside the end token and the longest length."""

    window: int  # how many of the newest tokens it looks at

    def reached(self, tokens: np.ndarray) -> bool:
        """Tell whether a hypothesis ends with these newest tokens (up to `window`,)."""


class StopStrings:
    """An Ending: one of the strings has appeared in the text that follows the ids `before`."""

    def __init__(self, vocabulary: Vocabulary, strings: tuple[str, ...], before: Sequence[int] = ()) -> None:
        self.vocabulary, self.strings, self._before = vocabulary, strings, list(before[-CONTEXT:])
        # a token is a byte or more, and a line end may be two where the string has one
        self._longest = max(len(utf8(string)) + count_ends(string) for string in strings)
        self.window = CONTEXT + self._longest

    def reached(self, tokens: np.ndarray) -> bool:
        """Tell whether a string ends in the text of the last token; others would have been reached before."""
        newest = max(0, len(tokens) - self._longest)
        before = [*self._before, *tokens[:newest].tolist()]
        text, _ = decoded_after(self.vocabulary, before, tokens[newest:])
        stops = Stops(self.strings)
        stops.feed(text)
        return stops.found

    def cut(self, text: str) -> str:
        """Return the text before the first of the strings."""
        stops = Stops(self.strings)
        return stops.feed(text) + stops.flush()


class BeamSearch:
    """A search under way: `step()` until `done`, then `hypotheses()`.

    places: the B = config.beam hypotheses. steps: how many were taken, the length of the hypotheses that go on.
    """

    def __init__(
        self,
        network: Network,
        vocabulary: Vocabulary,
        state: State,
        config: BeamConfig,
        ending: Ending | None = None,
        first: np.ndarray | None = None,
        temperature: float = 1.0,
    ) -> None:
        """state: of one text, after everything that comes before. first: ids (M,) that may come first; None: all.

        temperature: what the network's logits are divided by.
        """
        self.config, self.vocabulary, self.ending, self.steps = config, vocabulary, ending, 0
        B, V = config.beam, len(vocabulary)
        self.places = Hypotheses(np.full(B, -np.inf), np.full(B, -np.inf), np.zeros(B, np.int64), np.zeros(B, bool))
        self.places.log_probability[:: B // config.groups] = 0.0  # one empty text a group
        self.places.perturbed[0] = 0.0
        self._beam = Beam(
            config.groups, config.diversity, config.stochastic,
            -1 if vocabulary.end_id is None else vocabulary.end_id, config.length_penalty, config.n,
            config.num_samples,
        )  # fmt: skip
        self._banned, self._random = np.array(vocabulary.never_written, np.int64), np.random.default_rng(config.seed)
        self._history = np.empty((2, 0, B), np.int64)  # the parent and the token of every place, at each step
        self._decoder, self._state = network.decoder(B, None, temperature), state.take(np.zeros(B, np.int64))
        self._logits = np.repeat(
            network.logits(state.features) / np.dtype(network.config.dtype).type(temperature), B, axis=0
        )
        if first is not None:
            self._logits[:, np.setdiff1d(np.arange(V), first)] = -np.inf
        drawn = NOISE // (B * V) if config.stochastic else config.n
        self._most = 1 if ending else max(1, min(steps_of_a_call(network, B), drawn))  # steps of a call

    # ------------------------------------------------------------ some steps

    def step(self) -> None:
        """Take as many steps as a call of the kernels should, or one where an ending is looked for.

        At each of them every hypothesis that has not ended grows by a token; the best children take the places.
        NonFiniteError at the token whose logits are no distribution.
        """
        K, (B, V) = min(self._most, self.config.n - self.steps), self._logits.shape
        noise = self._random.gumbel(size=(K, B, V if self.config.stochastic else 0))
        parents, tokens = self._room(K)
        taken = self._decoder.search(
            parents, tokens, self.steps, self.places, self._state, self._logits, noise, self._banned, self._beam
        )
        self.steps += taken
        if taken < K and not over(self.places, self.steps, self._beam):
            raise checks.non_finite(f"the logits of token {self.steps} of a hypothesis are")
        self._apply_ending()

    def _room(self, K: int) -> np.ndarray:
        """Return the history (2, at least steps + K, B)."""
        if self.steps + K > self._history.shape[1]:
            more = np.empty((2, max(K, self.steps), self.config.beam), np.int64)
            self._history = np.concatenate([self._history[:, : self.steps], more], axis=1)
        return self._history

    def _apply_ending(self) -> None:
        """Mark the hypotheses that have just grown to their `ending`."""
        if self.ending is None:
            return
        grown = self._history[1, self.steps - 1] < len(self.vocabulary)
        places = np.flatnonzero(grown & ~self.places.finished & (self.places.log_probability > -np.inf))
        for place, tokens in zip(places, self._tokens(places, self.ending.window)):
            self.places.finished[place] = self.ending.reached(tokens)

    # ------------------------------------------------------------ the end

    @property
    def done(self) -> bool:
        """Whether nothing that may still come can change the num_samples best texts of any group."""
        return over(self.places, self.steps, self._beam)

    def hypotheses(self) -> list[Hypothesis]:
        """Return the texts that have ended or are n tokens long: the best first, or as a stochastic beam drew them.

        All token sequences of a group are distinct; two groups may have found the same.
        """
        log_p, length, beam = self.places.log_probability, self.places.length, self._beam
        whole = self.places.finished | (length == self.config.n)
        found = np.flatnonzero(whole & (log_p > -np.inf))
        found = found[np.argsort(-rank(self.places, length, beam)[found], kind="stable")]
        scores, size = score(log_p, length, beam.length_penalty), self.config.beam // self.config.groups
        return [
            Hypothesis(tokens, float(log_p[place]), float(scores[place]), int(place) // size)
            for place, tokens in zip(found, self._tokens(found, self.steps))
        ]

    def _tokens(self, places: np.ndarray, steps: int) -> list[np.ndarray]:
        """Return the tokens of the last so many steps of the hypotheses in these beam slots, from child to parent."""
        steps = min(steps, self.steps)
        taken = np.empty((len(places), steps), np.int64)
        for s in range(1, steps + 1):
            parents, tokens = self._history[:, self.steps - s]
            taken[:, -s], places = tokens[places], parents[places]
        return [row[row < len(self.vocabulary)] for row in taken]


def distinct(hypotheses: list[Hypothesis], text_of: Callable[[Hypothesis], str]) -> list[tuple[str, Hypothesis]]:
    """Return the distinct texts of hypotheses in order, but first the best of each group, then their second ones ..."""
    found: dict[str, Hypothesis] = {}
    turns: dict[str, int] = {}  # text -> how many others its group has found before
    groups: Counter[int] = Counter()
    for hypothesis in hypotheses:
        text = text_of(hypothesis)
        if text not in found:
            found[text], turns[text] = hypothesis, groups[hypothesis.group]
            groups[hypothesis.group] += 1
    return [(text, found[text]) for text in sorted(found, key=turns.__getitem__)]


def text_after(vocabulary: Vocabulary, before: Sequence[int], tokens: np.ndarray) -> str:
    """Return the text of the tokens (t,) that follow the ids `before`, an end token left out."""
    return "".join(decoded_after(vocabulary, before, tokens))


def decoded_after(vocabulary: Vocabulary, before: Sequence[int], tokens: np.ndarray) -> tuple[str, str]:
    """Return `text_after` as (its certain part, an unfinished character at its end as it would be decoded)."""
    decoder = vocabulary.decoder()
    for token in before:
        decoder.feed(token)
    certain = "".join(decoder.feed(token) for token in tokens.tolist() if token != vocabulary.end_id)
    return certain, decoder.flush()
