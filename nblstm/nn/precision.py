"""Which networks are computed in which precision."""

from __future__ import annotations

from nblstm import checks
from nblstm.config import PRECISIONS, NetworkConfig
from nblstm.errors import ConfigError


def check_precision(config: NetworkConfig, backend: str, precision: str) -> None:
    """Raise ConfigError unless the kernels called `backend` compute a network in this precision."""
    checks.choice("precision", precision, PRECISIONS)
    if precision == "half" and backend != "cuda":
        raise ConfigError("precision half is for device cuda; choose precision single or bfloat16.")
    if precision != "bfloat16":
        return
    if backend == "cuda":
        raise ConfigError("precision bfloat16 is for device cpu; choose precision single or half.")
    if config.dtype != "float32":
        raise ConfigError(f"precision bfloat16 is for numbers of float32, not {config.dtype}; choose precision single.")
    for cell in getattr(config, "cells", ()):
        if not cell.is_plain:
            options = " with layer_norm, peepholes or proj_size" if cell.has_options else ""
            raise ConfigError(f"precision bfloat16 is not for the cell {cell.kind}{options}; choose precision single.")
