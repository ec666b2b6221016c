"""Network: an input, a body and a head over one flat buffer of parameters, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from nblstm import checks
from nblstm.config import NetworkConfig, is_number
from nblstm.errors import ConfigError
from nblstm.kernels import load
from nblstm.kernels.threads import WORKERS, available
from nblstm.nn.decoder import Decoder, weights_to_decode
from nblstm.nn.heads import Head, softmax_head
from nblstm.nn.inputs import TokenEmbedding
from nblstm.nn.int8 import in_int8_kernels
from nblstm.nn.noise import Noise
from nblstm.nn.parameters import Gradients, check_parameters, placed, places
from nblstm.nn.precision import check_precision
from nblstm.nn.reading import Int8Reader
from nblstm.nn.stack import RecurrentStack, StateGradient
from nblstm.nn.state import State
from nblstm.nn.tape import Inputs, Tape
from nblstm.nn.workspace import Backend, Workspace, Workspaces


class Input(Protocol):
    """The part that turns a chunk's tokens into vectors; see `nblstm.nn.inputs`."""

    def checked(self, tokens: np.ndarray) -> np.ndarray:
        """Return the tokens as the kernels read them. ConfigError if they are not of this network."""

    def forward(self, tape: Tape, tokens: np.ndarray) -> Inputs:
        """Return the vectors of tokens (M, ...)."""

    def backward(self, tape: Tape, grads: Gradients, dx: np.ndarray) -> None:
        """Add the gradients of the input's parameters, from the gradient of the x that `forward` gave."""


class Body(Protocol):
    """The part between an input and a head; see `nblstm.nn.stack` and `nblstm.nn.dense`."""

    def initial_state(self, batch_size: int = 1) -> State:
        """Return the state of texts of which nothing has been read."""

    def carried(self, state: State) -> State:
        """Return the state to go on from where a batch ended in `state`."""

    def checked(self, state: State, batch_size: int) -> State:
        """Return the state of so many texts, as the kernels read it. ConfigError if it is not of this network."""

    def forward(self, tape: Tape, inputs: Inputs, state: State) -> State:
        """Put the head's features on the tape; return the state after the batch."""

    def backward(
        self, tape: Tape, grads: Gradients, dfeatures: np.ndarray, fresh: bool, dlast: StateGradient | None = None
    ) -> tuple[np.ndarray, StateGradient]:
        """Add the gradients of the body's parameters; return those of its inputs and of its first state."""


Make = Callable[[Any, Any], Any]  # of (config, weights by name)
Parts = tuple[Make, Make, Make]  # that make an Input, a Body and a Head
LANGUAGE: Parts = (TokenEmbedding, RecurrentStack, softmax_head)


