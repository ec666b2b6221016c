"""The GPU kernels: the functions of `reference` for NVIDIA cards. The only folder that knows the CUDA package.

Arrays are on the device where `array`, `empty` and `zeros_like` made them; integers, and whatever else is a NumPy
array, are copied there for the call, and outputs that are NumPy arrays are copied back. All sums have a fixed order and
no kernel uses atomics: the same inputs give the same bits. Numbers are stored as float32 or, where a work was made for
float16, activations as that; every sum is float32 or wider. Inside a kernel arrays are flat.
"""

from __future__ import annotations

from nblstm.kernels.contract import FILES, on_first_use
from nblstm.kernels.cuda import device  # noqa: F401  which fails where there is no CUDA package

__all__, __getattr__ = on_first_use(
    __name__, {"arrays": (*FILES["arrays"], "convert"), "device": ("describe", "require")}
)
