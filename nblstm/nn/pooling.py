"""PooledStack: a recurrent stack whose outputs are pooled, so that each text is one vector, whatever its length.

Of a text whose last layer says h_1 .. h_T, in one direction or both:

    last       p = h_T; in both directions each one's last state: h_T of the first, h_1 of the second
    mean       p = (h_1 + .. + h_T) / T
    max        p = max over t of h_t, number by number
    attention  p = sum over t of a_t h_t,  a = softmax(s),  s_t = q . tanh(W h_t + b)    (Yang et al. 2016, eqs. 5 to 7)

Rows are packed (`nblstm.kernels.packed`), so nothing is padded and nothing is masked. A text's sums run over its steps in
their order, whatever stands beside it in the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nblstm.kernels.cells.functions import noticed
from nblstm.kernels.packed import last_rows, lengths, texts_of_rows
from nblstm.nn.noise import LAYER
from nblstm.nn.parameters import Gradients
from nblstm.nn.stack import RecurrentStack, StateGradient
from nblstm.nn.state import State
from nblstm.nn.tape import Inputs, Tape


def fold(ufunc: np.ufunc, start: float, rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return ufunc(.. ufunc(start, row of step 0) .., row of the last step) of each text: (N, ...) from rows (M, ...)."""
    folded = np.full((int(offsets[1]), *rows.shape[1:]), start, rows.dtype)
    for first, last in zip(offsets[:-1], offsets[1:]):
        some = folded[: last - first]
        ufunc(some, rows[first:last], out=some)
    return folded


class Pooling(ABC):
    """Makes a vector (F,) of each text's rows; a part of a body, made of (config, weights by name)."""

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config, self.weights = config, weights

    @abstractmethod
    def forward(self, tape: Tape, features: np.ndarray) -> np.ndarray:
        """Return p (N, F) of features (M, F); leave what `backward` needs in tape.pooling_kept."""

    @abstractmethod
    def backward(self, tape: Tape, grads: Gradients, d: np.ndarray) -> np.ndarray:
        """Return the gradient of the features (M, F) from that of p (N, F); add those of the pooling's parameters."""


class LastPooling(Pooling):
    """The last state of each direction."""

    def _places(self, offsets: np.ndarray) -> list[tuple[np.ndarray, slice]]:
        """Return (the row of each text, the columns) of every direction."""
        size = self.config.output_size // self.config.directions
        rows = [last_rows(offsets), np.arange(offsets[1])][: self.config.directions]
        return [(row, slice(k * size, (k + 1) * size)) for k, row in enumerate(rows)]

    def forward(self, tape: Tape, features: np.ndarray) -> np.ndarray:
        """Return h_T, and h_1 of the direction that reads from the end."""
        return np.concatenate([features[rows, columns] for rows, columns in self._places(tape.offsets)], axis=1)

    def backward(self, tape: Tape, grads: Gradients, d: np.ndarray) -> np.ndarray:
        """Return d at the rows that were taken, 0 elsewhere."""
        dfeatures = np.zeros((int(tape.offsets[-1]), d.shape[1]), d.dtype)
        for rows, columns in self._places(tape.offsets):
            dfeatures[rows, columns] = d[:, columns]
        return dfeatures


class MeanPooling(Pooling):
    """The mean over a text's steps."""

    def forward(self, tape: Tape, features: np.ndarray) -> np.ndarray:
        """Return the sum over T, divided by T."""
        return fold(np.add, 0.0, features, tape.offsets) / self._lengths(tape, features.dtype)

    def backward(self, tape: Tape, grads: Gradients, d: np.ndarray) -> np.ndarray:
        """Return d / T at every step."""
        return (d / self._lengths(tape, d.dtype))[texts_of_rows(tape.offsets)]

    @staticmethod
    def _lengths(tape: Tape, dtype: np.dtype) -> np.ndarray:
        """Return T of each text, (N, 1)."""
        return lengths(tape.offsets)[:, None].astype(dtype)


class MaxPooling(Pooling):
    """The largest of every number over a text's steps, the first of equal ones."""

    def forward(self, tape: Tape, features: np.ndarray) -> np.ndarray:
        """Return the maxima; keep the row (N, F) that each came from."""
        offsets, features = tape.offsets, noticed(features)
        largest = features[: offsets[1]].copy()
        F = features.shape[1]
        places = np.repeat(np.arange(offsets[1])[:, None], F, axis=1)
        for first, last in zip(offsets[1:-1], offsets[2:]):
            rows, count = features[first:last], last - first
            larger = (rows > largest[:count]) | np.isnan(rows)  # which stays
            np.copyto(largest[:count], rows, where=larger)
            np.copyto(places[:count], np.arange(first, last)[:, None], where=larger)
        tape.pooling_kept = places
        return largest

    def backward(self, tape: Tape, grads: Gradients, d: np.ndarray) -> np.ndarray:
        """Return d where the maxima were, 0 elsewhere."""
        dfeatures = np.zeros((int(tape.offsets[-1]), d.shape[1]), d.dtype)
        np.put_along_axis(dfeatures, tape.pooling_kept, d, axis=0)  # a place of a column belongs to one text
        return dfeatures


