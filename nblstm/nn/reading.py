"""Int8Reader: reads whole texts with the small integers that a network decodes with."""

from __future__ import annotations

from typing import Any

import numpy as np

from nblstm.kernels import DecoderState
from nblstm.kernels.packed import last_rows
from nblstm.nn.inputs import unique_tokens
from nblstm.nn.state import State


class Int8Reader:
    """The packed weights of a network as a pass reads and scores with them: `nblstm.kernels.reference.reading`.

    What it finds of a text is what decoders find, but for roundings of float32, and does not depend on other texts,
    threads, or where the text is cut.
    """

    def __init__(self, config: Any, weights: Any) -> None:
        """weights: what `kernels.cpu.decode_weights` has made of a network with int8 weights."""
        from nblstm.kernels.cpu import reading

        self.config, self.weights, self.kernels = config, weights, reading

    def read(self, tape: Any, tokens: np.ndarray, state: State) -> State:
        """Put the features of tokens (M,) int32 on the tape; return the state after them."""
        ids, index = unique_tokens(tokens, self.config.vocab_size)
        features, after = tape.scratch.array("features", len(tokens), self.config.head_size), state.copy()
        at = DecoderState(after.h, after.c, after.features, np.empty((0, 0), np.float32))
        self.kernels.read_texts(
            features, at, self._work(tape), self.weights, ids, index, tape.offsets, tape.backend.threads
        )
        tape.features = features
        return State(after.h, after.c, features[last_rows(tape.offsets)])

    def losses(self, tape: Any, targets: np.ndarray) -> np.ndarray:
        """Return -log p(target) (M,) of the features on the tape, of a softmax over all tokens."""
        losses = np.empty(len(targets), np.float32)
        self.kernels.read_losses(losses, self._work(tape), self.weights, tape.features, targets, tape.backend.threads)
        return losses

    def _work(self, tape: Any) -> Any:
        """Return room for the texts of the tape."""
        M, N = int(tape.offsets[-1]), int(tape.offsets[1])
        make = lambda M, N: self.kernels.reading_work(M, N, self.weights, tape.backend.threads)
        return tape.scratch.work("int8 reading", make, M, N)
