"""The networks that a card's kernels compute."""

from __future__ import annotations

import dataclasses

from nblstm.config import NetworkConfig
from nblstm.config.checks import said
from nblstm.errors import ConfigError

COMPUTED = {  # settings of a network that they have; others must be at their defaults
    "vocab_size", "embedding_size", "hidden_size", "num_layers", "cell", "nonlinearity", "mogrifier_rounds", "tie",
    "dropout", "input_dropout", "output_dropout", "variational_dropout",
}  # fmt: skip


def check_card(config: NetworkConfig) -> None:
    """Raise ConfigError for a network that the card's kernels do not compute."""
    if getattr(config, "directions", 0) != 1:
        raise ConfigError("only recurrent networks that read from left to right are for device cuda; choose cpu.")
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if field.name not in COMPUTED and value != field.default:
            raise ConfigError(f"{field.name} {said(value)} is not for device cuda; choose cpu, or leave it out.")
