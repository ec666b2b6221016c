"""AdaptiveDecoder: decodes a network with an adaptive head, and looks into its clusters only where a token may be.

The kernels read a token and compute the head's first layer: the shortlist, and the probability of each cluster.

- A token that is drawn from the model's own distribution takes one number: it is found in the shortlist or in a cluster,
  and there the same number, stretched, finds it again. As clusters follow each other as their tokens do, it is the token
  that the number finds in the distribution of all.
- Where the k most likely tokens are drawn from, or a search takes the best, a cluster that is less likely than the k-th
  token so far has none of them.
- Otherwise the log-probabilities of all tokens are computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nblstm.kernels import Beam, DecoderState, Filters, History, Hypotheses, reference
from nblstm.kernels.reference.searching import search_by
from nblstm.nn.adaptive import AdaptiveHead
from nblstm.nn.decoder import Decoder

if TYPE_CHECKING:
    from nblstm.nn.network import Network

NO_IDS = np.zeros(0, np.int64)


class AdaptiveDecoder(Decoder):
    """A decoder whose logits are log-probabilities, of an adaptive head; see the module."""

    def __init__(
        self, network: Network, weights: Any, num_texts: int, bias: np.ndarray | None, temperature: float
    ) -> None:
        """bias (V,), temperature: what is added to log-probabilities, and what they are divided by then."""
        super().__init__(network, weights, num_texts)
        assert isinstance(network.head, AdaptiveHead)
        self.head, self.bias, self.temperature = network.head, bias, temperature

    def _decode(self, at: DecoderState, tokens: np.ndarray, wanted: int = 0) -> None:
        top = self._read(at, tokens, len(at.logits))
        if len(at.logits):
            self._fill(at, top, wanted)

    def _read(self, at: DecoderState, tokens: np.ndarray, rows: int) -> np.ndarray:
        """Read tokens (N,): the outputs of the first layer (rows, K + clusters), rows being N or 0."""
        top = np.empty((rows, len(self.head.bias)), self.config.dtype)
        self.kernels.decode(at._replace(logits=top), tokens, self.work, self.threads)
        return top

    def _fill(self, at: DecoderState, top: np.ndarray, wanted: int = 0) -> None:
        """Write what stands for logits (N, V); wanted: see `AdaptiveHead.log_probabilities`."""
        self.head.log_probabilities(at.logits, top, at.features, wanted)
        if self.bias is not None:
            np.add(at.logits, self.bias, out=at.logits, casting="same_kind")
        if self.temperature != 1:
            np.divide(at.logits, at.logits.dtype.type(self.temperature), out=at.logits)

    def _wanted(self, count: int, banned: np.ndarray) -> int:
        """Tell how many of the most likely tokens must be right for `count` that are not banned; 0 for all."""
        of_model = self.bias is None and self.temperature == 1  # then a cluster's probability is that of its tokens
        return count + len(banned) if count and of_model and bool((banned < self.head.shortlist).all()) else 0

    # ------------------------------------------------------------ drawing

    def _generate(
        self, history: np.ndarray, length: int, at: DecoderState, uniform: np.ndarray, banned: np.ndarray,
        filters: Filters,
    ) -> None:  # fmt: skip
        walks = filters._replace(repetition_window=0) == Filters() and self._wanted(1, banned) > 0
        wanted = 0 if filters.repeats else self._wanted(1 if filters.temperature == 0 else filters.top_k, banned)
        top, drawn = self._top(at.features), np.empty(len(at.features), np.int64)
        for k, numbers in enumerate(uniform, length):
            if walks:
                self._walk(drawn, top, at.features, numbers, banned)
            else:
                self.kernels.draw(drawn, at.logits, numbers, history[:, :k], banned, filters, self.threads)
            history[:, k] = drawn
            top = self._read(at, np.maximum(drawn, 0), len(drawn))
            if not walks:
                self._fill(at, top, wanted)
        if walks or wanted:
            self._fill(at, top)

    def _top(self, features: np.ndarray) -> np.ndarray:
        """Return the outputs of the first layer (N, K + clusters) for features (N, F)."""
        top = np.empty((len(features), len(self.head.bias)), self.config.dtype)
        reference.linear_forward(top, (), features, self.head.weight, self.head.bias, 1)
        return top

    def _walk(self, drawn: np.ndarray, top: np.ndarray, x: np.ndarray, uniform: np.ndarray, banned: np.ndarray) -> None:
        """Draw a token of each text (N,): -1 where there is no distribution. See `kernels.reference.draw`, step 8."""
        z = top.astype(np.float64)
        z[:, banned] = -np.inf
        most = z.max(axis=1, keepdims=True)
        weights = np.exp(z - most)
        cumulative = np.add.accumulate(weights, axis=1)
        total = cumulative[:, -1]
        goal = np.minimum(uniform * total, np.nextafter(total, 0))
        places = (cumulative <= goal[:, None]).sum(axis=1)
        drawn[...] = np.where(np.isfinite(total) & np.isfinite(most[:, 0]), places, -1)
        for cluster in self.head.clusters:
            place = self.head.shortlist + cluster.number
            rows = np.flatnonzero((places == place) & (drawn >= 0))
            if len(rows):
                before = cumulative[rows, place] - weights[rows, place]
                rest = np.clip((goal[rows] - before) / weights[rows, place], 0, np.nextafter(1, 0))
                inside = np.empty(len(rows), np.int64)
                logits, no_history = cluster.logits(x[rows]), np.zeros((len(rows), 0), np.int64)
                reference.draw(inside, logits, rest, no_history, NO_IDS, Filters(), 1)
                drawn[rows] = np.where(inside < 0, -1, cluster.start + inside)

    # ------------------------------------------------------------ searching

    def _search(
        self, history: History, hypotheses: Hypotheses, at: DecoderState, noise: np.ndarray, banned: np.ndarray,
        beam: Beam,
    ) -> int:  # fmt: skip
        # the best B of all slots are among the best B of each, also where a token costs more: for each group that has
        # taken tokens before, there are as many slots fewer that take others
        wanted = 0 if beam.stochastic else self._wanted(len(hypotheses.length), banned)
        decode = lambda at, tokens, work, threads: self._decode(at, tokens, wanted)
        return search_by(decode, history, hypotheses, at, noise, banned, beam, self.work, self.threads)
