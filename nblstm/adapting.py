"""Dynamic evaluation: a network that learns from what it reads (Krause et al. 2018, "Dynamic Evaluation of Neural
Sequence Models"; 2019, section 3).

A text is read in segments. Each is scored by the weights as they are, then moves them: w along the gradient g of the
segment's mean loss, and back towards w0, the weights as they were trained.

    sgd    w := w + decay (w0 - w) - rate g
    rms    w := w + min(1, decay r / mean(r)) (w0 - w) - rate g / (r + EPSILON mean(r))

r, a model's gradient statistics, are the root mean squares of the gradients in its training: a weight that seldom moved
then moves far now, and stays where it got. What comes out is a function of the text, in its order, and never comparable
with what the same model makes of it without learning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config.adapting import RULES, AdaptConfig
from nblstm.errors import ConfigError
from nblstm.nn.network import Network
from nblstm.nn.parameters import check_parameters
from nblstm.nn.state import State
from nblstm.text.batches import Chunk, Streams

EPSILON = 0.1  # of the mean of the statistics: so that no weight moves beyond measure
STREAMS, STEPS = 32, 20  # of a chunk whose gradient the statistics take: about as many tokens as an update of training
MOST_CHUNKS = 400  # whose gradients are looked at
RATES = tuple(RULES["rms"][0] * factor for factor in (0.25, 0.5, 1, 2, 4))  # that are tried on a validation text


class AdaptingNetwork(Network):
    """A network with parameters of its own, which learn from every segment whose losses are asked for.

    how: AdaptConfig; ConfigError where it asks for statistics that are not there. statistics (num_parameters,): as
    `gradient_statistics` gives them, or None. For one text at a time, and one thread.
    """

    def __init__(
        self, config: Any, parameters: np.ndarray, statistics: np.ndarray | None, how: AdaptConfig,
        backend: str = "cpu", threads: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(config, np.array(parameters), backend, threads)
        self.trained = np.array(parameters)
        self.how = how = settled(how, statistics)
        self._rate: Any = self.parameters.dtype.type(how.rate)
        self._decay: Any = self.parameters.dtype.type(how.decay)
        if how.rule == "rms":
            assert statistics is not None
            mean = float(statistics.mean(dtype=np.float64))
            relative = statistics / statistics.dtype.type(mean)
            self._rate = self._rate / (statistics + statistics.dtype.type(EPSILON * mean))
            self._decay = np.minimum(relative * self._decay, 1)
        self._gradient = np.empty_like(self.parameters)

    def losses(self, chunk: Any, state: State) -> tuple[np.ndarray, State]:
        """Return the losses (M,) of a chunk of one text, and the state after it; learn from every segment of it."""
        if chunk.num_texts != 1:
            raise ConfigError("a network that learns while it reads must have one text at a time.")
        found = np.empty(len(chunk.tokens), self.config.dtype)
        for start in range(0, len(found), self.how.segment):
            rows = slice(start, start + self.how.segment)
            steps = np.arange(len(found[rows]) + 1)
            segment = Chunk(chunk.tokens[rows], chunk.targets[rows], steps, fresh=False)
            found[rows], state = self.losses_and_gradient(self._gradient, segment, state)
            self._learn()
        return found, state

    def forget(self) -> None:
        """Go back to the weights as they were trained."""
        self.parameters[...] = self.trained

    def _learn(self) -> None:
        """Move the parameters by the gradient of a segment; one that is not finite teaches nothing."""
        w, g = self.parameters, self._gradient
        if np.isfinite(g).all():
            w += self._decay * (self.trained - w)
            w -= np.multiply(g, self._rate, out=g)


def settled(how: AdaptConfig, statistics: np.ndarray | None) -> AdaptConfig:
    """Return the settings with what they leave open. ConfigError if they ask for statistics that are not there."""
    rule = how.rule if how.rule != "auto" else "sgd" if statistics is None else "rms"
    if rule == "rms" and statistics is None:
        raise ConfigError("rule rms needs gradient statistics, which this model has not; prepare it, or use rule sgd.")
    rate, decay = RULES[rule]
    return replace(
        how, rule=rule, rate=rate if how.rate is None else how.rate, decay=decay if how.decay is None else how.decay
    )


def gradient_statistics(
    network: Network, ids: np.ndarray, on_progress: Callable[[int], None] = lambda tokens: None
) -> np.ndarray:
    """Return the root mean square of the gradient of every parameter (num_parameters,) over a text.

    ids (tokens,): the training text, of which up to MOST_CHUNKS chunks are read, spread over it. ConfigError if it is
    shorter than a token for each of the STREAMS.
    """
    ids = checks.ids("ids", ids, network.config.vocab_size)
    if len(ids) <= STREAMS:
        raise ConfigError(f"gradient statistics need a text of more than {STREAMS} tokens, got {len(ids)}.")
    streams = Streams(ids.astype(np.int32), STREAMS, STEPS)
    total, gradient = np.zeros(network.config.num_parameters), np.empty_like(network.parameters)
    state, every = network.initial_state(STREAMS), -(-len(streams) // MOST_CHUNKS)
    numbers = range(0, len(streams), every)
    for number in numbers:
        chunk = streams[number]
        _, state = network.losses_and_gradient(gradient, chunk, network.before(chunk, state))
        total += np.square(gradient, dtype=np.float64)
        on_progress(len(chunk.tokens))
    return np.sqrt(total / len(numbers)).astype(network.parameters.dtype)


def check_statistics(config: Any, statistics: Any) -> np.ndarray:
    """Return gradient statistics as a network takes them. ConfigError unless they are numbers of at least 0, not all 0."""
    statistics = check_parameters(config, statistics)
    if not (statistics >= 0).all() or not statistics.any():
        raise ConfigError("gradient statistics must be at least 0, and not all 0.")
    return statistics
