"""`jit`: numba.njit as every kernel uses it, with a cache that notices edits and never raises.

numba's own cache (`cache=True`) looks at one file's time stamp, so an edit in a file whose functions were
inlined goes unseen; it raises at import where no folder is writable, and at the call where a file is
truncated. Here the stamp is a digest of every kernel file, and any failure of the cache means compiling.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Callable

import numba
from numba.core.caching import FunctionCache

PLAIN = bool(numba.config.DISABLE_JIT)  # kernels run as Python: vectors are NumPy slices, tiles plain loops
NO_TILES = PLAIN or os.environ.get("NBLSTM_TILES") == "off"  # compiled, but with plain loops for products


def _digest() -> str:
    """A digest of all kernel sources and of the switches that change what they compile to."""
    digest = hashlib.blake2b(f"{NO_TILES}".encode(), digest_size=16)
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_SOURCES = _digest()


class KernelCache(FunctionCache):
    """numba's on-disk cache of one function: stale after an edit of any kernel file, silent when it fails.

    Functions made by one factory are told apart by their names, see `named`.
    """

    on_compile: Callable[[], None] | None = None  # called before the first compilation: lets a caller say why it waits

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = _SOURCES

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """What tells compiled versions apart: types and machine. The source is in the stamp, a closure in the name."""
        return sig, codegen.magic_tuple()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None where the cache has none or cannot be read."""
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # truncated, foreign or unreadable: start this function's cache afresh
            self._forget()
            found = None
        if found is None and KernelCache.on_compile is not None:
            announce, KernelCache.on_compile = KernelCache.on_compile, None
            announce()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store the compiled function; a full disk or a read-only folder only means compiling again."""
        try:
            super().save_overload(sig, data)
        except Exception:
            self._forget()

    def _forget(self) -> None:
        try:
            self.flush()
        except Exception:
            pass


def jit(function: Callable[..., Any]) -> Any:
    """Compile a kernel on its first call: no GIL, IEEE division, a*b+c contracted, cached on disk."""
    dispatcher = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)
    if not PLAIN:
        dispatcher.get_call_template = _without_literals(dispatcher.get_call_template)
        try:
            dispatcher._cache = KernelCache(function)
        except Exception:  # no folder to write to: compile in every process
            pass
    return dispatcher


def named(function: Callable[..., Any], name: str) -> Any:
    """`jit` of a function that a factory has made, under a name of its own: by it the cache knows which one it is."""
    function.__name__ = function.__qualname__ = name
    return jit(function)


def _without_literals(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """Calls with the constants 0, 1 or 64 share one compiled kernel instead of having one each."""

    def resolved(args: Any, kws: Any) -> Any:
        plain = numba.core.types.unliteral
        return resolve(tuple(map(plain, args)), {name: plain(kind) for name, kind in kws.items()})

    return resolved
