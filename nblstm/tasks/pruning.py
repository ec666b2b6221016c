"""prune: a model whose weights are mostly zero, and nearly as good, in one call."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

from nblstm import checks
from nblstm.config import is_number, said
from nblstm.errors import ConfigError
from nblstm.tasks.registry import load
from nblstm.tasks.train import train

DEFAULT_SPARSITY = 0.8
DEFAULT_PRUNE_EPOCHS = 5  # unless another limit is given


def prune(
    model: str | os.PathLike[str],
    corpus: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] = "pruned.safetensors",
    *,
    sparsity: float = DEFAULT_SPARSITY,
    **settings: Any,
) -> Any:
    """Make most of a language model's recurrent weights zero while it trains on; save it at `output`, and return it.

    model: its file, which stays as it is. sparsity: the share of the weights that becomes zero, above 0 and below 1, in
    blocks of 16 units by an input, which decoding skips. settings: of `train`, of which this is a run, and which goes on
    with it by resume=True. Dropout is less, by sqrt(1 - sparsity), as fewer weights learn the text (Han et al. 2015,
    section 3.2); teacher=model makes the model itself teach what is left of it. Raises what `train` raises.
    """
    path = checks.path("model", model)
    if not is_number(sparsity) or not 0 < sparsity < 1:
        raise ConfigError(f"sparsity must be greater than 0 and less than 1, got {said(sparsity)}.")
    if not {"epochs", "steps", "minutes"} & settings.keys():
        settings["epochs"] = DEFAULT_PRUNE_EPOCHS
    return train(
        corpus, output, init_from=path, sparsity=float(sparsity), **{**_less_dropout(path, float(sparsity)), **settings}
    )


def _less_dropout(path: str, sparsity: float) -> dict[str, float]:
    """Return every dropout of a model's config, as a network with so many zeros has it."""
    config = load(path, ["language"]).config
    rates = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    left = math.sqrt(1 - sparsity)
    return {name: round(rate * left, 4) for name, rate in rates.items() if name.endswith("dropout") and rate}
