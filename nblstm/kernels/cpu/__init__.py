"""The CPU kernels: the functions of `reference` as numba loops on vectors and register tiles, one thread a slice.

No sum is ever split between threads, so the results do not depend on their number. Beside the files that every backend
has stand the parts they are made of: `jit` with its `kernel_cache`, `vectors` and `functions`, `tiles`, `products`,
`layouts`, `barrier`.
"""

from __future__ import annotations

from nblstm.kernels.contract import FILES, on_first_use
from nblstm.kernels.cpu import jit  # noqa: F401  from now on who waits for the compiler can be told (`KernelCache.on_compile`)

__all__, __getattr__ = on_first_use(
    __name__, {"ahead": ("compiled_ahead",), "nblstm.kernels.reference.arrays": FILES["arrays"]}
)
