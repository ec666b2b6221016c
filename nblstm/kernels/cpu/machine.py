"""What is compiled for: switches of the environment, and what the machine has."""

from __future__ import annotations

import os

import numba
from llvmlite.binding import get_host_cpu_features

PLAIN = bool(numba.config.DISABLE_JIT)  # kernels run as Python: vectors are NumPy slices, tiles plain loops
NO_TILES = PLAIN or os.environ.get("NBLSTM_TILES") == "off"  # compiled, but with plain loops for products


def features() -> str:
    """What the machine that is compiled for has, as LLVM spells it: "+avx2,+fma,..."."""
    if numba.config.CPU_FEATURES is not None:
        return numba.config.CPU_FEATURES
    return ",".join("+" + name for name, on in get_host_cpu_features().items() if on)


def group_of(features: str) -> int:
    """How many neighbours of K one instruction multiplies and adds, of int8 weights: see `int8_tiles`."""
    return 4 if {"+avx512f", "+avx512vnni"} <= {*features.split(",")} else 2


GROUP = 2 if NO_TILES else group_of(features())
