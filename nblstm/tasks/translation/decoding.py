"""Many translations at once: every step reads one token of each hypothesis of each source that is not done.

A source has B slots of hypotheses, rows side by side. Searching, the best B children of all its hypotheses take them; a
hypothesis that ends keeps its slot, so that the beam searches on with fewer (Sutskever et al. 2014, section 3.2), and in
the end those that ended are ranked by Wu et al. 2016, eq. 14:

    s(Y, X) = log p(Y | X) / lp(Y) + cp(X; Y)     lp(Y) = ((5 + |Y|) / 6)^alpha
                                                  cp(X; Y) = beta sum over i of log(min(1, sum over j of a_ji))

A source is done once nothing that may still come can rank higher; its rows are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nblstm import checks
from nblstm.kernels.packed import indices
from nblstm.kernels.reference.searching import BLOCKS, score
from nblstm.nn.attention import Memory
from nblstm.nn.encoder_decoder import EncoderDecoder, PairInput, Pairs
from nblstm.nn.inputs import TokenEmbedding
from nblstm.nn.network import Network
from nblstm.nn.state import State
from nblstm.nn.tape import Tape
from nblstm.nn.workspace import Workspace
from nblstm.tasks.translation.batches import Sources
from nblstm.tasks.translation.config import TranslateConfig

SMALLEST = 1e-30  # of attention that a source's step has had, under the logarithm


class Found(NamedTuple):
    """A translation. tokens (t,) int64, <end> included if it ended; attention (t, source steps), None without one."""

    tokens: np.ndarray
    log_probability: float
    score: float
    attention: np.ndarray | None


class Steps:
    """The decoder under way: reads a token of each row, B rows for each source that is left."""

    def __init__(self, network: Network, scratch: Workspace, sources: Sources, texts: np.ndarray, slots: int) -> None:
        body, first = network.body, network.input
        assert isinstance(body, EncoderDecoder) and isinstance(first, PairInput)
        self.network: Network = network
        self.scratch: Workspace = scratch
        self.slots: int = slots
        self.body: EncoderDecoder = body
        self.embedding: TokenEmbedding = first.embedding
        none = np.empty(0, np.int32)
        tape = Tape(np.array([0, len(texts)]), scratch, None)
        read = body.read(tape, Pairs(none, *sources.packed(texts)))
        self.state: State = read.first.take(np.repeat(np.arange(len(texts)), indices(slots)))
        self.memory: Memory | None = read.memory
        fed = np.zeros((len(texts) * slots, network.config.head_size), network.config.dtype)
        self.fed: np.ndarray | None = fed if network.config.input_feeding else None
        self.weights: np.ndarray = np.empty(0)  # of the last step's attention, flat
        self.cells: np.ndarray = np.zeros(len(texts) + 1, np.int64)  # where those of each source begin

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """Read a token of each row: logits (R, V) of the next ones. tokens (R,). NonFiniteError if these are none."""
        rows = len(tokens)
        tape = Tape(np.array([0, rows]), self.scratch, None)
        with checks.quiet():
            inputs = self.embedding.forward(tape, tokens.astype(np.int32))
            self.state, features = self.body.step(tape, inputs, self.fed, self.state), tape.features
            if self.memory is not None:
                looked = self.body.look(tape, self.memory, np.arange(0, rows + 1, self.slots))
                features, self.weights, self.cells = looked.attentional, looked.weights.copy(), looked.alignment.cells
            if self.fed is not None:
                self.fed = features.copy()
            logits = self.network.head.outputs(self.scratch, features)
        return checks.distributions(logits, "of a translation")

    def choose(self, rows: np.ndarray) -> None:
        """Go on from the hypotheses in these rows."""
        self.state = self.state.take(rows)
        if self.fed is not None:
            self.fed = self.fed[rows]

    def drop(self, kept: np.ndarray) -> None:
        """Leave only these sources, by their places among those that are left."""
        if self.memory is not None:
            starts = self.memory.starts
            lengths = np.diff(starts)[kept]
            ends = np.cumsum(lengths)
            rows = np.arange(ends[-1]) + np.repeat(starts[kept] - (ends - lengths), indices(lengths))
            self.memory = Memory(
                self.memory.values[rows], self.memory.keys[rows], np.concatenate([[0], ends]).astype(np.int64)
            )
        self.choose((kept[:, None] * self.slots + np.arange(self.slots)).reshape(-1))


@dataclass
class _Step:
    """What a step has chosen: (sources left, B) each, and the attention behind it."""

    sources: np.ndarray  # (A,) which sources were left
    parents: np.ndarray
    tokens: np.ndarray  # -1: a hypothesis that had ended keeps its slot
    weights: np.ndarray
    cells: np.ndarray

    def attention(self, place: int, slot: int, slots: int) -> np.ndarray:
        """Return how the hypothesis in a slot looked at its source (source steps,)."""
        weights = self.weights[self.cells[place] : self.cells[place + 1]]
        return weights.reshape(slots, -1)[slot]


class Translating:
    """A batch of sources, searched or drawn: `run` gives the translations of each, the best first."""

    def __init__(
        self,
        network: Network,
        scratch: Workspace,
        sources: Sources,
        texts: np.ndarray,
        config: TranslateConfig,
        ids: Any,
    ) -> None:
        """ids: (id of <end>, ids that are never taken (banned,))."""
        self.config, self.end, self.banned = config, ids[0], ids[1]
        N, self.slots = len(texts), config.beam if config.temperature is None else config.num_samples
        self.steps = Steps(network, scratch, sources, texts, self.slots)
        longest = 2 * sources.lengths[texts] + 10 if config.n is None else np.full(N, config.n)
        self.longest = np.minimum(longest, network.config.max_length)
        self.left = np.arange(N)
        self.log_p = np.full((N, self.slots), 0.0 if config.temperature is not None else -np.inf)
        self.log_p[:, 0] = 0.0
        self.finished, self.length = np.zeros((N, self.slots), bool), np.zeros((N, self.slots), np.int64)
        self.history: list[_Step] = []
        self.found: list[list[Found]] = [[] for _ in range(N)]
        self.random = np.random.default_rng(config.seed)
        self.kernels, self.threads = network.kernels, network.threads

    def run(self) -> list[list[Found]]:
        """Take steps until every source is done."""
        tokens = np.full(len(self.left) * self.slots, self.end)
        while len(self.left):
            logits = self.steps(tokens)
            logits[:, self.banned] = -np.inf
            parents, tokens = (self._search if self.config.temperature is None else self._draw)(logits)
            self.history.append(_Step(self.left, parents, tokens, self.steps.weights, self.steps.cells))
            rows = (np.arange(len(self.left))[:, None] * self.slots + parents).reshape(-1)
            self.steps.choose(rows)
            done = self._done()
            for place in np.flatnonzero(done):
                self.found[self.left[place]] = self._ranked(int(place))
            tokens = np.where(tokens < 0, self.end, tokens)[~done].reshape(-1)
            if done.any():
                self._drop(np.flatnonzero(~done))
        return self.found

    def _drop(self, kept: np.ndarray) -> None:
        """Go on with some of the sources."""
        self.left, self.log_p = self.left[kept], self.log_p[kept]
        self.finished, self.length = self.finished[kept], self.length[kept]
        if len(kept):
            self.steps.drop(kept)

    # ------------------------------------------------------------ one step

    def _search(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take the best children: (their parents' slots, their tokens), (sources, B) each."""
        A, B = self.log_p.shape
        log_p, tokens = largest_of_rows(logits, B)
        children = self.log_p[:, :, None] + log_p.reshape(A, B, -1)
        k = children.shape[2]
        tokens = tokens.reshape(A, B, k)
        children[self.finished] = -np.inf
        keys = children.copy()
        keys[self.finished, 0], children[self.finished, 0] = np.inf, self.log_p[self.finished]
        tokens[self.finished] = -1
        chosen = np.argsort(-keys.reshape(A, -1), axis=1, kind="stable")[:, :B]
        parents, tokens = chosen // k, np.take_along_axis(tokens.reshape(A, -1), chosen, axis=1)
        self.log_p = np.take_along_axis(children.reshape(A, -1), chosen, axis=1)
        self._settle(parents, tokens)
        return parents, tokens

    def _draw(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw a token of each that has not ended."""
        A, B = self.log_p.shape
        drawn = np.empty(A * B, np.int64)
        history = (
            np.stack([self._drawn(step) for step in self.history], axis=1)
            if self.history
            else np.empty((A * B, 0), np.int64)
        )
        none = np.empty(0, np.int64)
        filters = self.config.filters(self.config.temperature)
        self.kernels.draw(
            drawn, logits, self.random.random(A * B), np.ascontiguousarray(history), none, filters, self.threads
        )  # fmt: skip
        chosen = np.take_along_axis(logits, drawn[:, None], axis=1)[:, 0]
        log_p = chosen - log_total(logits, logits.max(axis=1))
        tokens, parents = drawn.reshape(A, B), np.tile(np.arange(B), (A, 1))
        tokens[self.finished] = -1
        self.log_p = self.log_p + np.where(self.finished, 0, log_p.reshape(A, B))
        self._settle(parents, tokens)
        return parents, tokens

    def _drawn(self, step: _Step) -> np.ndarray:
        """Return the tokens that a step has drawn for the rows that are left (A B,); they kept their slots."""
        tokens = step.tokens[np.searchsorted(step.sources, self.left)].reshape(-1)
        return np.where(tokens < 0, self.end, tokens)

    def _settle(self, parents: np.ndarray, tokens: np.ndarray) -> None:
        """Move the hypotheses to the slots that they have taken."""
        self.length = np.take_along_axis(self.length, parents, axis=1) + (tokens >= 0)
        ended = np.take_along_axis(self.finished, parents, axis=1) | (tokens == self.end)
        self.finished = ended & (self.log_p > -np.inf)

    # ------------------------------------------------------------ the end

    def _done(self) -> np.ndarray:
        """Tell of each source whether nothing that may come can change its num_samples best translations, (A,)."""
        live = (self.log_p > -np.inf) & ~self.finished
        done = ~live.any(axis=1) | (len(self.history) >= self.longest[self.left])
        if self.config.temperature is None and self.config.coverage_penalty == 0:
            alpha, longest = self.config.length_penalty, self.longest[self.left][:, None]
            ranks = np.where(self.finished, score(self.log_p, self.length, alpha), -np.inf)
            bounds = np.where(live, score(self.log_p, longest, alpha), -np.inf).max(axis=1)
            done |= (ranks >= bounds[:, None]).sum(axis=1) >= self.config.num_samples
        return done

    def _ranked(self, place: int) -> list[Found]:
        """Return the translations of the source at a place among those that are left, the best first."""
        whole = self.finished[place] & (self.log_p[place] > -np.inf)
        if not whole.any() or self.config.temperature is not None:
            whole = self.log_p[place] > -np.inf
        found = [self._found(place, int(slot)) for slot in np.flatnonzero(whole)]
        return sorted(found, key=lambda one: -one.score)[: self.config.num_samples]

    def _found(self, place: int, slot: int) -> Found:
        """Follow a hypothesis from its end to its first token."""
        source, log_p, tokens, attention = self.left[place], float(self.log_p[place, slot]), [], []
        for step in reversed(self.history):
            at = int(np.searchsorted(step.sources, source))
            token, parent = int(step.tokens[at, slot]), int(step.parents[at, slot])
            if token >= 0:
                tokens.append(token)
                if len(step.weights):
                    attention.append(step.attention(at, parent, self.slots))
            slot = parent
        looked = np.array(attention[::-1]) if attention else None
        value = float(score(log_p, len(tokens), self.config.length_penalty))
        if looked is not None and self.config.coverage_penalty:
            covered = np.maximum(np.minimum(looked.sum(axis=0), 1), SMALLEST)
            value += self.config.coverage_penalty * float(np.log(covered).sum())
        return Found(np.array(tokens[::-1], np.int64), log_p, value, looked)


def log_total(logits: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """Compute log sum exp of each row of logits (R, V), which are overwritten: (R,) float64. peak (R,): the largest."""
    logits -= peak[:, None]
    return peak + np.log(np.exp(logits, out=logits).sum(axis=1).astype(np.float64))


def largest_of_rows(logits: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find (log p, tokens) of the `count` most likely tokens of each row of logits (R, V), overwritten, the likeliest first.

    At least `count` of a row are as large as the count-th largest of the maxima of blocks: the others need no sorting, and
    blocks whose maximum is less need not be looked at.
    """
    (R, V), count = logits.shape, min(count, logits.shape[1])
    block = max(1, V // (BLOCKS * count))
    blocks = logits[:, : V // block * block].reshape(R, -1, block)
    maxima = blocks.max(axis=2)
    limits = np.partition(maxima, -count, axis=1)[:, -count]
    rows, places = np.nonzero(maxima >= limits[:, None])
    inner, within = np.nonzero(blocks[rows, places] >= limits[rows, None])
    last_rows, last = np.nonzero(logits[:, V // block * block :] >= limits[:, None])  # behind the last block
    tokens = np.concatenate([places[inner] * block + within, last + V // block * block])
    rows = np.concatenate([rows[inner], last_rows])
    order = np.lexsort((tokens, -logits[rows, tokens], rows))
    firsts = np.searchsorted(rows[order], np.arange(R))
    best = order[firsts[:, None] + np.arange(count)]
    chosen = logits[rows[best], tokens[best]]
    return chosen - log_total(logits, chosen[:, 0])[:, None], tokens[best]
