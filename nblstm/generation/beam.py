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

from nblstm.config import BeamConfig, ModelConfig
from nblstm.generation.stops import Stops
from nblstm.model.network import Network
from nblstm.model.state import State
from nblstm.text.vocabulary import Vocabulary

SMALL_STEP = 10**7  # multiplications of a step that one thread does sooner than several can share: benchmarks/beam.py
BLOCKS = 16  # for each of the largest keys that are looked for


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
        """Whether a hypothesis ends with these newest tokens (up to `window`,)."""


class StopStrings:
    """An Ending: one of the strings has appeared in the text."""

    def __init__(self, vocabulary: Vocabulary, strings: tuple[str, ...]) -> None:
        self.vocabulary, self.strings = vocabulary, strings
        longest = max(len(string.encode("utf-8", "surrogatepass")) for string in strings)
        self.window = 1 + longest  # a token is a byte or more

    def reached(self, tokens: np.ndarray) -> bool:
        text = self.vocabulary.decode(tokens)
        return any(string in text for string in self.strings)

    def cut(self, text: str) -> str:
        """The text before the first of the strings."""
        stops = Stops(self.strings)
        return stops.feed(text) + stops.flush()


class BeamSearch:
    """A search under way: `step()` until `done`, then `hypotheses()`.

    Each of the B = config.beam places holds a hypothesis:
    log_probability (B,) float64, -inf where the place is empty; perturbed (B,) float64, the G of a stochastic beam;
    length (B,) int64, tokens so far; finished (B,) bool, whether it has ended.
    """

    def __init__(
        self,
        network: Network,
        vocabulary: Vocabulary,
        state: State,
        config: BeamConfig,
        ending: Ending | None = None,
        first: np.ndarray | None = None,
        decode: Callable[..., np.ndarray] | None = None,
    ) -> None:
        """state: that of one text, after everything that comes before.

        first: the ids (M,) that may come first, if not all. decode: network.decoder(config.beam), if there is one.
        """
        self.config, self.vocabulary, self.ending = config, vocabulary, ending
        B, self._decode = config.beam, decode or network.decoder(config.beam)
        self._random = np.random.default_rng(config.seed)
        self._history: list[tuple[np.ndarray, np.ndarray]] = []  # (parents, tokens), (B,) each, of every step
        self._state = state.take(np.zeros(B, np.int64))
        logits = network.logits(state.top)
        if first is not None:
            logits[:, np.setdiff1d(np.arange(len(vocabulary)), first)] = -np.inf
        self._log_p = self._log_softmax(np.repeat(logits, B, axis=0))
        self.log_probability = np.full(B, -np.inf)
        self.log_probability[:: B // config.groups] = 0.0  # one empty text a group
        self.perturbed = self.log_probability.copy()
        self.length, self.finished = np.zeros(B, np.int64), np.zeros(B, bool)

    def _log_softmax(self, logits: np.ndarray) -> np.ndarray:
        """log p (B, V) float64 of the next tokens, with nothing for <unk>; logits (B, V) are written to."""
        logits[:, self.vocabulary.never_written] = -np.inf
        shifted = logits.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return shifted

    # ------------------------------------------------------------ one step

    def step(self) -> None:
        """Every hypothesis that has not ended grows by a token; the best children take the places."""
        parents, tokens = self._choose(*self._children())
        grown = tokens < len(self.vocabulary)
        self._history.append((parents, tokens))
        self.length = self.length[parents] + grown
        self.finished = self.finished[parents]
        if self.vocabulary.end_id is not None:
            self.finished |= tokens == self.vocabulary.end_id
        self.finished &= self.log_probability > -np.inf
        self._apply_ending(grown)
        if not self.done:
            self._state = self._state.take(parents)
            self._log_p = self._log_softmax(self._decode(np.where(grown, tokens, 0), self._state))

    def _children(self) -> tuple[np.ndarray, np.ndarray]:
        """(log p, key to be chosen by), (B, V + 1) each, of every child. The last column is the hypothesis as it is.

        That column is inf where the hypothesis has ended, so that it keeps its place, and -inf elsewhere.
        """
        V, ended = len(self.vocabulary), self.finished
        children = np.empty((len(ended), V + 1))
        np.add(self.log_probability[:, None], self._log_p, out=children[:, :V])  # log p(y v) = log p(y) + log p(v | y)
        children[ended] = -np.inf
        children[:, V] = np.where(ended, np.inf, -np.inf)
        if not self.config.stochastic:
            return children, children
        keys = np.empty_like(children)
        keys[:, :V] = perturb(self.perturbed, children[:, :V], self._random)
        keys[:, V] = np.where(ended, self.perturbed, -np.inf)  # it competes like every other leaf
        return children, keys

    def _choose(self, children: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(parents, tokens), (B,) each, of the children that take the places, group by group; token V: it has ended."""
        B, columns = children.shape
        size, used = B // self.config.groups, np.zeros(columns)
        chosen = np.empty(B, np.int64)
        for start in range(0, B, size):
            group = keys[start : start + size]
            group = group - self.config.diversity * used if start else group
            places = start * columns + largest(group.reshape(-1), size)
            chosen[start : start + size] = places
            tokens = places[children.reshape(-1)[places] > -np.inf] % columns
            used[:-1] += np.bincount(tokens, minlength=columns)[:-1]
        parents, taken = chosen // columns, children.reshape(-1)[chosen]
        self.log_probability = np.where(taken == np.inf, self.log_probability[parents], taken)
        self.perturbed = keys.reshape(-1)[chosen]
        return parents, chosen % columns

    def _apply_ending(self, grown: np.ndarray) -> None:
        """Mark the hypotheses that have just grown to their `ending`."""
        if self.ending is None:
            return
        places = np.flatnonzero(grown & ~self.finished & (self.log_probability > -np.inf))
        for place, tokens in zip(places, self._tokens(places, self.ending.window)):
            self.finished[place] = self.ending.reached(tokens)

    # ------------------------------------------------------------ the end

    @property
    def steps(self) -> int:
        """How many steps were taken: the length of the hypotheses that go on."""
        return len(self._history)

    @property
    def done(self) -> bool:
        """Whether nothing that may still come can change the num_samples best texts of any group.

        No hypothesis that goes on can rank higher than its bound: log p only falls, and lp is largest at length n.
        """
        live = (self.log_probability > -np.inf) & ~self.finished
        if len(self._history) == self.config.n or not live.any():
            return True
        if not self.finished.any():
            return False
        rank, bound = self._rank(self.length), self._rank(np.full_like(self.length, self.config.n))
        rank, bound = np.where(self.finished, rank, -np.inf), np.where(live, bound, -np.inf)
        rank, bound = (array.reshape(self.config.groups, -1) for array in (rank, bound))
        wanted = min(self.config.num_samples, rank.shape[1])
        return bool((np.sort(rank, axis=1)[:, -wanted] >= bound.max(axis=1)).all())

    def _rank(self, length: np.ndarray) -> np.ndarray:
        """What hypotheses (B,) of these lengths are compared by in the end: score, or G in a stochastic beam."""
        return self.perturbed if self.config.stochastic else self.log_probability / self._penalty(length)

    def _penalty(self, length: np.ndarray) -> np.ndarray:
        """lp (B,) of texts of these lengths (B,): Wu et al. 2016, eq. 14."""
        return ((5 + length) / 6) ** self.config.length_penalty

    def hypotheses(self) -> list[Hypothesis]:
        """The texts that have ended or are n tokens long: the best first, or in the order a stochastic beam drew them.

        All token sequences of a group are distinct; two groups may have found the same.
        """
        whole = self.finished | (self.length == self.config.n)
        places = np.flatnonzero(whole & (self.log_probability > -np.inf))
        places = places[np.argsort(-self._rank(self.length)[places], kind="stable")]
        scores, size = self.log_probability / self._penalty(self.length), self.config.beam // self.config.groups
        return [
            Hypothesis(tokens, float(self.log_probability[place]), float(scores[place]), int(place) // size)
            for place, tokens in zip(places, self._tokens(places, self.steps))
        ]

    def _tokens(self, places: np.ndarray, steps: int) -> list[np.ndarray]:
        """The tokens that the hypotheses at these places got in the last so many steps, from child to parent."""
        steps = min(steps, len(self._history))
        taken = np.empty((len(places), steps), np.int64)
        for s in range(1, steps + 1):
            parents, tokens = self._history[-s]
            taken[:, -s], places = tokens[places], parents[places]
        return [row[row < len(self.vocabulary)] for row in taken]


def threads_for(model: ModelConfig, beam: int) -> int:
    """The threads of a Network that a beam of that width advances best with: 1, or 0 for every core."""
    return 1 if beam * model.num_parameters < SMALL_STEP else 0


def largest(keys: np.ndarray, count: int) -> np.ndarray:
    """The places (count,) of the largest of keys (M,), the largest first, of equals the first.

    At least `count` keys are as large as the count-th largest of the maxima of blocks: the others need no sorting.
    """
    block = max(1, len(keys) // (BLOCKS * count))
    maxima = keys[: len(keys) // block * block].reshape(-1, block).max(axis=1)
    places = np.flatnonzero(keys >= np.partition(maxima, -count)[-count])
    return places[np.argsort(-keys[places], kind="stable")[:count]]


def perturb(parents: np.ndarray, children: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """G (B, V) of the children: log-probabilities plus Gumbel noise, given that their largest is the parent's G.

    parents (B,): G. children (B, V): log p. Kool, van Hoof & Welling 2019, algorithm 1 and appendix B.3: with
    Z = the largest of the unconditioned ones, G = -log(exp(-G_parent) - exp(-Z) + exp(-G)), in its stable form.
    """
    free = children + random.gumbel(size=children.shape)
    alive = (free.max(axis=1) > -np.inf)[:, None]
    T, Z = np.where(alive, parents[:, None], 0.0), np.where(alive, free.max(axis=1, keepdims=True), 0.0)
    with np.errstate(divide="ignore"):  # log 0: the largest child gets its parent's G, an impossible one -inf
        v = T - free + log1mexp(np.minimum(free - Z, 0.0))
    return np.where(alive, T - np.maximum(v, 0.0) - np.log1p(np.exp(-np.abs(v))), -np.inf)


def log1mexp(x: np.ndarray) -> np.ndarray:
    """log(1 - exp(x)) for x <= 0 (Maechler 2012, "Accurately Computing log(1 - exp(-|a|))")."""
    return np.where(x > -np.log(2), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


def distinct(hypotheses: list[Hypothesis], text_of: Callable[[Hypothesis], str]) -> list[tuple[str, Hypothesis]]:
    """The distinct texts of hypotheses in their order, but first the best of each group, then their second ones ..."""
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
    """The text of the tokens (t,) that follow the ids `before`, an end token left out."""
    decoder = vocabulary.decoder()
    for token in before:
        decoder.feed(token)
    return "".join(decoder.feed(token) for token in tokens.tolist() if token != vocabulary.end_id) + decoder.flush()
