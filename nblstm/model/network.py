"""Network: kernels composed into embedding -> LSTM layers -> linear head, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from nblstm.config import ModelConfig
from nblstm.kernels import load
from nblstm.kernels.threads import available
from nblstm.model.parameters import views
from nblstm.model.state import State


class Network:
    """An LSTM language model over one flat buffer of parameters.

    parameters (num_parameters,) is shared, not copied: an optimizer that updates it updates the network.
    backend: "numpy" or "cpu". threads: 0 means every core. Buffers are kept between calls, so one Network
    serves one thread of the caller.
    """

    def __init__(self, config: ModelConfig, parameters: np.ndarray, backend: str = "cpu", threads: int = 0) -> None:
        self.config = config
        self.parameters = parameters
        self.weights = views(parameters, config)
        self.kernels: ModuleType = load(backend)
        self.threads = threads or available()
        self._buffers: dict[Any, dict[str, Any]] = {}

    # ------------------------------------------------------------ training

    def loss_and_gradient(
        self, gradient: np.ndarray, tokens: np.ndarray, targets: np.ndarray, state: State, seed: int, step: int
    ) -> tuple[float, State]:
        """The mean loss (nats per token) of a chunk, and the state after it.

        gradient (num_parameters,): overwritten with that of the mean loss. tokens, targets (T, N) int32: the
        ids read and the ids that follow them. Dropout is a function of (seed, step).
        """
        self.kernels.clear(gradient, self.threads)
        T, N = tokens.shape
        buffers = self._training_buffers(T, N)
        grads = views(gradient, self.config)
        keys = [dropout_key(seed, step, site) for site in range(self.config.num_layers + 1)]
        x, index, distinct = self._inputs(buffers, tokens, keys[0])
        outputs, after = self._layers(buffers, x, index, state, T, N, keys)
        losses = self._head_and_gradient(buffers, grads, outputs[-1], targets.reshape(-1))
        dx = self._layers_backward(buffers, grads, x, index, outputs, state, T, N, keys)
        self._inputs_backward(grads, dx, tokens, distinct, keys[0])
        return float(losses.mean(dtype=np.float64)), after

    def _training_buffers(self, T: int, N: int) -> dict[str, Any]:
        """Everything a training step on a (T, N) chunk writes, allocated once."""
        key = ("training", T, N)
        if key not in self._buffers:
            self._buffers = {key: self._forward_buffers(T, N, self.config.input_dropout, self.config.dropouts)}
            c, M = self.config, T * N
            H, V = c.hidden_size, c.vocab_size
            empty = lambda *shape: np.empty(shape, c.dtype)  # noqa: E731
            self._buffers[key] |= {"dy": [empty(T, N, H), empty(T, N, H)], "losses": empty(M)}
            self._buffers[key]["head"] = self.kernels.softmax_gradient_work(M, H, V, c.dtype, self.threads)
        return self._buffers[key]

    def _forward_buffers(self, T: int, N: int, input_dropout: float, dropouts: list[float]) -> dict[str, Any]:
        """Everything a forward pass writes; x is the distinct inputs or, under dropout, all of them."""
        c, M = self.config, T * N
        sizes = [c.embedding_size] + [c.hidden_size] * (c.num_layers - 1)
        rows = min(M, c.vocab_size) if input_dropout == 0 else 0
        empty = lambda *shape: np.empty(shape, c.dtype)  # noqa: E731
        return {
            "x": empty(rows or M, c.embedding_size),
            "y": [empty(T, N, c.hidden_size) for _ in sizes],
            "dropped": [empty(T, N, c.hidden_size) if rate else None for rate in dropouts],
            "work": self.kernels.lstm_work(T, N, sizes, c.hidden_size, rows, c.dtype, self.threads),
        }

    def _inputs(self, buffers: dict[str, Any], tokens: np.ndarray, key: int) -> tuple[Any, Any, Any]:
        """(x, index, distinct): the vectors of the distinct tokens and where each stands.

        A chunk has few distinct tokens, so the first layer projects those and gathers: a quarter of a two-layer
        character model's products disappears. With input dropout every position differs: x is all of them.
        """
        flat, weight = tokens.reshape(-1), self.weights["embedding.weight"]
        if self.config.input_dropout > 0:
            x = buffers["x"]
            self.kernels.embedding_forward(x, flat, weight, self.threads)
            self.kernels.dropout(x, x, self.config.input_dropout, key, self.threads)
            return x, None, None
        distinct, index = distinct_tokens(flat, self.config.vocab_size)
        x = buffers["x"][: len(distinct)]
        self.kernels.embedding_forward(x, distinct, weight, self.threads)
        return x, index, distinct

    def _layers(self, buffers, x, index, state: State, T: int, N: int, keys) -> tuple[list[np.ndarray], State]:
        """Every layer's output after dropout, (T * N, H) each, and the state after the chunk. keys None: no dropout."""
        after, outputs = State(np.empty_like(state.h), np.empty_like(state.c)), []
        for k in range(self.config.num_layers):
            y = buffers["y"][k]
            self.kernels.lstm_forward(
                y, after.h[k], after.c[k], buffers["work"][k], x, index, state.h[k], state.c[k],
                *self._layer(self.weights, k), self.threads,
            )  # fmt: skip
            if keys is not None and self.config.dropouts[k] > 0:
                self.kernels.dropout(buffers["dropped"][k], y, self.config.dropouts[k], keys[k + 1], self.threads)
                y = buffers["dropped"][k]
            x, index = y.reshape(T * N, -1), None
            outputs.append(x)
        return outputs, after

    def _head_and_gradient(self, buffers, grads, x: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Losses (M,); the gradient of their mean goes to the head and, with respect to x, to buffers["dy"][0]."""
        losses, dx, M = buffers["losses"], buffers["dy"][0].reshape(x.shape), len(targets)
        scales = np.full(M, 1 / M, x.dtype)
        self.kernels.softmax_losses_and_gradient(
            losses, dx, grads["head.weight"], grads["head.bias"], buffers["head"], x, targets, scales, None, 0.0,
            self.weights["head.weight"], self.weights["head.bias"], self.threads,
        )  # fmt: skip
        return losses

    def _layers_backward(self, buffers, grads, x, index, outputs, state: State, T: int, N: int, keys) -> np.ndarray:
        """Gradients of every layer's parameters, from buffers["dy"][0] on; returns that of x."""
        dy, spare = buffers["dy"]
        dh, dc = np.empty_like(state.h[0]), np.empty_like(state.c[0])
        for k in reversed(range(self.config.num_layers)):
            if self.config.dropouts[k] > 0:
                self.kernels.dropout(dy, dy, self.config.dropouts[k], keys[k + 1], self.threads)
            inputs = x if k == 0 else outputs[k - 1]
            dx = np.empty_like(x) if k == 0 else spare.reshape(inputs.shape)
            dh.fill(0)  # truncated: nothing flows back from the next chunk
            dc.fill(0)
            self.kernels.lstm_backward(
                dx, dh, dc, *self._layer(grads, k), dy, buffers["y"][k], buffers["work"][k], inputs,
                index if k == 0 else None, state.h[k], *self._layer(self.weights, k)[:2], self.threads,
            )  # fmt: skip
            dy, spare = spare, dy
        return dx

    def _inputs_backward(self, grads, dx: np.ndarray, tokens: np.ndarray, distinct, key: int) -> None:
        """The gradient of the embedding: only rows of tokens that occurred are touched."""
        if distinct is not None:
            grads["embedding.weight"][distinct] += dx
            return
        self.kernels.dropout(dx, dx, self.config.input_dropout, key, self.threads)
        self.kernels.embedding_backward(grads["embedding.weight"], dx, tokens.reshape(-1), self.threads)

    @staticmethod
    def _layer(named: dict[str, np.ndarray], k: int) -> list[np.ndarray]:
        """The four arrays of layer k, in the kernels' order."""
        return [named[f"rnn.{part}_l{k}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    # ------------------------------------------------------------ scoring and generation

    def losses(self, tokens: np.ndarray, targets: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        """-log p(target) of every position, (T, N) in nats, and the state after. tokens, targets (T, N) int32."""
        T, N = tokens.shape
        key = ("losses", T, N)
        if key not in self._buffers:
            self._buffers = {k: v for k, v in self._buffers.items() if k[0] == "training"}
            self._buffers[key] = self._forward_buffers(T, N, 0.0, [0.0] * self.config.num_layers)
            c = self.config
            work = self.kernels.softmax_work(T * N, c.hidden_size, c.vocab_size, c.dtype, self.threads)
            self._buffers[key] |= {"head": work}
        distinct, index = distinct_tokens(tokens.reshape(-1), self.config.vocab_size)
        x = self._buffers[key]["x"][: len(distinct)]
        self.kernels.embedding_forward(x, distinct, self.weights["embedding.weight"], self.threads)
        outputs, after = self._layers(self._buffers[key], x, index, state, T, N, None)
        losses = np.empty(T * N, self.config.dtype)
        self.kernels.softmax_losses(
            losses, self._buffers[key]["head"], outputs[-1], targets.reshape(-1), self.weights["head.weight"],
            self.weights["head.bias"], self.threads,
        )  # fmt: skip
        return losses.reshape(T, N), after

    def decoder(self, num_texts: int = 1) -> Callable[..., np.ndarray]:
        """A function that reads one token of each of num_texts texts: `decode(tokens, state, want_logits=True)`.

        tokens (num_texts,) int; state is overwritten with the one after them; logits (num_texts, V) of the next
        tokens come back, (0, V) if they are not wanted. Holds until the parameters change.
        """
        layers = [self._layer(self.weights, k) for k in range(self.config.num_layers)]
        head = self.weights["head.weight"], self.weights["head.bias"]
        work = self.kernels.decode_work(num_texts, self.weights["embedding.weight"], layers, *head, self.threads)

        def decode(tokens: np.ndarray, state: State, want_logits: bool = True) -> np.ndarray:
            logits = np.empty((num_texts if want_logits else 0, self.config.vocab_size), self.config.dtype)
            self.kernels.decode(logits, state.h, state.c, np.asarray(tokens, np.int64), work, self.threads)
            return logits

        return decode

    def logits(self, h: np.ndarray) -> np.ndarray:
        """The head: logits (M, V) of the next token, for outputs of the last layer h (M, H), such as state.h[-1]."""
        c, y = self.config, np.empty((len(h), self.config.vocab_size), self.config.dtype)
        work = self.kernels.linear_work(len(h), c.hidden_size, c.vocab_size, c.dtype, self.threads)
        self.kernels.linear_forward(y, work, h, self.weights["head.weight"], self.weights["head.bias"], self.threads)
        return y


def distinct_tokens(tokens: np.ndarray, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """(distinct ids in rising order, index (M,) int32 with distinct[index] == tokens), as np.unique but O(V + M)."""
    place = np.zeros(vocab_size, np.int32)
    place[tokens] = 1
    distinct = np.flatnonzero(place)
    place[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, place[tokens]


def dropout_key(seed: int, step: int, site: int) -> int:
    """64 bits for (seed, step, site): SplitMix64 (Steele, Lea & Flood 2014) over the three numbers."""
    bits = 0
    for number in (seed, step, site):
        bits = (bits + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        bits ^= bits >> 31
    return bits
