"""Optimizers: which kernel updates the parameters, and which moments it keeps."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from nblstm.config import TrainConfig

ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}  # Kingma & Ba 2015, and PyTorch's defaults
RMSPROP = {"alpha": 0.99, "eps": 1e-8}  # PyTorch's defaults


class Optimizer:
    """Updates a flat buffer of parameters in place.

    moments: name -> (num_parameters,) array, all zeros at first; they are what a checkpoint stores.
    """

    names: tuple[str, ...] = ()

    def __init__(self, config: TrainConfig, parameters: np.ndarray) -> None:
        self.config = config
        self.moments = {name: np.zeros_like(parameters) for name in self.names}

    def update(
        self, kernels: ModuleType, w: np.ndarray, g: np.ndarray, lr: float, step: int, scale: float, threads: int
    ) -> None:
        """w (num_parameters,) after update `step` (from 1) along scale * g; in place."""
        raise NotImplementedError


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), with bias correction."""

    names = ("m", "v")

    def update(self, kernels, w, g, lr, step, scale, threads):
        kernels.adam(
            w, self.moments["m"], self.moments["v"], g, lr, **ADAM, weight_decay=self.config.weight_decay,
            step=step, scale=scale, threads=threads,
        )  # fmt: skip


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    names = ("m",)

    def update(self, kernels, w, g, lr, step, scale, threads):
        kernels.sgd(w, self.moments["m"], g, lr, self.config.momentum, self.config.weight_decay, scale, threads)


class RMSprop(Optimizer):
    """RMSprop (Hinton, lecture 6e)."""

    names = ("v",)

    def update(self, kernels, w, g, lr, step, scale, threads):
        kernels.rmsprop(
            w, self.moments["v"], g, lr, **RMSPROP, weight_decay=self.config.weight_decay, scale=scale, threads=threads
        )


CLASSES = {"adam": Adam, "sgd": SGD, "rmsprop": RMSprop}


def make_optimizer(config: TrainConfig, parameters: np.ndarray) -> Optimizer:
    """The optimizer that `config.optimizer` names."""
    return CLASSES[config.optimizer](config, parameters)
