"""KernelCache: numba's cache on disk, but one that notices edits and never raises.

numba's own cache (`cache=True`) looks at one file's time stamp, so an edit in a file whose functions were
inlined goes unseen; it raises at import where no folder is writable, and at the call where a file is
truncated. Here the stamp is a digest of every kernel file, and any failure of the cache means compiling. What is made of
functions from other files, such as a cell of a user's own, is compiled in every process. Of processes that write at once
one may put its code in the place of another's: so every file says whose code it holds, and is passed over otherwise.

What the cache holds is unpickled, which can run anything. So a folder is only used where nobody but this user and root
can have written to it; else numba's next one is, that below the user's home.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import numba
from llvmlite.binding import add_symbol
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.runtime import _nrt_python

from nblstm.kernels.cpu.machine import NO_TILES

FOLDER = Path(__file__).parents[1]  # of the kernels
SWITCHES = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE")  # of numba


def _digest() -> str:
    """A digest of all kernel sources, of the compiler and of the switches that change what they compile to."""
    switches = [NO_TILES, llvmlite.__version__, *(getattr(numba.config, name, None) for name in SWITCHES)]
    digest = hashlib.blake2b(f"{switches}".encode(), digest_size=16)
    for path in sorted(FOLDER.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_SOURCES = _digest()


def is_digested(part: Any) -> bool:
    """Whether a function comes from the kernels' files, and so does all that its factory has given it."""
    function = getattr(part, "py_func", getattr(part, "_defn", part))  # compiled, or an intrinsic
    if not isinstance(function, FunctionType):
        return True
    given = (cell.cell_contents for cell in function.__closure__ or ())
    return FOLDER in Path(function.__code__.co_filename).parents and all(map(is_digested, given))


def _stranger_may_write(found: os.stat_result) -> bool:
    """Whether others than this user and root can write to a file or folder, or own it."""
    if found.st_uid not in (0, os.getuid()):
        return True
    return bool(found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _is_own_group(found.st_gid)))


def _is_own_group(gid: int) -> bool:
    """Whether a group is this user's alone: it has the user's name, and no other member."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}


@cache
def written_by_others(folder: str) -> str | None:
    """The path by which others could put files into a cache folder: itself, a file in it or a folder above; or None.

    In a sticky folder, such as /tmp, nobody can replace what is another's, so one may stand above.
    """
    if not hasattr(os, "getuid"):  # Windows, where the cache is below the user's home
        return None
    path = os.path.realpath(folder)
    above = {str(parent) for start in (path, os.path.abspath(folder)) for parent in Path(start).parents}
    for parent in sorted(above):
        found = os.stat(parent)
        if _stranger_may_write(found) and not found.st_mode & stat.S_ISVTX:
            return parent
    if _stranger_may_write(os.stat(path)):
        return path
    with os.scandir(path) as entries:
        files = (entry for entry in entries if entry.name.endswith((".nbi", ".nbc")))
        return next((entry.path for entry in files if _stranger_may_write(entry.stat(follow_symlinks=False))), None)


def _owned(locator: Any) -> Any:
    """One of numba's kinds of cache folder, passed over where others can write to it."""

    class Owned(locator):
        @classmethod
        def from_function(cls, function: Any, file: str) -> Any:
            found = super().from_function(function, file)
            return None if found is None or KernelCache.refuses(found.get_cache_path()) else found

    return Owned


class _Folders(FunctionCache._impl_class):
    """Where numba puts a function's cache."""

    _locator_classes = [_owned(locator) for locator in FunctionCache._impl_class._locator_classes]


@cache
def _name_helpers() -> None:
    """Tell LLVM the addresses of what code from the cache calls: the half of numba's runtime that need not be compiled."""
    for name, address in _nrt_python.c_helpers.items():
        add_symbol(name if name.startswith("_") else f"NRT_{name}", address)


class _Entries(IndexDataCacheFile):
    """The files of a function's cache, each with what its code was made of and for."""

    def save(self, key: Any, data: Any) -> None:
        """Store the code for a key."""
        super().save(key, (self._source_stamp, key, data))

    def load(self, key: Any) -> Any:
        """The code for a key; None where there is none."""
        stamp, own, data = super().load(key) or (None, None, None)
        return data if (stamp, own) == (self._source_stamp, key) else None


class KernelCache(FunctionCache):
    """numba's on-disk cache of one function: stale after an edit of any kernel file, silent when it fails.

    Functions made by one factory are told apart by their names, see `named`.
    """

    _impl_class = _Folders
    on_compile: Callable[[], None] | None = None  # called before the first compilation: lets a caller say why it waits
    refusal: str | None = None  # a sentence for the user, where a folder is not used

    @staticmethod
    def refuses(folder: str) -> bool:
        """Whether a cache folder is not used, because others can write to it: then `refusal` says so."""
        path = written_by_others(str(folder))
        if path is not None and KernelCache.refusal is None:
            KernelCache.refusal = (
                f"the kernel cache {folder} is not used, as others can write to {path}; take that right from them, or "
                "set NUMBA_CACHE_DIR to a folder of your own."
            )
        return path is not None

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        if self.refuses(self._cache_path):  # of a kind that NUMBA_CACHE_LOCATOR_CLASSES names
            raise PermissionError(self._cache_path)
        self._cache_file = _Entries(self._cache_path, self._impl.filename_base, _SOURCES)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """What tells compiled versions apart: types and machine. The source is in the stamp, a closure in the name."""
        return sig, codegen.magic_tuple()

    def lacks(self, sig: Any, target_context: Any) -> bool:
        """Whether there is no code for these types."""
        try:
            return self._cache_file.load(self._index_key(sig, target_context.codegen())) is None
        except Exception:
            return True

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None where the cache has none or cannot be read.

        Without `target_context.refresh`, which imports all that numba can compile, and scipy: compiling does so itself.
        """
        found = None
        try:
            _name_helpers()
            with self._guard_against_spurious_io_errors():
                found = self._load_overload(sig, target_context)
        except Exception:  # truncated, foreign or unreadable: start this function's cache afresh
            self._forget()
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
