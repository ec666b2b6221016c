"""The parameters of a network: one table of names and shapes, one flat buffer, views by name."""

from __future__ import annotations

from typing import Mapping

import numpy as np

from nblstm.config import ModelConfig


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape, in the order of the flat buffer: the names and layouts of PyTorch's modules.

    embedding (torch.nn.Embedding), rnn (torch.nn.LSTM), head (torch.nn.Linear). A tied head has no weight.
    """
    V, E, H = config.vocab_size, config.embedding_size, config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (V, E)}
    for layer in range(config.num_layers):
        shapes[f"rnn.weight_ih_l{layer}"] = (4 * H, E if layer == 0 else H)
        shapes[f"rnn.weight_hh_l{layer}"] = (4 * H, H)
        shapes[f"rnn.bias_ih_l{layer}"] = (4 * H,)
        shapes[f"rnn.bias_hh_l{layer}"] = (4 * H,)
    if not config.tie:
        shapes["head.weight"] = (V, H)
    shapes["head.bias"] = (V,)
    return shapes


def views(flat: np.ndarray, config: ModelConfig) -> dict[str, np.ndarray]:
    """Name -> view of the flat buffer (num_parameters,). A tied head.weight is embedding.weight itself."""
    named, start = {}, 0
    for name, shape in parameter_shapes(config).items():
        stop = start + int(np.prod(shape))
        named[name] = flat[start:stop].reshape(shape)
        start = stop
    if config.tie:
        named["head.weight"] = named["embedding.weight"]
    return named


def initial(config: ModelConfig, seed: int) -> np.ndarray:
    """Fresh parameters (num_parameters,) in config.dtype.

    LSTM and head: uniform in +-1/sqrt(H), PyTorch's rule; biases zero, but the forget gate's starts at 1
    (Jozefowicz, Zaremba & Sutskever 2015, section 2.2). Embedding: normal, standard deviation 1 (PyTorch's
    rule), or uniform as the head's where it is the head.
    """
    flat = np.zeros(config.num_parameters, config.dtype)
    random = np.random.default_rng([seed, 0])
    bound = config.hidden_size**-0.5
    for name, array in views(flat, config).items():
        if name == "embedding.weight" and not config.tie:
            array[...] = random.normal(0, 1, array.shape)
        elif name.startswith("rnn.bias_ih"):
            array[config.hidden_size : 2 * config.hidden_size] = 1
        elif array.ndim == 2:
            array[...] = random.uniform(-bound, bound, array.shape)
    return flat


def flatten(named: Mapping[str, np.ndarray], config: ModelConfig) -> np.ndarray:
    """The flat buffer (num_parameters,) of arrays by name: the inverse of `views`."""
    flat = np.empty(config.num_parameters, config.dtype)
    for name, array in views(flat, config).items():
        array[...] = named["embedding.weight" if name == "head.weight" and config.tie else name]
    return flat
