"""Attention: a decoder's steps look at those of their source.

Of a decoder's output h_t and the outputs s_1 .. s_J of the encoder:

    a_t = softmax over j of score(h_t, s_j)        c_t = sum over j of a_tj s_j        h~_t = tanh(W_c [c_t; h_t])

    dot        score(h, s) = h . s                              (Luong et al. 2015, eq. 8)
    general    score(h, s) = h . W s                            (ibid.)
    additive   score(h, s) = v . tanh(W_q h + W_k s + b)        (Bahdanau et al. 2015, appendix A.1.2)

h~ (Luong et al. 2015, eq. 5) takes the place of h before the head. All steps of all texts are computed at once, text by
text, so nothing is padded and nothing is masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nblstm.kernels import Alignment, Attended
from nblstm.kernels.cells.functions import noticed
from nblstm.nn.linear import Linear, linear_shapes
from nblstm.nn.parameters import Gradients
from nblstm.nn.workspace import Workspace

SCORES = ("general", "dot", "additive")


class Memory(NamedTuple):
    """What a decoder looks at: the rows of its sources, source after source."""

    values: np.ndarray  # s (S, F)
    keys: np.ndarray  # (S, A)
    starts: np.ndarray  # (N + 1,) int64: where each source begins

    def first(self, texts: int) -> Memory:
        """Return that of the first so many texts, a view."""
        rows = int(self.starts[texts])
        return Memory(self.values[:rows], self.keys[:rows], self.starts[: texts + 1])


class Looked(NamedTuple):
    """Arrays that an attention keeps of a pass. Its queries stand text after text, all else in the decoder's order."""

    inputs: Attended
    alignment: Alignment
    rows: np.ndarray | None  # (M,) the decoder's row of each query; None: they stand text after text
    h: np.ndarray  # (M, H)
    joined: np.ndarray  # [c; h] (M, F + H)
    attentional: np.ndarray  # h~ (M, H)
    weights: np.ndarray  # a, flat, text after text


def attention_shapes(kind: str, size: int, memory_size: int) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the parameters. size: of the decoder's outputs, memory_size: of the encoder's."""
    scores: dict[str, tuple[int, ...]] = {}
    if kind == "general":
        scores = linear_shapes("key", size, memory_size, bias=False)
    elif kind == "additive":
        scores = {
            **linear_shapes("key", size, memory_size, bias=False),
            **linear_shapes("query", size, size),
            "vector": (size,),
        }
    return {**scores, **linear_shapes("combine", size, memory_size + size, bias=False)}


class Attention:
    """Attention of one of SCORES, made of (its kind, weights by the names of `attention_shapes`)."""

    def __init__(self, kind: str, weights: Mapping[str, np.ndarray]) -> None:
        self.kind, self.weights = kind, weights
        self.key = None if kind == "dot" else Linear(weights, "key")
        self.query = Linear(weights, "query") if kind == "additive" else None
        self.combine = Linear(weights, "combine")

    # ------------------------------------------------------------ the sources

    def memory(self, scratch: Workspace, values: np.ndarray, starts: np.ndarray) -> Memory:
        """Make what the decoder looks at of the encoder's outputs, source after source."""
        keys = values if self.key is None else self.key.forward(scratch, values)
        return Memory(values, keys, starts)

    def memory_backward(
        self, scratch: Workspace, grads: Gradients, memory: Memory, dvalues: np.ndarray, dkeys: np.ndarray
    ) -> np.ndarray:
        """Return the gradient of the encoder's outputs, dvalues itself; add that of the keys' weight."""
        dvalues += dkeys if self.key is None else self.key.backward(scratch, grads, dkeys, memory.values)
        return dvalues

    # ------------------------------------------------------------ the steps

    def forward(
        self, scratch: Workspace, h: np.ndarray, memory: Memory, queries: np.ndarray, rows: np.ndarray | None = None
    ) -> Looked:
        """Return h~ (M, H) of the decoder's outputs h (M, H), and what `backward` needs.

        queries (N + 1,): where the queries of each source begin; rows (M,): the row of h of each, None where these stand
        so already.
        """
        kernels, threads, _, _ = scratch.backend
        (M, H), F = h.shape, memory.values.shape[1]
        alignment = Alignment.of(queries, memory.starts)
        z = h if self.query is None else self.query.forward(scratch, h)
        query = z if rows is None else self._gathered(scratch, "queries", z, rows)
        inputs = Attended(query, memory.keys, memory.values, self.weights.get("vector"))
        context, weights = scratch.array("context", M, F), scratch.array("attention", int(alignment.cells[-1]))
        kernels.attention_forward(context, weights, self._work(scratch, inputs, alignment), inputs, alignment, threads)
        joined = scratch.array("joined", M, F + H)
        joined[_all(rows), :F], joined[:, F:] = context, h
        attentional = self.combine.forward(scratch, joined)
        np.tanh(noticed(attentional), out=attentional)
        return Looked(inputs, alignment, rows, h, joined, attentional, weights)

    def backward(
        self, scratch: Workspace, grads: Gradients, looked: Looked, d: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the gradients of h (M, H), of the values (S, F) and of the keys (S, A) from that of h~, overwritten."""
        kernels, threads, _, _ = scratch.backend
        inputs, alignment, rows, h, joined, attentional, weights = looked
        F = inputs.value.shape[1]
        d *= 1 - attentional * attentional  # tanh' = 1 - tanh^2
        djoined = self.combine.backward(scratch, grads, d, joined)
        dcontext = np.ascontiguousarray(djoined[_all(rows), :F])
        dquery, dkeys, dvalues = (
            scratch.array(f"d{name}", *x.shape) for name, x in zip(("queries", "keys", "values"), inputs[:3])
        )
        kernels.attention_backward(
            dquery, dkeys, dvalues, grads.get("vector"), dcontext, weights, self._work(scratch, inputs, alignment),
            inputs, alignment, threads,
        )  # fmt: skip
        dh = np.ascontiguousarray(djoined[:, F:])
        dz = dquery if rows is None else np.empty_like(dquery)
        dz[_all(rows)] = dquery
        dh += dz if self.query is None else self.query.backward(scratch, grads, dz, h)
        return dh, dvalues, dkeys

    @staticmethod
    def _gathered(scratch: Workspace, name: str, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return x[rows]."""
        y = scratch.array(name, *x.shape)
        scratch.backend.kernels.embedding_forward(y, rows, x, scratch.backend.threads)
        return y

    @staticmethod
    def _work(scratch: Workspace, inputs: Attended, alignment: Alignment) -> Any:
        """Return the kernels' work."""
        kernels, threads, dtype, _ = scratch.backend
        sizes = inputs.key.shape[1], inputs.value.shape[1]
        make = lambda T, S, N: kernels.attention_work(T, S, sizes, N, dtype, threads)
        longest = [int(np.diff(starts).max()) for starts in alignment[:2]]
        return scratch.work("attention", make, *longest, len(alignment.keys) - 1)


def _all(rows: np.ndarray | None) -> Any:
    """Return the index of those rows; None: of all."""
    return slice(None) if rows is None else rows
