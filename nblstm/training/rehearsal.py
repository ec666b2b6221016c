"""A rehearsal: everything that training will do, once and for nothing, so that kernels are compiled before it counts."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
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


def helped(trainer: Trainer) -> AbstractContextManager[None]:
    """Return a context for an update: for a session's first one, help with compiling, of kernels that are compiled."""
    network = trainer.network
    ahead = getattr(network.kernels, "compiled_ahead", None)
    if ahead is None or trainer.pace.updates or trainer.ranks.size > 1:
        return nullcontext()
    first = partial(network.kernels.squared_norm, trainer.gradient, network.threads)
    return ahead(first, partial(rehearse, trainer), network.threads)
