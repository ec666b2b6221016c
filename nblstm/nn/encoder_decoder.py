"""EncoderDecoder: a body that reads sources first, then their targets from the state that they leave.

The sources of a batch are packed by their own falling lengths, the targets by theirs: `Pairs.order` says which source is
whose. Attention looks at the sources in the order of the targets.

With input feeding (Luong et al. 2015, section 3.3) a step reads h~ of the step before beside its token. It has to wait
for that, so the steps are taken one by one, which is several times slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from nblstm import checks
from nblstm.errors import ConfigError
from nblstm.kernels.packed import rows_by_text
from nblstm.nn.attention import Attention, Looked, Memory
from nblstm.nn.encoder import Bridge, LastStates, VectorEncoder, encoder_of
from nblstm.nn.inputs import TokenEmbedding
from nblstm.nn.linear import part_of
from nblstm.nn.noise import LAYER
from nblstm.nn.parameters import Gradients
from nblstm.nn.stack import RecurrentStack, StateGradient
from nblstm.nn.state import State, Stateless
from nblstm.nn.tape import Inputs, Tape

OF_SOURCES, FIRST_STEP = 1, 2  # numbers of the noise of sources, and of the first step of input feeding


@dataclass(frozen=True)
class Pairs:
    """The tokens that a batch of targets reads, and its sources.

    tokens (M,) int32: of the targets, packed. sources (S,) int32, packed, with offsets (T + 1,) int64; or vectors
    (N, D) of the network's dtype, with offsets [0, N]. order (N,) int64: the place of each target's source among them.
    """

    tokens: np.ndarray
    sources: np.ndarray
    offsets: np.ndarray
    order: np.ndarray

    def __len__(self) -> int:
        """Count the targets' tokens."""
        return len(self.tokens)


class PairInput:
    """The vectors of the targets' tokens; their sources go onto the tape, for the body."""

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config, self.embedding = config, TokenEmbedding(config.decoder, part_of(weights, "decoder."))

    def checked(self, pairs: Any) -> Pairs:
        """Return the pairs as the kernels read them. ConfigError if they are not of this network."""
        checks.a(Pairs, "chunk.tokens", pairs)
        c, tokens = self.config, self.embedding.checked(pairs.tokens)
        if c.encoder is None:
            sources = checks.in_form("sources", pairs.sources, (len(pairs.sources), c.source_size), c.dtype)
        else:
            sources = checks.ids("sources", pairs.sources, c.encoder.vocab_size, (-1,), np.int32)
        offsets = checks.offsets("sources.offsets", pairs.offsets, len(sources))
        N = int(offsets[1])
        order = checks.ids("sources.order", pairs.order, N, (N,))
        if len(np.unique(order)) < N:
            raise ConfigError("sources.order must name each source once; it is a permutation.")
        return Pairs(tokens, sources, offsets, order)

    def forward(self, tape: Tape, pairs: Pairs) -> Inputs:
        """Return the vectors of the targets' tokens."""
        if len(pairs.order) != int(tape.offsets[1]):
            raise ConfigError(
                f"sources must be as many as targets, got {len(pairs.order):,} and {int(tape.offsets[1]):,}."
            )
        tape.sources = pairs
        return self.embedding.forward(tape, pairs.tokens)

    def backward(self, tape: Tape, grads: Gradients, dx: np.ndarray) -> None:
        """Add the gradient of the targets' embedding."""
        self.embedding.backward(tape, part_of(grads, "decoder."), dx)


class _Read(NamedTuple):
    """What reading the sources leaves: sources in their own order, `first` and `memory` in that of the targets."""

    tape: Tape
    last: LastStates
    order: np.ndarray
    rows: np.ndarray  # (S,) the row of each of the memory's
    first: State
    memory: Memory | None


class _Pass(NamedTuple):
    """What a pass keeps."""

    read: _Read
    inputs: Inputs
    tapes: list[Tape]  # one; with input feeding one of every step
    looked: list[Looked]  # likewise; none without attention