class _Attended(NamedTuple):
    """Arrays that an attention keeps of a pass."""

    features: np.ndarray  # h (M, F)
    hidden: np.ndarray  # u = tanh(W h + b), (M, F)
    attention: np.ndarray  # a (M,)


class AttentionPooling(Pooling):
    """A weighted mean: how much each step counts is learned. q begins at 0, where all steps count alike."""

    def forward(self, tape: Tape, features: np.ndarray) -> np.ndarray:
        """Return sum of a_t h_t."""
        weights, (kernels, threads, _, _), offsets = self.weights, tape.backend, tape.offsets
        u = tape.scratch.array("attention hidden", *features.shape)
        work = self._work(tape, len(features))
        kernels.linear_forward(u, work, features, weights["pooling.weight"], weights["pooling.bias"], threads)
        np.tanh(noticed(u), out=u)
        texts, s = texts_of_rows(offsets), noticed(u @ weights["pooling.query"])
        # a = exp(s - max s) / sum exp(s - max s)
        a = np.exp(s - fold(np.maximum, -np.inf, s, offsets)[texts])
        a /= fold(np.add, 0.0, a, offsets)[texts]
        tape.pooling_kept = _Attended(features, u, a)
        return fold(np.add, 0.0, a[:, None] * features, offsets)

    def backward(self, tape: Tape, grads: Gradients, d: np.ndarray) -> np.ndarray:
        """Return a_t d + the gradient through the scores; add those of W, b and q."""
        (h, u, a), weights = tape.pooling_kept, self.weights
        kernels, threads, _, _ = tape.backend
        texts = texts_of_rows(tape.offsets)
        d = d[texts]
        # da_t = d . h_t,  ds_t = a_t (da_t - sum_k a_k da_k)
        da = np.einsum("mf,mf->m", d, h)
        ds = a * (da - fold(np.add, 0.0, a * da, tape.offsets)[texts])
        grads["pooling.query"][...] += ds @ u
        dz = ds[:, None] * weights["pooling.query"] * (1 - u * u)  # tanh' = 1 - u^2
        dfeatures = np.empty_like(d)
        kernels.linear_backward(
            dfeatures, grads["pooling.weight"], grads["pooling.bias"], dz, self._work(tape, len(h)), h,
            weights["pooling.weight"], threads,
        )  # fmt: skip
        dfeatures += a[:, None] * d
        return dfeatures

    def _work(self, tape: Tape, rows: int) -> Any:
        """Return the kernels' work of the product."""
        F, (kernels, threads, dtype, _) = self.config.head_size, tape.backend
        return tape.scratch.work("attention", lambda M: kernels.linear_work(M, F, F, dtype, threads), rows)


POOLINGS: dict[str, type[Pooling]] = {
    "last": LastPooling,
    "mean": MeanPooling,
    "max": MaxPooling,
    "attention": AttentionPooling,
}


def pooling_shapes(pooling: str, size: int) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the parameters of a pooling of `size` numbers."""
    if pooling != "attention":
        return {}
    return {"pooling.weight": (size, size), "pooling.bias": (size,), "pooling.query": (size,)}


class PooledStack(RecurrentStack):
    """A body that hands one vector a text to the head: a stack, its pooling, dropout.

    config: as the stack's, with a head "linear"; pooling, of POOLINGS; output_dropout, which is that of p.
    """

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__(config, weights)
        self.pooling: Pooling = POOLINGS[config.pooling](config, weights)

    def forward(self, tape: Tape, inputs: Inputs, state: State) -> State:
        """Read a batch of N whole texts: put p (N, F) on the tape, and return the state after it."""
        after = super().forward(tape, inputs, state)
        pooled = self.pooling.forward(tape, tape.features)
        tape.features = tape.dropped(pooled, self.config.output_dropout, 0.0, self._site)
        return after

    def backward(
        self, tape: Tape, grads: Gradients, dfeatures: np.ndarray, fresh: bool, dlast: StateGradient | None = None
    ) -> tuple[np.ndarray, StateGradient]:
        """Add the gradients of pooling and stack from that of p (N, F), overwritten; return those of x and first state."""
        d = tape.dropped(dfeatures, self.config.output_dropout, 0.0, self._site, into=dfeatures)
        return super().backward(tape, grads, self.pooling.backward(tape, grads, d), fresh, dlast)

    @property
    def _site(self) -> int:
        """Return where the noise of p is drawn: behind the last layer."""
        return LAYER + self.config.num_layers
