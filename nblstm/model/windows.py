"""WindowNetwork: a window of tokens -> dense layer with relu -> softmax head, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config import WindowConfig
from nblstm.model.network import Network, Pass
from nblstm.model.noise import LAYER, Noise
from nblstm.model.parameters import views
from nblstm.model.state import State
from nblstm.model.workspace import Workspace


def initial_windows(config: WindowConfig, seed: int) -> np.ndarray:
    """Fresh parameters (num_parameters,) in config.dtype.

    Dense layer: uniform, variance 2 / the inputs that are not zero (He et al. 2015, eq. 10); head: uniform in
    +-1/sqrt(H), embedding: normal (PyTorch's rules); biases zero.
    """
    flat = np.zeros(config.num_parameters, config.dtype)
    random = np.random.default_rng([seed, 0])
    bounds = {
        "window.weight": (6 / config.window) ** 0.5,
        "dense.weight": (6 / (config.window * max(1, config.embedding_size))) ** 0.5,
        "head.weight": config.hidden_size**-0.5,
    }
    for name, array in views(flat, config).items():
        if name == "embedding.weight":
            array[...] = random.normal(0, 1, array.shape)
        elif name in bounds:
            array[...] = random.uniform(-bounds[name], bounds[name], array.shape)
    return flat


class WindowNetwork(Network):
    """A language model that sees the last n tokens: the article's section 4.1, after Bengio et al. 2003.

        z = W x + b,  h = max(0, z),  logits = W_hy h + b_y

    x: the tokens of a window side by side, one-hot (n V) or embedded (n E). Chunks are those of `nblstm.text.windows`:
    their tokens are windows (M, n). Everything else is as in `Network`.
    """

    config: WindowConfig

    def initial_state(self, num_texts: int = 1) -> State:
        """Nothing is remembered of a text."""
        c = self.config
        return State(*(np.zeros(shape, c.dtype) for shape in ((0, num_texts, 0), (0, num_texts, 0), (num_texts, 0))))

    def window_logits(self, tokens: np.ndarray) -> np.ndarray:
        """Logits (M, V) of the token that follows each window, tokens (M, n) int."""
        tokens = self._checked_windows(tokens)
        with checks.quiet(), self._spaces.lend() as space:
            return self.logits(self._hidden(space, tokens))

    def window_losses(self, tokens: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """-log p of the token that follows each window, (M,) in nats; tokens (M, n), targets (M,) int."""
        targets = checks.ids("targets", targets, self.config.vocab_size, (len(tokens),), np.int32)
        tokens = self._checked_windows(tokens)
        with checks.quiet(), self._spaces.lend() as space:
            return self._losses(space, self._hidden(space, tokens), targets)

    def _checked_windows(self, tokens: np.ndarray) -> np.ndarray:
        """Windows (M, n) as the kernels read them. ConfigError if they hold what is no id."""
        c = self.config
        return checks.ids("windows", tokens, c.vocab_size, (len(tokens), c.window), np.int32)

    def _checked_rows(self, chunk: Any) -> tuple[np.ndarray, np.ndarray]:
        targets = checks.ids("chunk.targets", chunk.targets, self.config.vocab_size, (len(chunk.tokens),), np.int32)
        return self._checked_windows(chunk.tokens), targets

    def _checked_state(self, state: State, num_texts: int) -> State:
        return state  # which holds nothing

    def _forward(self, space: Workspace, purpose: str, chunk: Any, state: State, noise: Noise | None) -> Pass:
        """Read the windows of a chunk; in training some of the dense layer's outputs are dropped."""
        run = Pass(space, chunk.tokens, chunk.offsets, state, state, [], [], noise, None)
        h = run.top = self._hidden(space, chunk.tokens)
        run.outputs = [h]
        if noise is not None and self.config.dropout > 0:
            run.top = space.array("dropped", *h.shape)
            noise.drop(run.top, h, self.config.dropout, LAYER)
        return run

    def _backward(self, run: Pass, grads: dict[str, np.ndarray], dtop: np.ndarray, fresh: bool) -> None:
        """Gradients of all parameters but the head's, from dtop (M, H), which is overwritten."""
        (h,) = run.outputs
        if self.config.dropout > 0:
            run.noise.drop(dtop, dtop, self.config.dropout, LAYER)
        dtop *= h > 0  # h = max(0, z)
        if self.config.embedding_size:
            self._embedded_backward(run.space, grads, dtop, run.tokens)
        else:
            self._one_hot_backward(run.space, grads, dtop, run.tokens)

    def _hidden(self, space: Workspace, tokens: np.ndarray) -> np.ndarray:
        """h (M, H) of windows (M, n)."""
        z = space.array("z", len(tokens), self.config.hidden_size)
        if self.config.embedding_size:
            self._embedded(space, z, tokens)
        else:
            self._one_hot(space, z, tokens)
        return np.maximum(z, 0, out=z)

    # ------------------------------------------------------------ the dense layer on one-hot tokens

    def _rows(self, tokens: np.ndarray) -> np.ndarray:
        """Which rows of window.weight the ones of x meet, (M n,)."""
        return (tokens + self.config.vocab_size * np.arange(self.config.window, dtype=np.int32)).reshape(-1)

    def _one_hot(self, space: Workspace, z: np.ndarray, tokens: np.ndarray) -> None:
        """z = W x + b, where a product with ones and zeros is a sum of rows."""
        M, n = tokens.shape
        met = space.array("met", M * n, self.config.hidden_size)
        self.kernels.embedding_forward(met, self._rows(tokens), self.weights["window.weight"], self.threads)
        np.sum(met.reshape(M, n, -1), axis=1, out=z)
        z += self.weights["dense.bias"]

    def _one_hot_backward(self, space: Workspace, grads, dz: np.ndarray, tokens: np.ndarray) -> None:
        """Gradients from dz (M, H)."""
        M, n = tokens.shape
        dmet = space.array("met", M * n, self.config.hidden_size)
        dmet.reshape(M, n, -1)[...] = dz[:, None]  # z = the sum of n rows
        self.kernels.embedding_backward(grads["window.weight"], dmet, self._rows(tokens), self.threads)
        grads["dense.bias"] += dz.sum(axis=0)  # z = ... + b

    # ------------------------------------------------------------ the dense layer on embedded tokens

    def _embedded(self, space: Workspace, z: np.ndarray, tokens: np.ndarray) -> None:
        """z = W x + b."""
        x = space.array("x", tokens.size, self.config.embedding_size)
        self.kernels.embedding_forward(x, tokens.reshape(-1), self.weights["embedding.weight"], self.threads)
        work, x = self._dense_work(space, len(tokens)), x.reshape(len(tokens), -1)
        self.kernels.linear_forward(z, work, x, self.weights["dense.weight"], self.weights["dense.bias"], self.threads)

    def _embedded_backward(self, space: Workspace, grads, dz: np.ndarray, tokens: np.ndarray) -> None:
        """Gradients from dz (M, H); x is still what `_embedded` made of these tokens."""
        M, E = len(tokens), self.config.embedding_size
        x, dx = (space.array(name, tokens.size, E) for name in ("x", "dx"))
        self.kernels.linear_backward(
            dx.reshape(M, -1), grads["dense.weight"], grads["dense.bias"], dz, self._dense_work(space, M), x.reshape(M, -1),
            self.weights["dense.weight"], self.threads,
        )  # fmt: skip
        self.kernels.embedding_backward(grads["embedding.weight"], dx, tokens.reshape(-1), self.threads)

    def _dense_work(self, space: Workspace, rows: int) -> Any:
        """The work of the dense layer's kernels."""
        c, make = self.config, self.kernels.linear_work
        inputs = c.window * c.embedding_size
        return space.work("dense", lambda M: make(M, inputs, c.hidden_size, c.dtype, self.threads), rows)
