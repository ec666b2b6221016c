"""The network of a window: the last n tokens -> dense layer with relu -> softmax, the article's section 4.1.

    z = W x + b,  h = max(0, z),  logits = W_hy h + b_y

x: the tokens of a window side by side, one-hot (n V) or embedded (n E). Source: Bengio et al. 2003.
"""

from __future__ import annotations

import numpy as np

from nblstm.nn.dense import Dense
from nblstm.nn.heads import SoftmaxHead
from nblstm.nn.inputs import TokenWindow
from nblstm.nn.network import Network
from nblstm.nn.parameters import views
from nblstm.tasks.window.config import WindowConfig


def window_network(config: WindowConfig, parameters: np.ndarray, backend: str = "cpu", threads: int = 0) -> Network:
    """Make the network of a config. A chunk's tokens are windows (M, n), see `nblstm.tasks.window.batches`."""
    return Network(config, parameters, backend, threads, parts=(TokenWindow, Dense, SoftmaxHead))


def initial_windows(config: WindowConfig, seed: int) -> np.ndarray:
    """Draw new parameters (num_parameters,) in config.dtype.

    Dense layer: uniform, variance 2 / the inputs that are not zero (He et al. 2015, eq. 10); head: uniform in
    +-1/sqrt(H), embedding: normal (PyTorch's rules); biases zero.
    """
    flat = np.zeros(config.num_parameters, config.dtype)
    random = np.random.default_rng([seed, 0])
    bounds = {
        "window.weight": (6 / config.window) ** 0.5,
        "dense.weight": (6 / (config.window * max(1, config.embedding_size))) ** 0.5,
        "head.weight": config.hidden_size**-0.5,
    }
    for name, array in views(flat, config).items():
        if name == "embedding.weight":
            array[...] = random.normal(0, 1, array.shape)
        elif name in bounds:
            array[...] = random.uniform(-bounds[name], bounds[name], array.shape)
    return flat
