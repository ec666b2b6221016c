"""Weights as small integers: the one rule by which matrices are rounded, and the tensors that a file has of them.

A row w becomes scale * q, q = round(w / scale) of -127 ... 127, to the nearest, of two the even one:

    scale = max |w| / 127, a float32 whose last SPARE_BITS bits are cleared

so scale * q is exact in float32, and the largest number of a row is 127. What is rounded is its own rounding: float32
parameters hold it without loss, and need no scales beside them. Biases and other vectors stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nblstm import checks
from nblstm.config import NetworkConfig, StackConfig
from nblstm.kernels import DecoderWeights, Int8
from nblstm.kernels.reference.int8 import values
from nblstm.nn.parameters import views

LARGEST = 127
SPARE_BITS = 7  # of a scale's 24: a product with 127 takes as many more
SCALE = "_scale"  # ends the name of the tensor that holds a matrix's scales


def round_rows(matrix: np.ndarray) -> Int8:
    """Round the rows of a matrix (R, K), finite. Rows of zeros have scale 0."""
    matrix = np.asarray(matrix, np.float32)
    scales = np.abs(matrix).max(axis=1) / np.float32(LARGEST)
    scales = (scales.view(np.uint32) & np.uint32(0xFFFFFFFF << SPARE_BITS & 0xFFFFFFFF)).view(np.float32)
    q = np.rint(matrix / np.where(scales > 0, scales, 1)[:, None])
    return Int8(np.where(scales[:, None] > 0, np.clip(q, -LARGEST, LARGEST), 0).astype(np.int8), scales)


def matrix_names(config: NetworkConfig) -> list[str]:
    """Return the names of the parameters that are rounded: all weights, no biases, gains or first states."""
    return [name for name, shape in config.shapes.items() if len(shape) == 2 and "weight" in name.split(".")[-1]]


def round_parameters(config: NetworkConfig, parameters: np.ndarray) -> np.ndarray:
    """Return parameters (num_parameters,) float32 whose matrices are rounded. ConfigError where float32 does not hold them."""
    with np.errstate(over="ignore"):
        flat = checks.finite("parameters", np.array(parameters, np.float32))
    named = views(flat, config)
    for name in matrix_names(config):
        named[name][...] = values(round_rows(named[name]))
    return flat


def in_int8_kernels(config: StackConfig) -> bool:
    """Tell whether there are compiled kernels that multiply a network's small integers."""
    return config.causal and config.cells[0].is_plain and config.dtype == "float32"


def in_int8(net: DecoderWeights) -> DecoderWeights:
    """Return the weights of a decoder with rounded matrices as small integers, for `kernels.decode_weights`."""
    layers = [
        {name: round_rows(weight) if weight.ndim == 2 else weight for name, weight in weights.items()}
        for weights in net.layers
    ]
    return net._replace(embedding=round_rows(net.embedding), layers=layers, head_weight=round_rows(net.head_weight))


def packed_shapes(config: NetworkConfig) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return name -> (shape, dtype) of the tensors that hold parameters with small integers."""
    matrices, found = set(matrix_names(config)), {}
    for name, shape in config.shapes.items():
        found[name] = shape, "int8" if name in matrices else "float32"
        if name in matrices:
            found[name + SCALE] = shape[:1], "float32"
    return found


def pack_tensors(config: NetworkConfig, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors that hold weights, rounded ones by the names of the config."""
    found = dict(weights)
    for name in matrix_names(config):
        found[name], found[name + SCALE] = round_rows(weights[name])
    return found


def unpack_tensors(config: NetworkConfig, tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the weights in tensors of `packed_shapes`: the inverse of `pack_tensors`, where they are its result."""
    found = {name: tensors[name] for name in config.shapes}
    for name in matrix_names(config):
        found[name] = values(Int8(tensors[name], tensors[name + SCALE]))
    return found
