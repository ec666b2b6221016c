"""The parameters of a network: one table of names and shapes, one flat buffer, views by name."""

from __future__ import annotations

from typing import Mapping

import numpy as np

from nblstm.config import ModelConfig, WindowConfig


def parameter_shapes(config: ModelConfig | WindowConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape, in the order of the flat buffer: the names and layouts of PyTorch's modules.

    embedding (torch.nn.Embedding), rnn (torch.nn.LSTM, GRU or RNN), head (torch.nn.Linear). A tied head has no weight,
    a network that reads numbers no embedding.
    """
    if isinstance(config, WindowConfig):
        return config.shapes
    V, cells = config.vocab_size, config.cells
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (V, config.embedding_size)} if config.reads_tokens else {}
    for number, cell in enumerate(cells):
        shapes |= {f"rnn.{name}{cell_suffix(config, number)}": shape for name, shape in cell.shapes.items()}
    if config.learned_state:
        shapes["initial_state.h"] = (len(cells), cells[0].output_size)
        if cells[0].has_memory:
            shapes["initial_state.c"] = (len(cells), cells[0].memory_size)
    if not config.tie:
        shapes["head.weight"] = (V, config.head_size)
    shapes["head.bias"] = (V,)
    return shapes


def cell_suffix(config: ModelConfig, number: int) -> str:
    """How PyTorch ends the names of a cell's parameters; number: its place in config.cells."""
    layer, direction = divmod(number, config.directions)
    return f"_l{layer}" + ("_reverse" if direction else "")


def cell_views(named: Mapping[str, np.ndarray], config: ModelConfig) -> list[dict[str, np.ndarray]]:
    """The parameters of every cell, by the names that its kernels know."""
    return [
        {name: named[f"rnn.{name}{cell_suffix(config, number)}"] for name in cell.shapes}
        for number, cell in enumerate(config.cells)
    ]


def views(flat: np.ndarray, config: ModelConfig | WindowConfig) -> dict[str, np.ndarray]:
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

    Cells and head: uniform in +-1/sqrt(H), PyTorch's rule; biases and learned state zero, but for the biases that the
    cell's kind names, such as the forget gate's; gains one. Embedding: normal, standard deviation 1 (PyTorch's rule), or
    uniform as the head's where it is the head.

    What reads a layer's outputs starts `output_scale` times as large, a number of the cell's kind. That of an LSTM takes
    the default network's loss after 4 epochs of Tiny Shakespeare from 1.61 to 1.53.
    """
    flat = np.zeros(config.num_parameters, config.dtype)
    cell = config.cells[0]
    random = np.random.default_rng([seed, 0])
    bound = config.hidden_size**-0.5
    for name, array in views(flat, config).items():
        if name == "embedding.weight" and not config.tie:
            array[...] = random.normal(0, 1, array.shape)
        elif name.startswith("rnn.bias_ih"):
            cell.initial_biases(array)
        elif name.startswith("rnn.gain"):
            array[...] = 1
        elif array.ndim == 2 and not name.startswith("initial_state"):
            scale = cell.definition.output_scale if _reads_outputs(name) else 1
            array[...] = scale * random.uniform(-bound, bound, array.shape)
    return flat


def _reads_outputs(name: str) -> bool:
    """Whether a weight is multiplied with a recurrent layer's outputs, its own recurrence apart."""
    return name == "head.weight" or (name.startswith("rnn.weight_ih") and "_l0" not in name)


def named_tensors(flat: np.ndarray, config: ModelConfig | WindowConfig) -> dict[str, np.ndarray]:
    """Name -> view of the flat buffer (num_parameters,), as a model file has them: a tied head has no weight."""
    named = views(flat, config)
    return {name: named[name] for name in parameter_shapes(config)}


def flatten(named: Mapping[str, np.ndarray], config: ModelConfig | WindowConfig) -> np.ndarray:
    """The flat buffer (num_parameters,) of arrays by name: the inverse of `views`."""
    flat = np.empty(config.num_parameters, config.dtype)
    for name, array in views(flat, config).items():
        array[...] = named["embedding.weight" if name == "head.weight" and config.tie else name]
    return flat
