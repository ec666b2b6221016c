"""Encoders: a source becomes the first state of a decoder and, of tokens, the rows that it looks at.

    h_0 = tanh(W h_T + b),  c_0 = W c_T + b        of every layer, both directions of it side by side

(Sutskever et al. 2014, Cho et al. 2014; the map: Bahdanau et al. 2015, appendix A.2.2). A memory c has no bounds, so its
map has no tanh. A source that is a vector v, such as the features of an image, stands in the place of h_T and c_T.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nblstm.kernels.cells.functions import noticed
from nblstm.nn.inputs import TokenEmbedding
from nblstm.nn.linear import Linear, linear_shapes, part_of
from nblstm.nn.parameters import Gradients
from nblstm.nn.stack import RecurrentStack, StateGradient
from nblstm.nn.state import State
from nblstm.nn.tape import Tape


class LastStates(NamedTuple):
    """What an encoder knows in the end, of every layer of the decoder (N, ...) each, sources in their own order."""

    h: list[np.ndarray]
    c: list[np.ndarray]  # none where cells have no memory


class TokenEncoder:
    """Reads tokens: an embedding and a stack, in one direction or both. config: that of the stack."""

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config = config
        self.input, self.stack = TokenEmbedding(config, weights), RecurrentStack(config, weights)

    def forward(self, tape: Tape, tokens: np.ndarray) -> LastStates:
        """Read packed tokens (S,); their features (S, F) are on the tape then."""
        inputs = self.input.forward(tape, tokens)
        after = self.stack.forward(tape, inputs, self.stack.initial_state(int(tape.offsets[1])))
        has_memory = self.config.cells[0].has_memory
        return LastStates(self._joined(after.h), self._joined(after.c) if has_memory else [])

    def _joined(self, states: np.ndarray) -> list[np.ndarray]:
        """Join the directions of every layer of states (cells, N, size): (N, directions size) each."""
        D = self.config.directions
        return [np.concatenate(list(states[k : k + D]), axis=1) for k in range(0, len(states), D)]

    def backward(self, tape: Tape, grads: Gradients, dfeatures: np.ndarray, dlast: LastStates) -> None:
        """Add the gradients of the parameters, from those of the features (S, F), overwritten, and of the last states."""
        of_h, of_c = self._split(dlast.h), self._split(dlast.c)
        empty = np.zeros((len(of_h[0]), 0), of_h[0].dtype)
        states: StateGradient = list(zip(of_h, of_c or [empty] * len(of_h)))
        dx, _ = self.stack.backward(tape, grads, dfeatures, True, states)
        self.input.backward(tape, grads, dx)

    def _split(self, joined: list[np.ndarray]) -> list[np.ndarray]:
        """Split what `_joined` has joined: one array of every cell."""
        D = self.config.directions
        return [np.ascontiguousarray(part) for d in joined for part in np.split(d, D, axis=1)]


class VectorEncoder:
    """Takes vectors as they are: what is learned of them is the map to the first state."""

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config = config

    def forward(self, tape: Tape, vectors: np.ndarray) -> LastStates:
        """Return the vectors (N, D) for every layer; there are no features."""
        L = self.config.num_layers
        return LastStates([vectors] * L, [vectors] * L if self.config.cells[0].has_memory else [])

    def backward(self, tape: Tape, grads: Gradients, dfeatures: np.ndarray, dlast: LastStates) -> None:
        """Leave everything: vectors have no parameters."""


class Bridge:
    """The learned map from an encoder's last states to a decoder's first one. config: of the decoder's stack."""

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config = config
        named = lambda kind: [Linear(weights, f"{kind}_l{k}") for k in range(config.num_layers)]
        self.h, self.c = named("h"), named("c") if config.cells[0].has_memory else []

    def forward(self, tape: Tape, last: LastStates) -> State:
        """Return the first state of the decoder."""
        scratch, N = tape.scratch, len(last.h[0])
        state = State.zeros(self.config, N)
        for k, (map_h, x) in enumerate(zip(self.h, last.h)):
            np.tanh(noticed(map_h.forward(scratch, x)), out=state.h[k])
        for k, (map_c, x) in enumerate(zip(self.c, last.c)):
            state.c[k] = map_c.forward(scratch, x)
        return state

    def backward(
        self, tape: Tape, grads: Gradients, last: LastStates, first: State, dfirst: StateGradient
    ) -> LastStates:
        """Return the gradient of the last states from that of the first state; add those of the maps."""
        dh = [
            np.array(layer.backward(tape.scratch, grads, d[0] * (1 - h * h), x))  # tanh' = 1 - tanh^2
            for layer, d, h, x in zip(self.h, dfirst, first.h, last.h)
        ]
        dc = [np.array(layer.backward(tape.scratch, grads, d[1], x)) for layer, d, x in zip(self.c, dfirst, last.c)]
        return LastStates(dh, dc)


def bridge_shapes(decoder: Any, of_h: int, of_c: int) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the maps' parameters. of_h, of_c: numbers of a layer's last states; no memory: of_c is 0."""
    shapes: dict[str, tuple[int, ...]] = {}
    for k, cell in enumerate(decoder.cells):
        shapes |= linear_shapes(f"h_l{k}", cell.output_size, of_h)
        if cell.has_memory:
            shapes |= linear_shapes(f"c_l{k}", cell.memory_size, of_c)
    return shapes


def encoder_of(config: Any, weights: Mapping[str, np.ndarray]) -> TokenEncoder | VectorEncoder:
    """Make the encoder that a config with `encoder` (None: of vectors) and `decoder` asks for."""
    if config.encoder is None:
        return VectorEncoder(config.decoder, {})
    return TokenEncoder(config.encoder, part_of(weights, "encoder."))