class Network:
    """An input, a body and a head over one flat buffer of parameters.

    parameters (num_parameters,) of config.dtype is shared, not copied, if it is `checks.in_form` (ConfigError for
    another shape or dtype): an optimizer that updates it updates the network.
    With backend "cuda" it is copied to the card, where all arrays then are; States may be there or NumPy arrays.
    backend: "numpy", "cpu" or "cuda". precision: "single"; on cuda "half": weights and activations are read and kept
    as float16, sums and gradients stay float32; on the others "bfloat16": the factors of products are rounded to that,
    everything else stays float32, and so do decoders. threads: 0 means every core. parts: what it is made of. constant: the
    parameters will never change, so what is derived from them is kept. int8: the matrices are rounded (`nblstm.nn.int8`), and
    decoders and whatever only reads multiply with small integers where there are kernels for it; gradients are float32's.

    While nobody changes the parameters, any number of the caller's threads may read at once: they share the weights,
    and every pass has scratch of its own.
    """

    span: int | None = None  # tokens that are looked at together, at most; None: the state carries on without end

    def __init__(
        self, config: Any, parameters: np.ndarray, backend: str = "cpu", threads: int = 0, precision: str = "single",
        parts: Parts = LANGUAGE, constant: bool = False, int8: bool = False,
    ) -> None:  # fmt: skip
        checks.whole("threads", threads, 0, WORKERS)
        checks.a(NetworkConfig, "config", config)
        check_precision(config, backend, precision)
        kernels = load(backend, precision)
        if backend == "cuda":
            from nblstm.nn.card import check_card

            check_card(config)
        self.config, half = config, precision == "half"
        self.backend = Backend(
            kernels, threads or available(), np.dtype(config.dtype), np.dtype("float16" if half else config.dtype)
        )
        self.parameters = kernels.array(check_parameters(config, parameters, finite=False))
        self._rounded = kernels.empty(parameters.shape, self.backend.stored) if half else None
        self._places = places(config)
        self.weights = self._views()
        self.input: Input = parts[0](config, self.weights)
        self.body: Body = parts[1](config, self.weights)
        self.head: Head = parts[2](config, self.weights)
        self.constant, self.int8 = constant, int8
        self.reads_int8 = int8 and backend == "cpu" and in_int8_kernels(config)
        self._packed: dict[float, Any] = {}  # what decoders share, by temperature
        self._workspaces = Workspaces(self.backend)

    @property
    def kernels(self) -> ModuleType:
        """The backend that computes: `nblstm.kernels`."""
        return self.backend.kernels

    @property
    def threads(self) -> int:
        """The number of threads."""
        return self.backend.threads

    def _views(self) -> dict[str, np.ndarray]:
        """Return the parameters by name; in half precision, matrices are the rounded ones."""
        named = placed(self.parameters, self._places)
        if self._rounded is None:
            return named
        rounded = placed(self._rounded, self._places)
        return {name: rounded[name] if len(array.shape) == 2 else array for name, array in named.items()}

    def scratch(self) -> AbstractContextManager[Workspace]:
        """Lend a workspace for a block, that nobody else has meanwhile."""
        return self._workspaces.lend()

    # ------------------------------------------------------------ states

    def initial_state(self, batch_size: int = 1) -> State:
        """Return the state of texts of which nothing has been read: zero, or as it was learned."""
        return self.body.initial_state(batch_size)

    def before(self, chunk: Any, state: State) -> State:
        """Return the state before a chunk (`nblstm.text.batches.Chunk`), given the state after the last one."""
        if chunk.fresh:
            return self.initial_state(chunk.num_texts)
        return self.body.carried(state.first(chunk.num_texts))

    def share(self, part: Any, chunk: Any) -> Any:
        """Return a part of a chunk whose loss and gradient are its share in those of the whole chunk."""
        head: Any = self.head
        return replace(part, total=head.total(chunk))

    def num_targets(self, offsets: np.ndarray) -> int:
        """Count the targets of a packed batch: one a row."""
        return int(offsets[-1])

    def _checked(self, chunk: Any, state: State) -> tuple[Any, State]:
        """Return a chunk and the state before it as kernels read them. ConfigError if they are not of this network."""
        offsets = checks.offsets("chunk.offsets", chunk.offsets, len(chunk.tokens))
        count = self.num_targets(offsets)
        weights = None if chunk.weights is None else checks.weights("chunk.weights", chunk.weights, count)
        if chunk.total is not None and not (is_number(chunk.total) and chunk.total >= 0):
            raise ConfigError(f"chunk.total must be a finite number of at least 0, got {chunk.total!r:.60}.")
        tokens, targets = self.input.checked(chunk.tokens), self.head.checked(chunk.targets, count)
        chunk = replace(chunk, tokens=tokens, targets=targets, offsets=offsets, weights=weights)
        return chunk, self.body.checked(checks.a(State, "state", state), chunk.num_texts)

    # ------------------------------------------------------------ training

    def loss_and_gradient(
        self, gradient: np.ndarray, chunk: Any, state: State, seed: int, step: int, cleared: bool = False
    ) -> tuple[float, State]:
        """Return the mean loss of a chunk (`nblstm.text.batches.Chunk`), weighted by chunk.weights, and the next state.

        gradient (num_parameters,): overwritten with that of the mean loss; cleared: it is zeros already. state: that of
        the chunk's texts before it, see `before`. All dropout is a function of (seed, step).
        """
        chunk, state = self._checked(chunk, state)
        with self.scratch() as scratch:
            tape = Tape(chunk.offsets, scratch, Noise(self.kernels, seed, step, self.threads))
            after = self._forward(tape, chunk.tokens, state)
            return self._backward(tape, gradient, chunk, cleared), after

    def losses_and_gradient(self, gradient: np.ndarray, chunk: Any, state: State) -> tuple[np.ndarray, State]:
        """Return the loss of every row of a chunk (M,), as `losses` does, and the state after it; the gradient, too.

        gradient (num_parameters,): overwritten with that of the mean loss, without any dropout.
        """
        chunk, state = self._checked(chunk, state)
        with checks.quiet(), self.scratch() as scratch:
            tape = Tape(chunk.offsets, scratch, None)
            after = self._on_host(self._forward(tape, chunk.tokens, state))
            losses = self.head.losses(tape, chunk.targets)
            self._backward(tape, gradient, chunk)
            return losses, after

    def _backward(self, tape: Tape, gradient: np.ndarray, chunk: Any, cleared: bool = False) -> float:
        """Return the mean loss of a chunk that has been read; overwrite the gradient with that of it."""
        if isinstance(gradient, np.ndarray):  # one on a card is the trainer's own
            checks.in_place("gradient", gradient, self.parameters.shape, self.config.dtype)
        if not cleared:
            self.kernels.clear(gradient, self.threads)
        grads = placed(gradient, self._places)
        loss, dfeatures = self.head.loss_and_gradient(tape, grads, chunk)
        dx, _ = self.body.backward(tape, grads, dfeatures, chunk.fresh)
        self.input.backward(tape, grads, dx)
        return loss

    def _forward(self, tape: Tape, tokens: np.ndarray, state: State) -> State:
        """Read a batch: put the head's features on the tape, and return the state after it."""
        if self._rounded is not None:
            self.kernels.convert(self._rounded, self.parameters)
        return self.body.forward(tape, self.input.forward(tape, tokens), state)

    # ------------------------------------------------------------ reading

    def losses(self, chunk: Any, state: State) -> tuple[np.ndarray, State]:
        """Return the loss of every row of a chunk (M,), for text -log p(target) in nats, and the state after it."""
        chunk, state = self._checked(chunk, state)
        with checks.quiet(), self.scratch() as scratch:
            tape = Tape(chunk.offsets, scratch, None)
            after = self._read(tape, chunk.tokens, state)
            return self.head.losses(tape, chunk.targets), after

    def losses_of(self, rows: np.ndarray, chunk: Any, state: State) -> np.ndarray:
        """Return the losses of some rows (R,) of a chunk."""
        chunk, state = self._checked(chunk, state)
        with checks.quiet(), self.scratch() as scratch:
            tape = Tape(chunk.offsets, scratch, None)
            self._read(tape, chunk.tokens, state)
            tape.features = tape.features[rows]
            return self.head.losses(tape, chunk.targets[rows])

    def outputs(self, chunk: Any, state: State) -> tuple[np.ndarray, State]:
        """Return the head's outputs for every row of a chunk (M, V), logits or predictions, and the state after it."""
        chunk, state = self._checked(chunk, state)
        with checks.quiet(), self.scratch() as scratch:
            tape = Tape(chunk.offsets, scratch, None)
            after = self._read(tape, chunk.tokens, state)
            return self.head.outputs(scratch, tape.features), after

    def features(self, chunk: Any, state: State) -> tuple[np.ndarray, State]:
        """Return what the head sees of every row of a chunk (M, head_size), and the state after it."""
        chunk, state = self._checked(chunk, state)
        with checks.quiet(), self.scratch() as scratch:
            tape = Tape(chunk.offsets, scratch, None)
            after = self._read(tape, chunk.tokens, state)
            return tape.features.copy(), after

    def read(self, chunk: Any, state: State) -> State:
        """Return the state after reading a chunk."""
        chunk, state = self._checked(chunk, state)
        with checks.quiet(), self.scratch() as scratch:
            return self._read(Tape(chunk.offsets, scratch, None), chunk.tokens, state)

    def _read(self, tape: Tape, tokens: np.ndarray, state: State) -> State:
        """Read a batch that has no backward pass: features on the tape, and the state after it in NumPy arrays."""
        if not self.reads_int8:
            return self._on_host(self._forward(tape, tokens, state))
        tape.reader = Int8Reader(self.config, self._packed_weights(None, 1.0))
        return tape.reader.read(tape, tokens, state)

    def _on_host(self, state: State) -> State:
        """Return the state in NumPy arrays."""
        return State(*map(self.kernels.host, (state.h, state.c, state.features)))

    def decoder(self, num_texts: int = 1, bias: np.ndarray | None = None, temperature: float = 1.0) -> Decoder:
        """Make a decoder, which reads a batch of up to num_texts texts token by token; for one thread at a time.

        bias (V,): added to all logits, in weights that are packed for this decoder alone. temperature: what logits are
        divided by, above 0. Holds until the parameters change. Its packed weights are one copy for all decoders of a
        temperature where they are constant; threads that ask at once may pack them twice, to the same bits.
        """
        if self.head.in_clusters:
            from nblstm.nn.adaptive_decoder import AdaptiveDecoder

            return AdaptiveDecoder(self, self._packed_weights(None, 1.0), num_texts, bias, temperature)
        return Decoder(self, self._packed_weights(bias, temperature), num_texts)

    def _packed_weights(self, bias: np.ndarray | None, temperature: float) -> Any:
        """Return the weights of a decoder, shared where that may be."""
        if bias is not None or not self.constant:
            return weights_to_decode(self, bias, temperature)
        packed = self._packed.get(temperature)
        if packed is None:
            packed = self._packed.setdefault(temperature, weights_to_decode(self, None, temperature))
        return packed

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the head's outputs (M, V) for features (M, head_size), such as state.features."""
        c = self.config
        if not hasattr(features, "copy_to_host"):
            features = checks.in_form("features", features, (*getattr(features, "shape", ())[:1], c.head_size), c.dtype)
        with checks.quiet(), self.scratch() as scratch:
            return self.head.outputs(scratch, features)
