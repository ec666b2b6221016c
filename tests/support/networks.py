"""Small networks of tokens, whichever way they read, and chunks for them."""

import numpy as np

from nblstm.nn.network import Network
from nblstm.nn.state import State
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.masked.config import MaskedConfig
from nblstm.tasks.masked.network import MaskedNetwork
from nblstm.text.batches import Chunk

BACKENDS = ["numpy", "cpu"]
SHAPE = {"vocab_size": 11, "embedding_size": 5, "hidden_size": 19, "num_layers": 2, "dropout": 0.0, "dtype": "float64"}
DROPOUTS = {"dropout": 0.5, "input_dropout": 0.2, "output_dropout": 0.4}


def text_config(*sizes, bidirectional=False, **settings):
    """Return the config of a language model, or with bidirectional of a masked one."""
    if not bidirectional:
        settings.pop("mask_fraction", None)
    return (MaskedConfig if bidirectional else LanguageConfig)(*sizes, **settings)


def text_network(config, *args, **keywords):
    """Return the network of such a config."""
    return (MaskedNetwork if isinstance(config, MaskedConfig) else Network)(config, *args, **keywords)


def make_network(backend="cpu", threads=2, **changes):
    """Return a small network with random parameters, biases included; `changes` to the fields of SHAPE."""
    config = text_config(**{**SHAPE, **changes})
    parameters = np.random.default_rng(0).normal(0, 0.3, config.num_parameters).astype(config.dtype)
    return text_network(config, parameters, backend, threads)


def make_chunk(config, T=6, N=3):
    """Return (chunk, state) of N texts of T tokens at random: a state that is not zero."""
    r = np.random.default_rng(1)
    tokens, targets = r.integers(0, config.vocab_size, (2, T, N))
    zeros = State.zeros(config, N)
    state = State(*(r.normal(0, 0.5, array.shape).astype(config.dtype) for array in vars(zeros).values()))
    return Chunk.rectangle(tokens, targets, fresh=False), state
