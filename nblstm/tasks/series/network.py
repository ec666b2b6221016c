"""The network of a series: numbers -> recurrent stack -> squared error."""

from __future__ import annotations

import numpy as np

from nblstm.nn.heads import SquaredErrorHead
from nblstm.nn.inputs import Numbers
from nblstm.nn.network import Network
from nblstm.nn.stack import RecurrentStack
from nblstm.tasks.series.config import SeriesConfig


def series_network(config: SeriesConfig, parameters: np.ndarray, backend: str = "cpu", threads: int = 0) -> Network:
    """Make the network of a config. A chunk's tokens are (M, D), its targets (M, K), both of config.dtype."""
    return Network(config, parameters, backend, threads, parts=(Numbers, RecurrentStack, SquaredErrorHead))
