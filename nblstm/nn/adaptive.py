"""AdaptiveHead: a softmax over a large vocabulary in clusters, exactly normalised (Grave et al. 2017).

The tokens stand by falling frequency. The first K, the shortlist, and one logit for each cluster of others are the
outputs of a linear layer; a token of cluster i is likely as its cluster is, times its share of that (eq. 12):

    p(v | x) = softmax(W x + b)[v]                                           v < K
    p(v | x) = softmax(W x + b)[K + i] softmax(W_i P_i x)[v - start_i]       v in cluster i

P_i (F_i, F) makes x shorter, F_i = F // SHRINK^(i + 1), and neither it nor W_i has a bias. These are the conventions and
the names of torch.nn.AdaptiveLogSoftmaxWithLoss with head_bias=True. A row's loss takes the products of the shortlist
and of one cluster at most: rows are grouped by the cluster of their target. All is made of the kernels of a linear
layer and of a softmax, whichever backend has them; those of `kernels.reference` are its specification.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from nblstm.kernels import CrossEntropy
from nblstm.kernels.reference.head import linear_forward, log_softmax
from nblstm.nn.heads import SoftmaxHead
from nblstm.nn.linear import Linear
from nblstm.nn.parameters import Gradients
from nblstm.nn.tape import Tape
from nblstm.nn.workspace import Workspace

ROUND = 256  # rows: the scratch of a cluster holds a multiple, as every batch has another number


SHARED_CLUSTER = 1_000_000  # multiplications of a cluster, from which on threads share them: 50 microseconds
EXPONENTIAL = 20  # multiplications that a logit costs beside its own


class Cluster(NamedTuple):
    """The tokens start ... stop of a vocabulary."""

    number: int
    start: int
    stop: int
    projection: Linear  # P: (F_i, F)
    vectors: Linear  # W: (V_i, F_i)

    @property
    def work(self) -> int:
        """How many multiplications a row costs."""
        return self.projection.weight.size + self.vectors.weight.size + EXPONENTIAL * len(self.vectors.weight)

    @property
    def span(self) -> slice:
        """Where its tokens stand."""
        return slice(self.start, self.stop)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Return W P x (M, V_i) of x (M, F), an array of its own: by NumPy, as nothing is packed for a few rows."""
        for layer in (self.projection, self.vectors):
            y = np.empty((len(x), len(layer.weight)), x.dtype)
            linear_forward(y, (), x, layer.weight, layer.bias, 1)
            x = y
        return x


