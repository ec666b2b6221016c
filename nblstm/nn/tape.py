"""Tape: one pass through a network. Its parts share it, and leave on it what their backward pass needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nblstm.nn.noise import TEXT, Noise
from nblstm.nn.workspace import Backend, Workspace


class Inputs(NamedTuple):
    """The inputs of a body: row m of the batch is x[index[m]], or x[m] where index is None."""

    x: np.ndarray  # (rows, D)
    index: np.ndarray | None  # type: ignore[assignment]  # (M,) int32; hides tuple.index
    most_rows: int  # that x may have in any batch of M rows


@dataclass(eq=False, repr=False)
class Tape:
    """The batch of a pass, and the activations that its parts have left.

    offsets (T + 1,): where the steps of the packed batch begin. scratch: the pass's arrays. noise: the dropout of this
    update; None outside of training.
    """

    offsets: np.ndarray
    scratch: Workspace
    noise: Noise | None
    reader: Any = None  # what reads it with small integers: `nblstm.nn.reading.Int8Reader`
    sources: Any = None  # what a body reads before the batch: `nblstm.nn.encoder_decoder.Pairs`
    input_kept: Any = None  # what the input needs for its backward pass
    body_kept: Any = None  # what the body needs
    pooling_kept: Any = None  # what a pooling needs
    features: np.ndarray = field(
        default_factory=lambda: np.empty(0)
    )  # (M, head_size), pooled (N, head_size): what the head sees

    @property
    def backend(self) -> Backend:
        """The backend that computes."""
        return self.scratch.backend

    def dropped(
        self, x: np.ndarray, rate: float, variational: float, site: int, into: np.ndarray | None = None
    ) -> np.ndarray:
        """Return x (M, D) after dropout of single numbers, and of whole texts' units; its own gradient.

        Written to `into` or an array of the site's own; x itself where there is no noise.
        """
        if self.noise is None or rate == variational == 0:
            return x
        y = self.scratch.array(f"noisy {site}", *x.shape, dtype=self.backend.stored) if into is None else into
        if rate > 0:
            self.noise.drop(y, x, rate, site)
            x = y
        if variational > 0:  # Gal & Ghahramani 2016: one mask a text, the same at all steps
            factors = self.noise.factors((int(self.offsets[1]), x.shape[1]), x.dtype, variational, TEXT + site)
            self.backend.kernels.scale_texts(y, x, factors, self.offsets, self.backend.threads)
        return y