class EncoderDecoder(Stateless):
    """The body; the decoder's first state comes from the sources of the batch.

    config: `encoder` and `decoder`, of the stacks; `attention`, `input_feeding`, `output_dropout`.
    """

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config, self.encoder = config, encoder_of(config, weights)
        self.bridge = Bridge(config.decoder, part_of(weights, "bridge."))
        self.stack = RecurrentStack(config.decoder, part_of(weights, "decoder."))
        has_attention = config.attention != "none"
        self.attention = Attention(config.attention, part_of(weights, "attention.")) if has_attention else None

    # ------------------------------------------------------------ forward

    def read(self, tape: Tape, pairs: Pairs) -> _Read:
        """Read the sources: the first state of the decoder, and what it looks at. tape: of the targets."""
        noise = tape.noise and tape.noise.apart(OF_SOURCES)
        source = Tape(pairs.offsets, tape.scratch.part("sources"), noise)
        last = self.encoder.forward(source, pairs.sources)
        ordered = LastStates(*([x[pairs.order] for x in states] for states in last))
        first = self.bridge.forward(source, ordered)
        rows, starts = rows_by_text(pairs.offsets, pairs.order)
        memory = None
        if self.attention is not None:
            values, backend = source.scratch.array("values", *source.features.shape), source.backend
            backend.kernels.embedding_forward(values, rows, source.features, backend.threads)
            memory = self.attention.memory(source.scratch, values, starts)
        return _Read(source, ordered, pairs.order, rows, first, memory)

    def forward(self, tape: Tape, inputs: Inputs, state: State) -> State:
        """Read a batch of sources and their targets: put the features (M, head_size) on the tape."""
        read = self.read(tape, tape.sources)
        if self.config.input_feeding:
            tape.body_kept = self._fed_forward(tape, inputs, read)
            return state
        inner = replace(tape)
        self.stack.forward(inner, inputs, read.first)
        looked = []
        if read.memory is not None:
            rows, starts = rows_by_text(tape.offsets)
            looked.append(self.attention.forward(tape.scratch, inner.features, read.memory, starts, rows))  # type: ignore[union-attr]
        tape.features = self._features(tape, inner, looked)
        tape.body_kept = _Pass(read, inputs, [inner], looked)
        return state

    def _features(self, tape: Tape, inner: Tape, looked: list[Looked]) -> np.ndarray:
        """Return what the head sees: h~, or h without attention, after dropout."""
        features = looked[-1].attentional if looked else inner.features
        return tape.dropped(features, self.config.output_dropout, 0.0, self._site)

    @property
    def _site(self) -> int:
        """Return where the noise of the features is drawn: behind the last layer."""
        return LAYER + self.config.num_layers

    def _fed_forward(self, tape: Tape, inputs: Inputs, read: _Read) -> _Pass:
        """Take the steps one by one, each beside what the one before has put on its tape."""
        vectors, tapes, looked = _all_rows(inputs), [], []
        state, fed = read.first, np.zeros((int(tape.offsets[1]), self.config.head_size), self.config.dtype)
        tape.features = tape.scratch.array("features", len(vectors), self.config.head_size)
        for t, (first, last) in enumerate(zip(tape.offsets[:-1], tape.offsets[1:])):
            n = int(last - first)
            step = Tape(
                np.array([0, n]), tape.scratch.part(f"step {t}"), tape.noise and tape.noise.apart(FIRST_STEP + t)
            )
            state = self.step(step, Inputs(vectors[first:last], None, 0), fed[:n], state.first(n))
            looked.append(self.look(step, read.memory.first(n), np.arange(n + 1)))  # type: ignore[union-attr]
            fed = tape.features[first:last] = self._features(step, step, looked)
            tapes.append(step)
        return _Pass(read, inputs, tapes, looked)

    def step(self, tape: Tape, inputs: Inputs, fed: np.ndarray | None, state: State) -> State:
        """Read a token of each text, fed (N, F) beside it where `input_feeding` has it. h is on the tape then."""
        if fed is not None:
            inputs = Inputs(np.concatenate([_all_rows(inputs), fed], axis=1), None, 0)
        return self.stack.forward(tape, inputs, state)

    def look(self, tape: Tape, memory: Memory, queries: np.ndarray) -> Looked:
        """Return h~ of the h on the tape, whose rows stand source by source; queries (N + 1,): from where on."""
        assert self.attention is not None
        return self.attention.forward(tape.scratch, tape.features, memory, queries)

    # ------------------------------------------------------------ backward

    def backward(
        self, tape: Tape, grads: Gradients, dfeatures: np.ndarray, fresh: bool, dlast: StateGradient | None = None
    ) -> tuple[np.ndarray, StateGradient]:
        """Add the gradients of all parts from that of the features (M, head_size); return that of the targets' x."""
        kept = tape.body_kept
        of_stack, of_attention = part_of(grads, "decoder."), part_of(grads, "attention.")
        dmemory: Any = None
        if self.config.input_feeding:
            dx, dfirst, dmemory = self._fed_backward(tape, of_stack, of_attention, dfeatures)
        else:
            d = tape.dropped(dfeatures, self.config.output_dropout, 0.0, self._site, into=dfeatures)
            if kept.looked:
                d, *dmemory = self.attention.backward(tape.scratch, of_attention, kept.looked[0], d)  # type: ignore[union-attr]
            dx, dfirst = self.stack.backward(kept.tapes[0], of_stack, d, False, None)
        self._read_backward(kept.read, grads, dfirst, dmemory)
        return dx, []

    def _read_backward(self, read: _Read, grads: Gradients, dfirst: StateGradient, dmemory: Any) -> None:
        """Add the gradients of bridge and encoder. dmemory: of the values and of the keys; None without attention."""
        source, scratch = read.tape, read.tape.scratch
        dlast = self.bridge.backward(source, part_of(grads, "bridge."), read.last, read.first, dfirst)
        if isinstance(self.encoder, VectorEncoder):
            return
        dfeatures = scratch.array("dfeatures", *source.features.shape)
        if read.memory is None:
            dfeatures[...] = 0
        else:
            of_attention = part_of(grads, "attention.")
            dfeatures[read.rows] = self.attention.memory_backward(scratch, of_attention, read.memory, *dmemory)  # type: ignore[union-attr]
        back = np.argsort(read.order)  # sources in their own order again
        self.encoder.backward(
            source, part_of(grads, "encoder."), dfeatures, LastStates(*([d[back] for d in states] for states in dlast))
        )

    def _fed_backward(self, tape: Tape, of_stack: Gradients, of_attention: Gradients, dfeatures: np.ndarray) -> Any:
        """Go back through the steps: the gradients of x, of the first state, and of values and keys."""
        kept, E = tape.body_kept, self.config.decoder.embedding_size
        memory = kept.read.memory
        dmemory = np.zeros_like(memory.values), np.zeros_like(memory.keys)
        dvectors, dstate = np.empty((len(dfeatures), E), dfeatures.dtype), None
        dfed = np.zeros((0, dfeatures.shape[1]), dfeatures.dtype)
        for t in reversed(range(len(kept.tapes))):
            step, rows = kept.tapes[t], slice(int(tape.offsets[t]), int(tape.offsets[t + 1]))
            d = dfeatures[rows].copy()
            d[: len(dfed)] += dfed  # h~ of this step is read by the next one, where that is there
            step.dropped(d, self.config.output_dropout, 0.0, self._site, into=d)
            d, *of_memory = self.attention.backward(step.scratch, of_attention, kept.looked[t], d)  # type: ignore[union-attr]
            for total, part in zip(dmemory, of_memory):
                total[: len(part)] += part
            dx, dstate = self.stack.backward(step, of_stack, d, False, _padded(dstate, len(d)))
            dvectors[rows], dfed = dx[:, :E], np.ascontiguousarray(dx[:, E:])
        return self._of_x(tape, kept.inputs, dvectors), dstate, dmemory

    @staticmethod
    def _of_x(tape: Tape, inputs: Inputs, dvectors: np.ndarray) -> np.ndarray:
        """Return the gradient of inputs.x from that of the batch's rows."""
        if inputs.index is None:
            return dvectors
        dx = np.zeros_like(inputs.x)
        tape.backend.kernels.embedding_backward(dx, dvectors, inputs.index, tape.backend.threads)
        return dx


def _all_rows(inputs: Inputs) -> np.ndarray:
    """Return the inputs of every row."""
    return inputs.x if inputs.index is None else inputs.x[inputs.index]


def _padded(dstate: StateGradient | None, texts: int) -> StateGradient | None:
    """Return the gradient of the state of so many texts: 0 of those that have ended."""
    if dstate is None:
        return None
    return [tuple(np.pad(d, ((0, texts - len(d)), (0, 0))) for d in of_cell) for of_cell in dstate]  # type: ignore[misc]
