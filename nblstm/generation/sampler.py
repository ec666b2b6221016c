"""Sampling: from logits to the next token, token by token."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nblstm.config import ModelConfig, SampleConfig
from nblstm.model.network import Network
from nblstm.model.state import State


def generate(
    network: Network, state: State, config: SampleConfig, banned: tuple[int, ...] = ()
) -> Iterator[np.ndarray]:
    """config.n times the next token of config.num_samples texts: ids (num_samples,) int64.

    state: that of one text, after everything that comes before. banned: ids that are never drawn.
    Each token is drawn by `kernels.draw` with config.temperature and config.top_k.
    """
    state = State(*(np.repeat(array, config.num_samples, axis=1) for array in (state.h, state.c)))
    decode, kernels = network.decoder(config.num_samples), network.kernels
    random, forbidden = np.random.default_rng(config.seed), list(banned)
    logits = network.logits(state.h[-1])
    for _ in range(config.n):
        logits[:, forbidden] = -np.inf
        tokens = np.empty(config.num_samples, np.int64)
        uniform = random.random(config.num_samples)
        kernels.draw(tokens, logits, uniform, float(config.temperature), config.top_k, network.threads)
        yield tokens
        logits = decode(tokens, state)


def read(network: Network, tokens: np.ndarray, state: State | None = None) -> State:
    """The state of one text after reading tokens (M,) behind `state`; None is the empty text."""
    state = State.zeros(network.config) if state is None else state.copy()
    decode = network.decoder()
    for token in tokens:
        decode([token], state, want_logits=False)
    return state


def choose_backend(model: ModelConfig, config: SampleConfig, prompt_tokens: int) -> str:
    """"numpy" or "cpu": config.backend, or where that is "auto" the one expected to finish first."""
    if config.backend != "auto":
        return config.backend
    return "numpy"
