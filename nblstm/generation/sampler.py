"""Sampling: from logits to the next token, token by token."""

from __future__ import annotations

import math
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
    """
    state = State(*(np.repeat(array, config.num_samples, axis=1) for array in (state.h, state.c)))
    random = np.random.default_rng(config.seed)
    for _ in range(config.n):
        logits = network.logits(state.h[-1])
        logits[:, list(banned)] = -np.inf
        tokens = draw(logits, random.random(config.num_samples), config.temperature, config.top_k)
        yield tokens
        state = network.step(tokens, state)


def read(network: Network, tokens: np.ndarray, state: State | None = None) -> State:
    """The state of one text after reading tokens (M,) behind `state`; None is the empty text."""
    state = State.zeros(network.config) if state is None else state
    for token in tokens:
        state = network.step(np.array([token]), state)
    return state


def draw(logits: np.ndarray, uniform: np.ndarray, temperature: float, top_k: int) -> np.ndarray:
    """One token per row of logits (N, V), by uniform numbers in [0, 1) (N,): ids (N,) int64.

    Temperature 0 takes the most likely token. Otherwise, in this order: keep the top_k most likely (0 keeps
    all), softmax of logits / temperature, and the first token whose cumulative probability exceeds `uniform`.
    """
    if temperature == 0:
        return logits.argmax(axis=1)
    logits = logits.astype(np.float64)
    if 0 < top_k < logits.shape[1]:
        smallest_kept = np.partition(logits, -top_k, axis=1)[:, -top_k, None]
        logits = np.where(logits < smallest_kept, -math.inf, logits)
    shifted = (logits - logits.max(axis=1, keepdims=True)) / temperature
    cumulative = np.exp(shifted).cumsum(axis=1)
    return (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(axis=1)


def choose_backend(model: ModelConfig, config: SampleConfig, prompt_tokens: int) -> str:
    """"numpy" or "cpu": config.backend, or where that is "auto" the one expected to finish first."""
    if config.backend != "auto":
        return config.backend
    return "numpy"
