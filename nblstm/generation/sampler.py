"""Sampling: from logits to the next token, token by token."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from nblstm.config import ModelConfig, SampleConfig
from nblstm.kernels import fastest
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
    state = network.initial_state() if state is None else state.copy()
    decode = network.decoder()
    for token in tokens:
        decode([token], state, want_logits=False)
    return state


# What a token costs with each backend, and what starting the compiled one costs: seconds, and bytes of weights a
# second, measured on a 2-core x86-64 server with `benchmarks/sample.py` and `benchmarks/startup.py`.
NUMPY_CALL, NUMPY_BYTES = 60e-6, 10e9
CPU_CALL, CPU_BYTES = 10e-6, 20e9
CPU_START = 0.7


def choose_backend(model: ModelConfig, config: SampleConfig, prompt_tokens: int) -> str:
    """"numpy" or "cpu": config.backend, or where that is "auto" the one expected to finish first.

    numba takes longer to import than NumPy takes for a few hundred tokens, then is several times faster.
    """
    if config.backend != "auto":
        return config.backend
    if fastest() == "numpy":
        return "numpy"
    tokens = (config.n * config.num_samples) + prompt_tokens
    size = model.num_parameters * np.dtype(model.dtype).itemsize
    numpy_seconds = tokens * (NUMPY_CALL + size / NUMPY_BYTES)
    cpu_seconds = tokens * (CPU_CALL + size / CPU_BYTES) + (0 if "numba" in sys.modules else CPU_START)
    return "numpy" if numpy_seconds < cpu_seconds else "cpu"
