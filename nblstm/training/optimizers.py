"""Optimizers: which kernel updates the parameters, and which moments it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from nblstm.config import Recipe
from nblstm.files.fields import COUNT, NUMBERS, Stored, optional
from nblstm.kernels import AdamSettings
from nblstm.nn.network import Network

Zeros = Callable[[Any], Any]

ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}  # Kingma & Ba 2015, and PyTorch's defaults
RMSPROP = {"alpha": 0.99, "eps": 1e-8}  # PyTorch's defaults


class Optimizer(Stored):
    """Updates a flat buffer of parameters in place.

    moments: name -> (num_parameters,) array, all zeros at first; a checkpoint stores them and, beside them, STATE.
    """

    names: tuple[str, ...] = ()

    def __init__(self, config: Recipe, parameters: np.ndarray, zeros_like: Zeros = np.zeros_like) -> None:
        self.config = config
        self.moments = {name: zeros_like(parameters) for name in self.names}

    def update(
        self, kernels: ModuleType, w: np.ndarray, g: np.ndarray, lr: float, step: int, scale: float, threads: int,
        moments: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Update w in place, along scale * g; step counts from 1. moments: those of w, also updated; None: `self.moments`."""
        raise NotImplementedError

    def averaged(self, w: np.ndarray) -> np.ndarray:
        """Return the parameters to validate and to save: w itself, or a mean of those it went through."""
        return w

    def validated(self, loss: float) -> None:
        """Hear the validation loss at the end of an epoch."""

    @classmethod
    def name_of(cls, config: Recipe) -> str:
        """Name the optimizer of a config."""
        return config.optimizer


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), with bias correction."""

    names = ("m", "v")

    def update(self, kernels, w, g, lr, step, scale, threads, moments=None):
        self._update(kernels, w, g, lr, step, scale, threads, moments, self.config.weight_decay, 0.0)

    def _update(self, kernels, w, g, lr, step, scale, threads, moments, weight_decay, decoupled):
        settings, moments = (
            AdamSettings(lr, **ADAM, weight_decay=weight_decay, decoupled=decoupled),
            moments or self.moments,
        )
        kernels.adam(w, moments["m"], moments["v"], g, settings, step, scale, threads)


class AdamW(Adam):
    """Adam whose weight decay does not pass through the moments (Loshchilov & Hutter 2019)."""

    def update(self, kernels, w, g, lr, step, scale, threads, moments=None):
        self._update(kernels, w, g, lr, step, scale, threads, moments, 0.0, self.config.weight_decay)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, Nesterov's if asked."""

    names = ("m",)

    def update(self, kernels, w, g, lr, step, scale, threads, moments=None):
        c, moments = self.config, moments or self.moments
        kernels.sgd(w, moments["m"], g, lr, c.momentum, c.nesterov, c.weight_decay, scale, threads)


class ASGD(Optimizer):
    """Plain gradient descent, averaged once the validation loss stops falling: NT-ASGD.

    Averaging starts when a loss is above the best of those that are more than `averaging_patience` validations old; from
    then on the mean of all parameters is what is validated and saved. Without a validation text it never starts.
    Source: Merity, Keskar & Socher 2018 (AWD-LSTM), algorithm 1; Polyak & Juditsky 1992.
    """

    names = ("m", "mean")
    STATE = {"losses": NUMBERS, "count": optional(COUNT)}

    def __init__(self, config: Recipe, parameters: np.ndarray, zeros_like: Zeros = np.zeros_like) -> None:
        super().__init__(config, parameters, zeros_like)
        self.losses: list[float] = []  # of all validations so far
        self.count: int | None = None  # of the parameters in the mean; None before averaging

    def update(self, kernels, w, g, lr, step, scale, threads, moments=None):
        moments = moments or self.moments
        kernels.sgd(w, moments["m"], g, lr, 0.0, False, self.config.weight_decay, scale, threads)
        if self.count is not None:
            self.count += 1
            kernels.average(moments["mean"], w, 1 / self.count, threads)

    def averaged(self, w: np.ndarray) -> np.ndarray:
        return self.moments["mean"] if self.count else w

    def validated(self, loss: float) -> None:
        old = self.losses[: len(self.losses) - self.config.averaging_patience]
        if self.count is None and old and loss > min(old):
            self.count = 0
        self.losses.append(float(loss))


class RMSprop(Optimizer):
    """RMSprop (Hinton, lecture 6e)."""

    names = ("v",)

    def update(self, kernels, w, g, lr, step, scale, threads, moments=None):
        moments = moments or self.moments
        kernels.rmsprop(
            w, moments["v"], g, lr, **RMSPROP, weight_decay=self.config.weight_decay, scale=scale, threads=threads
        )


@contextmanager
def averaged(network: Network, optimizer: Optimizer) -> Iterator[None]:
    """Give the network the parameters that the optimizer wants validated, for a block."""
    live = network.parameters
    if optimizer.averaged(live) is live:
        yield
        return
    kernels = network.kernels
    moving = kernels.zeros_like(live)
    kernels.assign(moving, live)
    kernels.assign(live, optimizer.averaged(live))
    try:
        yield
    finally:
        kernels.assign(live, moving)


OPTIMIZER_CLASSES = {"adam": Adam, "adamw": AdamW, "sgd": SGD, "rmsprop": RMSprop, "asgd": ASGD}


def make_optimizer(config: Recipe, parameters: np.ndarray, zeros_like: Zeros = np.zeros_like) -> Optimizer:
    """Make the optimizer that `config.optimizer` names; zeros_like: of the kernels that update the parameters."""
    return OPTIMIZER_CLASSES[config.optimizer](config, parameters, zeros_like)