class AdaptiveHead(SoftmaxHead):
    """-log p(target), in nats, as the module says. classes as in `SoftmaxHead`; there is no label smoothing."""

    in_clusters = True

    def __init__(self, config: Any, weights: Mapping[str, np.ndarray]) -> None:
        self.config, self.classes, self.smoothing = config, None, 0.0
        self.top = Linear(weights, "head.head")
        self.weight, self.bias = self.top.weight, self.top.bias
        _, self.shortlist, *ends = config.edges
        self.clusters = [
            Cluster(i, *edges, Linear(weights, f"head.tail.{i}.0"), Linear(weights, f"head.tail.{i}.1"))
            for i, edges in enumerate(zip((self.shortlist, *ends), ends))
        ]

    # ------------------------------------------------------------ all tokens

    def outputs(self, scratch: Workspace, x: np.ndarray) -> np.ndarray:
        """Return log p (M, V) of every token, an array of its own."""
        y = np.empty((len(x), self.config.num_outputs), self.config.dtype)
        self.log_probabilities(y, self.top.forward(scratch, x), x)
        return y

    def log_probabilities(self, y: np.ndarray, top: np.ndarray, x: np.ndarray, wanted: int = 0) -> None:
        """Write log p (M, V) of every token of x (M, F) to y. top (M, K + clusters): the outputs of the first layer.

        wanted: how many of each row's largest must be right, where others need not be: a cluster that is less likely
        than all of these is not looked into, and its tokens share its probability. 0: all are right.
        """
        log_top = log_softmax(top)
        y[:, : self.shortlist] = log_top[:, : self.shortlist]
        for cluster in self.clusters:
            start, mass, inside = cluster.start, log_top[:, self.shortlist + cluster.number, None], y[:, cluster.span]
            inside[...] = mass - y.dtype.type(math.log(inside.shape[1]))
            rows = np.arange(len(x))
            if 0 < wanted <= start:
                rows = np.flatnonzero(
                    mass[:, 0] >= np.partition(y[:, :start], start - wanted, axis=1)[:, start - wanted]
                )
            if len(rows):
                inside[rows] = log_softmax(cluster.logits(x[rows])) + mass[rows]

    # ------------------------------------------------------------ losses

    def losses(self, tape: Tape, targets: np.ndarray) -> np.ndarray:
        """Return -log p(target) (M,)."""
        x, scratch, (kernels, threads, dtype, _) = tape.features, tape.scratch, tape.backend
        losses, work = np.empty(len(x), dtype), self._softmax_work(scratch, kernels.softmax_work, self.top, len(x))
        kernels.softmax_losses(losses, work, x, self._top_targets(targets), self.top.weight, self.top.bias, threads)
        for rows, inputs, cluster, room in self._by_cluster(scratch, x, targets):
            h, layer = cluster.projection.forward(room, inputs), cluster.vectors
            work = self._softmax_work(room, kernels.softmax_work, layer, len(rows))
            inside, own = room.array("inside", len(rows)), targets[rows] - cluster.start
            kernels.softmax_losses(inside, work, h, own, layer.weight, layer.bias, room.backend.threads)
            losses[rows] += inside
        return losses

    def _losses_and_gradient(self, scratch: Workspace, losses, dx, grads: Gradients, x, targets, scales) -> None:
        if self.classes is not None:
            scales = scales * self.classes[targets]
        self._softmax(scratch, losses, dx, grads, self.top, x, self._top_targets(targets), scales)
        for rows, inputs, cluster, room in self._by_cluster(scratch, x, targets):
            h = cluster.projection.forward(room, inputs)
            inside, dh = room.array("inside", len(rows)), room.array("dh", *h.shape)
            self._softmax(room, inside, dh, grads, cluster.vectors, h, targets[rows] - cluster.start, scales[rows])
            losses[rows] += inside  # log p = log p(cluster) + log p(token in it)
            dx[rows] += cluster.projection.backward(room, grads, dh, inputs)
        if self.classes is not None:
            losses *= self.classes[targets]

    def _softmax(self, scratch: Workspace, losses, dx, grads: Gradients, layer: Linear, x, targets, scales) -> None:
        """Overwrite losses and dx, and add the gradients of a layer behind which is a softmax."""
        kernels, threads, _, _ = scratch.backend
        work = self._softmax_work(scratch, kernels.softmax_gradient_work, layer, len(x))
        dbias = grads[f"{layer.name}.bias"] if layer.is_biased else np.zeros_like(layer.bias)
        kernels.softmax_losses_and_gradient(
            losses, dx, grads[f"{layer.name}.weight"], dbias, work, x, CrossEntropy(targets, scales), layer.weight,
            layer.bias, threads,
        )  # fmt: skip

    def _softmax_work(self, scratch: Workspace, kernel: Any, layer: Linear, rows: int) -> Any:
        """Return the work of one of the softmax's kernels for a layer."""
        (V, D), (_, threads, dtype, _) = layer.weight.shape, scratch.backend
        room = -(-rows // ROUND) * ROUND
        return scratch.work(f"{kernel.__name__} {layer.name}", lambda M: kernel(M, D, V, dtype, threads), room)

    def _top_targets(self, targets: np.ndarray) -> np.ndarray:
        """Return what the first layer should predict: a token of the shortlist, or K + i."""
        clusters = np.searchsorted([cluster.start for cluster in self.clusters], targets, side="right")
        return np.where(clusters > 0, self.shortlist + clusters - 1, targets).astype(np.int32)

    def _by_cluster(
        self, scratch: Workspace, x: np.ndarray, targets: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, Cluster, Workspace]]:
        """Yield what there is of each cluster that has targets: rows (R,), their x (R, F), itself, and the scratch for it.

        The scratch of little work has one thread: to share it takes longer than to do it.
        """
        kernels, threads, _, _ = scratch.backend
        alone = scratch.work("alone", lambda: Workspace(scratch.backend._replace(threads=1)))
        for cluster in self.clusters:
            rows = np.flatnonzero((cluster.start <= targets) & (targets < cluster.stop))
            if len(rows):
                own = alone if len(rows) * cluster.work < SHARED_CLUSTER else scratch
                inputs = own.array("x of a cluster", len(rows), x.shape[1])
                kernels.embedding_forward(inputs, rows, x, threads)
                yield rows, inputs, cluster, own
