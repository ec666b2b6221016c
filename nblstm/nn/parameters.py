"""The parameters of a network: one flat buffer, views by name, as the config's shapes say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config import NetworkConfig, StackConfig

Gradients = Mapping[str, np.ndarray]  # by name, as `views` has them


def cell_views(named: Mapping[str, np.ndarray], config: StackConfig) -> list[dict[str, np.ndarray]]:
    """Return the parameters of every cell, by the names that its kernels know."""
    return [
        {name: named[f"rnn.{name}{config.suffix(number)}"] for name in cell.shapes}
        for number, cell in enumerate(config.cells)
    ]


def views(flat: np.ndarray, config: NetworkConfig) -> dict[str, np.ndarray]:
    """Return name -> view of the flat buffer (num_parameters,). A tied parameter is the view of the one that it is."""
    return placed(flat, places(config))


Spans = Mapping[str, tuple[slice, tuple[int, ...]]]  # name -> where a parameter stands in the flat buffer; its shape


def places(config: NetworkConfig) -> Spans:
    """Return the place of every parameter. A tied one has that of the one that it is."""
    found, start = {}, 0
    for name, shape in config.shapes.items():
        stop = start + math.prod(shape)
        found[name] = slice(start, stop), shape
        start = stop
    return found | {name: found[other] for name, other in config.tied.items()}


def placed(flat: np.ndarray, where: Spans) -> dict[str, np.ndarray]:
    """Return `views` of the flat buffer, from what `places` has found."""
    return {name: flat[span].reshape(shape) for name, (span, shape) in where.items()}


def initial(config: StackConfig, seed: int) -> np.ndarray:
    """Draw new parameters (num_parameters,) in config.dtype.

    Cells and head: uniform in +-1/sqrt(H), PyTorch's rule; biases and learned state zero, but for the biases that the
    cell's kind names, such as the forget gate's; gains one. Embedding: normal, standard deviation 1 (PyTorch's rule), or
    uniform as the head's where it is the head. The tokens of an adaptive head's clusters: uniform in +-1/sqrt(F), F the
    numbers of their vectors.

    What reads a layer's outputs starts `output_scale` times as large, a number of the cell's kind. That of an LSTM takes
    the default network's loss after 4 epochs of Tiny Shakespeare from 1.61 to 1.53.
    """
    flat = np.zeros(config.num_parameters, config.dtype)
    random = np.random.default_rng([seed, 0])
    for name, array in views(flat, config).items():
        draw_parameter(random, name, array, config, bool(config.tied))
    return flat


def draw_parameter(random: np.random.Generator, name: str, array: np.ndarray, config: StackConfig, tied: bool) -> None:
    """Draw one new parameter, as `initial` says; what is zero already stays so. tied: whether the embedding is the head."""
    cell, bound = config.cells[0], config.hidden_size**-0.5
    if name == "embedding.weight" and not tied:
        array[...] = random.normal(0, 1, array.shape)
    elif name.startswith("rnn.bias_ih"):
        cell.initial_biases(array)
    elif name.startswith("rnn.gain"):
        array[...] = 1
    elif array.ndim == 2 and not name.startswith("initial_state"):
        scale = cell.definition.output_scale if _reads_outputs(name) else 1
        bound = array.shape[1] ** -0.5 if _is_of_cluster(name) else bound
        array[...] = scale * random.uniform(-bound, bound, array.shape)


def grown(flat: np.ndarray, config: NetworkConfig, into: np.ndarray, larger: NetworkConfig) -> np.ndarray:
    """Return the parameters `into` of a network with more tokens, those of a smaller one in the place of its rows."""
    wider = views(into, larger)
    for name, array in views(flat, config).items():
        wider[name][: len(array)] = array
    return into


def _reads_outputs(name: str) -> bool:
    """Tell whether a weight is multiplied with a recurrent layer's outputs, its own recurrence apart."""
    if name.startswith("head."):
        return not _is_of_cluster(name)
    return name.startswith("rnn.weight_ih") and "_l0" not in name


def _is_of_cluster(name: str) -> bool:
    """Tell whether a weight holds the vectors of a cluster of an adaptive head."""
    return name.startswith("head.tail.") and name.endswith(".1.weight")


def check_parameters(config: NetworkConfig, parameters: Any, finite: bool = True) -> np.ndarray:
    """Return parameters as kernels read them, see `checks.in_form`. ConfigError unless they are the config's.

    finite: ConfigError for NaN or infinity, too.
    """
    formed = checks.in_form("parameters", parameters, (config.num_parameters,), config.dtype)
    return checks.finite("parameters", formed) if finite else formed


def named_tensors(flat: np.ndarray, config: NetworkConfig) -> dict[str, np.ndarray]:
    """Return name -> view of the flat buffer (num_parameters,), as a model file has them: without tied ones."""
    named = views(flat, config)
    return {name: named[name] for name in config.shapes}


def flatten(named: Mapping[str, np.ndarray], config: NetworkConfig) -> np.ndarray:
    """Join arrays by name into the flat buffer (num_parameters,): the inverse of `views`."""
    flat = np.empty(config.num_parameters, config.dtype)
    for name, array in named_tensors(flat, config).items():
        array[...] = named[name]
    return flat
