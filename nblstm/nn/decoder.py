"""Decoder: a network's weights made ready to go on token by token."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nblstm import checks
from nblstm.config import StackConfig
from nblstm.config.checks import MAX_SIZE
from nblstm.errors import ConfigError
from nblstm.kernels import Beam, DecoderState, DecoderWeights, Filters, History, Hypotheses
from nblstm.nn.int8 import in_int8, in_int8_kernels
from nblstm.nn.state import State

if TYPE_CHECKING:
    from nblstm.nn.network import Network


def check_writes(config: StackConfig) -> None:
    """Raise ConfigError for a network that does not read from left to right alone."""
    if not config.causal:
        raise ConfigError("a bidirectional model reads whole texts; it cannot write from left to right.")


def weights_to_decode(network: Network, bias: np.ndarray | None = None, temperature: float = 1.0) -> Any:
    """Pack the weights of a network of tokens as its kernels decode with them. ConfigError if it reads both ways.

    bias (V,): what is added to the head's. temperature: what all logits are divided by then.
    """
    c = network.config
    check_writes(c)
    body: Any = network.body  # a stack
    head, head_bias = network.head.weight, network.head.bias
    if bias is not None:
        head_bias = head_bias + bias.astype(c.dtype)
    if temperature != 1:
        scale = np.dtype(c.dtype).type(temperature)
        head, head_bias = head / scale, head_bias / scale
    net = DecoderWeights(
        network.weights["embedding.weight"], c.cells, body.cell_weights, c.residual, c.head == "cell",
        head, head_bias,
    )  # fmt: skip
    if network.int8 and in_int8_kernels(c):
        net = in_int8(net)
    with checks.quiet():
        return network.kernels.decode_weights(net, network.threads)


class Decoder:
    """Reads up to num_texts texts token by token: a network's packed weights, and scratch of its own."""

    def __init__(self, network: Network, weights: Any, num_texts: int) -> None:
        """weights: what `kernels.decode_weights` has made of the network's."""
        self.config, self.kernels, self.threads = network.config, network.kernels, network.threads
        self.num_texts = checks.whole("num_texts", num_texts, 1, MAX_SIZE)
        self.work = self.kernels.decode_work(num_texts, weights, self.threads)

    def __call__(self, tokens: Sequence[int] | np.ndarray, state: State, want_logits: bool = True) -> np.ndarray:
        """Read one token of each text: logits (N, V) of the next ones, (0, V) if they are not wanted.

        tokens (N,) int; state is overwritten with the one after them. ConfigError if they are not of this network,
        NonFiniteError if the logits are no distributions.
        """
        N, V = self._check_state(state), self.config.vocab_size
        tokens, logits = (
            checks.ids("tokens", tokens, V, (N,)),
            np.empty((N if want_logits else 0, V), self.config.dtype),
        )
        with checks.quiet():
            self._decode(_with_logits(state, logits), tokens)
        return checks.distributions(logits, "behind these tokens") if want_logits else logits

    def read(self, tokens: np.ndarray, state: State) -> State:
        """Read checked tokens (M,) of one text, one after the other: the state after them. ConfigError for a wrong state."""
        after = state.of(self.config, 1).copy()
        at = _with_logits(after, np.empty((0, self.config.vocab_size), self.config.dtype))
        with checks.quiet():
            for k in range(len(tokens)):
                self._decode(at, tokens[k : k + 1])
        return after

    def _decode(self, at: DecoderState, tokens: np.ndarray) -> None:
        """Read checked tokens (N,)."""
        self.kernels.decode(at, tokens, self.work, self.threads)

    def _check_state(self, state: State) -> int:
        """Return the number of texts of a state that will be written to. ConfigError if it is not of this decoder's."""
        N = checks.whole("state.num_texts", checks.a(State, "state", state).num_texts, 1, self.num_texts)
        state.check_in_place(self.config, N)
        return N

    def _check(self, state: State, logits: np.ndarray, banned: np.ndarray) -> tuple[int, int]:
        """Return (N, V). ConfigError if state or logits are not of this decoder's, or the banned ids leave none."""
        N, V = self._check_state(state), self.config.vocab_size
        checks.in_place("logits", logits, (N, V), self.config.dtype)
        banned = checks.ids("banned", banned, V)
        if len(banned) >= V and len(np.unique(banned)) == V:  # (np.unique imports numpy.ma, which takes a while)
            raise ConfigError(f"banned must leave one of the {V} tokens.")
        return N, V

    def generate(
        self, history: np.ndarray, length: int, state: State, logits: np.ndarray, uniform: np.ndarray,
        banned: np.ndarray, filters: Filters,
    ) -> None:  # fmt: skip
        """Draw and read K tokens of each text, to history[:, length : length + K]; see `kernels.reference.generate`.

        state and logits (N, V), those of the next token, are overwritten with the ones after the K tokens. A text gets
        -1 where its logits are no distribution, and then nothing that means anything. ConfigError for what does not fit.
        """
        (N, V), K = self._check(state, logits, banned), len(uniform)
        room = checks.whole("the room in history", np.shape(history)[-1], length + K, sys.maxsize)
        checks.in_place("history", history, (N, room), np.int64)
        checks.ids("history", history[:, :length], V)
        checks.in_place("uniform", uniform, (K, N), np.float64)
        with checks.quiet():
            self._generate(history, length, _with_logits(state, logits), uniform, banned, filters)

    def _generate(
        self, history: np.ndarray, length: int, at: DecoderState, uniform: np.ndarray, banned: np.ndarray,
        filters: Filters,
    ) -> None:  # fmt: skip
        """Draw and read checked tokens."""
        self.kernels.generate(history, length, at, uniform, banned, filters, self.work, self.threads)

    def search(
        self, parents: np.ndarray, tokens: np.ndarray, start: int, hypotheses: Hypotheses, state: State, logits: np.ndarray,
        noise: np.ndarray, banned: np.ndarray, beam: Beam,
    ) -> int:  # fmt: skip
        """Take up to len(noise) steps of a beam search, and return how many; see `kernels.reference.search`."""
        (B, V), K = self._check(state, logits, banned), len(noise)
        steps = checks.whole("parents", len(parents), start + K, sys.maxsize)
        for name, array in (("parents", parents), ("tokens", tokens)):
            checks.in_place(name, array, (steps, B), np.int64)
        for name, array, dtype in zip(Hypotheses._fields, hypotheses, (np.float64, np.float64, np.int64, np.bool_)):
            checks.in_place(name, array, (B,), dtype)
        checks.in_place("noise", noise, (K, B, V if beam.stochastic else 0), np.float64)
        if start > 0:
            checks.ids("parents", parents[start - 1], B)
            checks.ids("tokens", tokens[start - 1], V + 1)
        with checks.quiet():
            history, at = History(parents, tokens, start), _with_logits(state, logits)
            return self._search(history, hypotheses, at, noise, banned, beam)

    def _search(
        self, history: History, hypotheses: Hypotheses, at: DecoderState, noise: np.ndarray, banned: np.ndarray,
        beam: Beam,
    ) -> int:  # fmt: skip
        """Take checked steps of a search."""
        return self.kernels.search(history, hypotheses, at, noise, banned, beam, self.work, self.threads)


def _with_logits(state: State, logits: np.ndarray) -> DecoderState:
    """Return the state as the kernels read and write it."""
    return DecoderState(state.h, state.c, state.features, logits)
