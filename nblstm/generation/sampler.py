"""Sampling: from logits to the next token, token by token."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nblstm.config import SampleConfig
from nblstm.model.network import Network
from nblstm.model.state import State


def generate(
    network: Network,
    prompt: np.ndarray,
    config: SampleConfig,
    state: State | None = None,
    banned: tuple[int, ...] = (),
) -> Iterator[np.ndarray]:
    """config.n times the next token of config.num_samples texts: ids (num_samples,) int64.

    prompt (tokens,) int: read first, at least one token; not part of what is generated. state: what was read
    before the prompt, of one text; None for nothing. banned: ids that are never drawn.
    """
    state = read(network, prompt[:-1], state)
    state = State(*(np.repeat(array, config.num_samples, axis=1) for array in (state.h, state.c)))
    tokens = np.repeat(np.asarray(prompt[-1:], np.int64), config.num_samples)
    random = np.random.default_rng(config.seed)
    for _ in range(config.n):
        logits, state = network.step(tokens, state)
        logits[:, list(banned)] = -np.inf
        tokens = draw(logits, random.random(len(logits)), config.temperature, config.top_k)
        yield tokens


def read(network: Network, tokens: np.ndarray, state: State | None = None) -> State:
    """The state of one text after reading tokens (M,)."""
    state = State.zeros(network.config) if state is None else state
    for token in tokens:
        _, state = network.step(np.array([token]), state)
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
