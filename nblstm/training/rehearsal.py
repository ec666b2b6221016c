"""A rehearsal: everything that training will do, once and for nothing, so that kernels are compiled before it counts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nblstm.training.optimizers import make_optimizer

if TYPE_CHECKING:
    from nblstm.training.trainer import Trainer


def rehearse(trainer: Trainer) -> None:
    """Make an update and read a chunk in validation, both for nothing: kernels are compiled then, and not later."""
    network, kernels = trainer.network, trainer.network.kernels
    parts = [trainer.ranks.part(network, trainer.chunks[trainer.chunk_number])]
    if len(trainer.valid):
        parts.append(trainer.ranks.part(network, trainer.valid[0]))
    for part in filter(None, parts):
        state = network.before(replace(part, fresh=True), trainer.state)
        network.losses(part, state)
        part = trainer.companions.prepare(replace(part, fresh=True))
        network.loss_and_gradient(trainer.gradient, part, state, trainer.config.seed, trainer.step)
    parameters = network.parameters.copy()
    optimizer = make_optimizer(trainer.config, parameters, kernels.zeros_like)
    optimizer.update(kernels, parameters, trainer.gradient, 0.0, 1, 1.0, network.threads, optimizer.moments)
    kernels.squared_norm(parameters, network.threads)
    kernels.clear(trainer.gradient, network.threads)
