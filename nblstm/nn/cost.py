"""Cost: how long a network is expected to take on a backend; one model, one set of measured constants.

A step of N texts takes its calls, its units, and its weights, read once, or its products, whichever takes longer:

    seconds = layers * LAYER_SECONDS + N * units * UNIT_SECONDS
              + max(bytes of the parameters / READ_BYTES, 2 * N * parameters / OPERATIONS)

and DRAW_SECONDS more where a token of each is drawn; NumPy's decoders have prepared weights for some cells. Each round of
a Mogrifier LSTM adds ROUND_SHARE to its layer's calls and units. What is chosen by it decides how soon a result is there.
Measured on a 2-core x86-64 server with `benchmarks/sample.py`, `benchmarks/startup.py` and `benchmarks/score.py`.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from nblstm.config import TokenStackConfig
from nblstm.kernels import fastest
from nblstm.kernels.reference.prepared import is_prepared

LAYER_SECONDS = {"numpy": 25e-6, "prepared": 5e-6, "cpu": 1e-6}  # of one layer's calls, whatever its size
DRAW_SECONDS = {"numpy": 50e-6, "prepared": 9e-6, "cpu": 1e-6}  # of drawing the next tokens
UNIT_SECONDS = {"numpy": 35e-9, "prepared": 10e-9, "cpu": 6e-9}  # of what one hidden unit does to its sums
ROUND_SHARE = 1 / 3  # of what a layer's calls and units take
READ_BYTES = {"numpy": 15e9, "prepared": 30e9, "cpu": 30e9}  # a second
OPERATIONS = {"numpy": 110e9, "prepared": 110e9, "cpu": 230e9}  # in floating point, a second
READ_SIZE = 1 << 24  # bytes of parameters up to which a decoder reads a text with NumPy: it reads all of them each time
CPU_START = 0.3  # seconds that the compiled kernels take to start


def step_seconds(config: TokenStackConfig, backend: str, num_texts: int, int8: bool = False) -> float:
    """Estimate the seconds in which a network reads one token of each of num_texts texts. int8: its weights are a byte each."""
    if backend == "cpu" and not config.cells[0].compiled:
        backend = "numpy"  # whichever it is called
    parameters = config.num_parameters
    size = parameters * (1 if int8 else np.dtype(config.dtype).itemsize)
    products = 2.0 * num_texts * parameters / OPERATIONS[backend]
    layers = config.num_layers * config.directions * (1 + ROUND_SHARE * len(config.cells[0].rounds))
    calls = layers * (LAYER_SECONDS[backend] + num_texts * config.hidden_size * UNIT_SECONDS[backend])
    return calls + max(size / READ_BYTES[backend], products)


def draw_seconds(config: TokenStackConfig, backend: str, num_texts: int, int8: bool = False) -> float:
    """Estimate the seconds in which a network reads one token of each of num_texts texts and draws the next ones."""
    cell = config.cells[0]
    if backend == "numpy" or not cell.compiled:
        backend = "prepared" if is_prepared(cell) else "numpy"
    return step_seconds(config, backend, num_texts, int8) + DRAW_SECONDS[backend]


def decoding_reads(config: TokenStackConfig, backend: str) -> bool:
    """Tell whether a decoder reads the tokens of one text sooner than they are read at once."""
    size = config.num_parameters * np.dtype(config.dtype).itemsize
    return backend == "numpy" and is_prepared(config.cells[0]) and size < READ_SIZE


def start_seconds() -> float:
    """Estimate the seconds until the compiled kernels can be called: 0 once numba is there, infinite without it."""
    if fastest() == "numpy":
        return math.inf
    return 0.0 if "numba" in sys.modules else CPU_START


def compiled_pays_from(config: TokenStackConfig, num_texts: int) -> float:
    """Estimate how many tokens, of num_texts texts at a time, the compiled kernels score sooner than NumPy.

    0 where they always do, infinite where they never do.
    """
    numpy, compiled = (config.readings * step_seconds(config, name, num_texts) / num_texts for name in ("numpy", "cpu"))
    return start_seconds() / (numpy - compiled) if compiled < numpy else math.inf
