"""Sampling: from logits to the next token, token by token."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from nblstm import checks
from nblstm.config import SampleConfig, TokenStackConfig
from nblstm.config.decoding import MAX_BIAS
from nblstm.errors import ConfigError
from nblstm.generation.uniform import Uniform
from nblstm.nn.cost import decoding_reads, draw_seconds, start_seconds, step_seconds
from nblstm.nn.network import Network
from nblstm.nn.state import State
from nblstm.text.vocabulary import Vocabulary

READ = 256  # tokens of a prompt that are read at once


def generate(
    network: Network,
    state: State,
    config: SampleConfig,
    random: Uniform,
    banned: Sequence[int] = (),
    prompt: np.ndarray | None = None,
    over: Callable[[int], bool] = lambda n: False,
    bias: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Generate config.n tokens of config.num_samples texts, in pieces (num_samples, K) int64 of growing K >= 1.

    state: that of one text, after everything that comes before. random: draws num_samples uniform numbers a step,
    the n-th for text n, so neither the size of the pieces nor the end of another text changes a text.
    banned: ids that are never drawn. bias (V,): added to the logits before all filters. prompt (M,): the tokens before,
    as far as the filters for repetition should know them.
    over: asked after each piece whether text n needs no more; its rows are zeros from then on, and when all are
    over no piece comes. How a token is drawn: `nblstm.kernels.reference.draw`. NonFiniteError at
    the token of a text that cannot be drawn, behind a piece of those before it.
    """
    N, decoder = config.num_samples, network.decoder(config.num_samples, bias)
    filters, forbidden = config.filters(config.temperature), np.array(banned, np.int64)
    state = state.take(np.zeros(N, np.intp))
    logits, going, made = network.logits(state.features), np.arange(N), 0
    if bias is not None:
        logits += bias.astype(logits.dtype)
    history = _History(N, np.empty(0, np.int64) if prompt is None else prompt, config)
    for K in _sizes(network, config):
        uniform = np.ascontiguousarray(random.random((K, N))[:, going])
        decoder.generate(*history.room(K), state, logits, uniform, forbidden, filters)
        piece = np.zeros((N, K), np.int64)
        piece[going] = history.advance(K)
        yield from _sound(piece, made, over)
        made += K
        rows = [row for row, n in enumerate(going) if not over(int(n))]
        if not rows:
            return
        if len(rows) < len(going):
            state = state.take(rows)
            logits, going = logits[rows], going[rows]
            history.keep(rows)


def _sound(piece: np.ndarray, made: int, over: Callable[[int], bool]) -> Iterator[np.ndarray]:
    """Yield a piece (N, K), in two where a text is lost (-1) in it: NonFiniteError unless it is over before that.

    made: tokens of each text before the piece.
    """
    lost = piece < 0
    if not lost.any():
        yield piece
        return
    steps = int(np.argmax(lost.any(axis=0)))
    if steps:
        yield piece[:, :steps]
    for n in np.flatnonzero(lost.any(axis=1)):
        if not over(int(n)):
            raise checks.non_finite(f"the logits of token {made + int(np.argmax(lost[n]))} of text {n} are")
        piece[n] = 0
    yield piece[:, steps:]


def read_ids(network: Network, tokens: np.ndarray, state: State | None = None) -> State:
    """Read tokens (M,) of one text after `state`, and return the state; None is the empty text.

    One by one with NumPy, where that is faster, else READ at once.
    """
    state = network.initial_state() if state is None else state
    tokens = checks.ids("tokens", tokens, network.config.vocab_size)
    if network.constant and decoding_reads(network.config, _backend(network)):
        return network.decoder().read(tokens, state)
    from nblstm.text.batches import Chunk

    for start in range(0, len(tokens), READ):
        piece = tokens[start : start + READ, None]
        state = network.read(Chunk.rectangle(piece, piece, fresh=False), state)
    return state


def biases(vocabulary: Vocabulary, bias: Mapping[str, float] | None) -> tuple[np.ndarray | None, list[int]]:
    """Return (what is added to each logit (V,) float64 or None, ids that never come). ConfigError for another token."""
    if not bias:
        return None, []
    places = {token: id for id, token in enumerate(vocabulary.tokens)}
    added, never = np.zeros(len(places)), []
    for token, value in bias.items():
        if token not in places:
            raise ConfigError(f"logit_bias names {token!r:.40}, which the vocabulary does not have; leave it out.")
        added[places[token]] = value
        never += [places[token]] if value == -MAX_BIAS else []
    if len({*never, *vocabulary.never_written}) == len(places):
        raise ConfigError("logit_bias leaves no token that may come; take one out.")
    return added, never


class _History:
    """The tokens before, of a batch of texts: as many as the filters look at."""

    def __init__(self, N: int, prompt: np.ndarray, config: SampleConfig) -> None:
        penalised = config.filters(config.temperature).penalises
        everything = config.no_repeat_ngram > 0 or (penalised and config.repetition_window == 0)
        self.needed = sys.maxsize if everything else config.repetition_window if penalised else 0
        self.length = min(len(prompt), self.needed)
        self.tokens = np.repeat(prompt[None, len(prompt) - self.length :].astype(np.int64), N, axis=0)

    def room(self, K: int) -> tuple[np.ndarray, int]:
        """Return (tokens (N, S), length): those before are tokens[:, :length], and there is room for K more."""
        if self.length + K > self.tokens.shape[1]:
            kept = min(self.length, self.needed)
            tokens = np.zeros((len(self.tokens), 2 * kept + K), np.int64)
            tokens[:, :kept] = self.tokens[:, self.length - kept : self.length]
            self.tokens, self.length = tokens, kept
        return self.tokens, self.length

    def advance(self, K: int) -> np.ndarray:
        """Return the K tokens that have come since `room`: (N, K)."""
        self.length += K
        return self.tokens[:, self.length - K : self.length]

    def keep(self, rows: list[int]) -> None:
        """Go on with these texts only."""
        self.tokens = self.tokens[rows]


# ---------------------------------------------------------------- what it costs

CALL_SECONDS = 0.02  # of one call of the kernels: so often text appears and Ctrl-C is heard


def steps_of_a_call(network: Network, num_texts: int) -> int:
    """Count the tokens of each text that fit in CALL_SECONDS, at least 1. A function of the settings alone."""
    return max(1, int(CALL_SECONDS / draw_seconds(network.config, _backend(network), num_texts, network.reads_int8)))


def _backend(network: Network) -> str:
    """Return what `cost` calls a network's kernels."""
    return "cpu" if network.kernels.__name__.endswith("cpu") else "numpy"


def _sizes(network: Network, config: SampleConfig) -> Iterator[int]:
    """Yield 1, 4, 16, ... tokens, as many as a call may take; config.n in all."""
    most, left, size = steps_of_a_call(network, config.num_samples), config.n, 1
    while left > 0:
        yield min(size, left)
        left, size = left - size, min(4 * size, most)


def choose_backend(model: TokenStackConfig, config: SampleConfig, prompt_tokens: int) -> str:
    """Return config.backend, or where that is "auto" the one of "numpy" and "cpu" expected to finish first.

    numba takes longer to import than NumPy takes for a few thousand tokens, then is many times faster, unless the
    cells have options that NumPy computes on every backend.
    """
    if config.backend != "auto":
        return config.backend
    seconds = {
        backend: config.n * draw_seconds(model, backend, config.num_samples)
        + prompt_tokens * step_seconds(model, backend, 1)
        for backend in ("numpy", "cpu")
    }
    seconds["cpu"] += start_seconds()
    return min(seconds, key=seconds.__getitem__)
