"""`jit`: numba.njit as every kernel uses it, with a cache that notices edits and never raises.

numba's own cache (`cache=True`) looks at one file's time stamp, so an edit in a file whose functions were
inlined goes unseen; it raises at import where no folder is writable, and at the call where a file is
truncated. Here the stamp is a digest of every kernel file, and any failure of the cache means compiling.

What the cache holds is unpickled, which can run anything. So a folder is only used where nobody but this user and root
can have written to it; else numba's next one is, that below the user's home.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite.binding import add_symbol, ffi, get_host_cpu_features
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.runtime import rtsys

from nblstm.interrupts import held
from nblstm.kernels.compiling import counted

PLAIN = bool(numba.config.DISABLE_JIT)  # kernels run as Python: vectors are NumPy slices, tiles plain loops
NO_TILES = PLAIN or os.environ.get("NBLSTM_TILES") == "off"  # compiled, but with plain loops for products


def features() -> str:
    """What the machine that is compiled for has, as LLVM spells it: "+avx2,+fma,..."."""
    if numba.config.CPU_FEATURES is not None:
        return numba.config.CPU_FEATURES
    return ",".join("+" + name for name, on in get_host_cpu_features().items() if on)


def _digest() -> str:
    """A digest of all kernel sources and of the switches that change what they compile to."""
    digest = hashlib.blake2b(f"{NO_TILES}".encode(), digest_size=16)
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_SOURCES = _digest()


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
        self._cache_file._source_stamp = _SOURCES

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """What tells compiled versions apart: types and machine. The source is in the stamp, a closure in the name."""
        return sig, codegen.magic_tuple()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None where the cache has none or cannot be read.

        Without `target_context.refresh`, which imports all that numba can compile, and scipy: compiling does so itself.
        """
        found = None
        try:
            rtsys.initialize(target_context)  # what code from the cache calls
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


def _take_compiler() -> None:
    """Wait until no thread compiles, then keep all from it: a child in which a lost one did would wait for ever."""
    global_compiler_lock.acquire()
    _LLVM_LOCK.__enter__()


def _give_compiler() -> None:
    """Let threads compile again: in the parent, and in the child, whose only thread is the one that has taken it."""
    _LLVM_LOCK.__exit__(None, None, None)
    global_compiler_lock.release()


_LLVM_LOCK = getattr(ffi.lib, "_lock", None) or nullcontext()  # llvmlite's own, around each of its calls
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take_compiler, after_in_parent=_give_compiler, after_in_child=_give_compiler)


class _Library(JITCodeLibrary):
    """The code of one function, without what numba does to it twice.

    Its passes over single functions come before those over the module, which begin with the same; each of the functions
    that are only named, such as Python's, costs as much as one that is there.
    """

    def __init__(self, codegen: Any, name: str, calls: list[Any]) -> None:
        super().__init__(codegen, name)
        self.calls = calls  # the addresses of shared functions that the code needs

    def add_linking_library(self, library: Any) -> None:
        super().add_linking_library(library)
        self.calls += [address for address in getattr(library, "calls", ()) if address not in self.calls]

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout


class _Compiler(Compiler):
    """numba's compiler, with libraries of ours."""

    def compile_extra(self, func: Any) -> Any:
        """Compile a function from Python."""
        calls = self.state.reload_init  # what is stored with the code, and called before it is loaded
        self.state.library = _Library(self.state.targetctx.codegen(), func.__qualname__, calls)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a kernel on its first call: no GIL, IEEE division, a*b+c contracted, cached on disk.

    _nrt: numba counts no references. Whoever calls a kernel holds its arrays, and a kernel makes none; counting them would
    cost two atomic additions for every array that is handed on, and compiling them a tenth of the time.
    """
    if PLAIN:
        return _without_warnings(function)
    dispatcher = numba.njit(
        nogil=True, error_model="numpy", fastmath={"contract"}, _nrt=False, no_cfunc_wrapper=True, pipeline_class=_Compiler,
        **options,
    )(function)  # fmt: skip
    dispatcher.get_call_template = _without_literals(dispatcher.get_call_template)
    dispatcher.compile = _uninterrupted(dispatcher)
    try:
        dispatcher._cache = KernelCache(function)
    except Exception:  # no folder to write to: compile in every process
        pass
    return dispatcher


def _without_warnings(function: Callable[..., Any]) -> Any:
    """The function as Python: integers wrap around and floats overflow without a word, as where it is compiled."""

    @functools.wraps(function)
    def quiet(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args)

    return quiet


def named(function: Callable[..., Any], name: str, compile: Callable[..., Any] = jit) -> Any:
    """`jit`, or `shared`, of a function that a factory has made, under a name of its own: the cache tells it apart by that."""
    function.__name__ = function.__qualname__ = name
    return compile(function)


# ---------------------------------------------------------------- functions that stand alone


def inlined(function: Callable[..., Any]) -> Any:
    """`jit` of a function that only kernels call, which is compiled into each of them: Python has no way to it."""
    compiled = jit(function, no_cpython_wrapper=True)
    if not PLAIN:
        compiled.add_overload = lambda found: compiled.overloads.update({found.signature.args: found})
        compiled._compile_for_args = _for_kernels_alone
    return compiled


def _for_kernels_alone(*args: Any, **keywords: Any) -> Any:
    raise TypeError("only kernels can call this function.")


def shared(function: Callable[..., Any]) -> Any:
    """`inlined` for a long function that many kernels call: compiled once, and no copy into each of them.

    A caller's code holds a name, for which LLVM must know the address before it loads the code (`_Address`). The
    function must not raise.
    """
    compiled = inlined(function)
    if not PLAIN:
        _SHARED[f"{function.__module__}.{function.__name__}"] = compiled
        compiled.get_overload = lambda kinds: _caller(compiled, kinds)
    return compiled


_SHARED: dict[str, Any] = {}  # name -> compiled function


class _Address(NamedTuple):
    """Tells LLVM where a shared function stands that is compiled for these types, when it is called."""

    name: str
    kinds: tuple[Any, ...]

    @property
    def symbol(self) -> str:
        """What callers name it by, in every process."""
        return f"{self.name}{self.kinds}"

    def __call__(self) -> None:
        compiled = _SHARED[self.name]
        compiled.compile(self.kinds)
        found = compiled.overloads[self.kinds]
        add_symbol(self.symbol, found.library.get_pointer_to_function(found.fndesc.llvm_func_name))


def _caller(compiled: Any, kinds: tuple[Any, ...]) -> Any:
    """What numba writes a call of a shared function with: the key of its way to do so."""
    address = _Address(f"{compiled.py_func.__module__}.{compiled.py_func.__name__}", kinds)
    address()

    def call(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        calls = getattr(context.active_code_library, "calls", [])
        if address not in calls:
            calls.append(address)
        kind = context.call_conv.get_function_type(sig.return_type, sig.args)
        callee = cgutils.get_or_insert_function(builder.module, kind, address.symbol)
        return context.call_conv.call_function(builder, callee, sig.return_type, sig.args, values)[1]

    compiled.targetctx.insert_func_defn([(call, address, kinds)])
    return address


def _uninterrupted(dispatcher: Any) -> Callable[..., Any]:
    """Compiling with signals held back: LLVM calls back into Python, where an exception raised by one would be lost."""
    compile = dispatcher.compile

    def compiled(signature: Any) -> Any:
        with held(), counted(), _garbage_kept():
            result = compile(signature)
        for found in dispatcher.overloads.values():
            found.library.calls = found.reload_init  # that of a library from the cache, too
        return result

    return compiled


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Collect no garbage: looking for it takes a tenth of the time, among the many objects that compiling makes."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def made_once(factory: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The factory, which gives all threads the same kernel for an argument; without a lock, so nobody waits for one."""
    made: dict[Any, Any] = {}
    return lambda key: made[key] if key in made else made.setdefault(key, factory(key))


def _without_literals(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """Calls with the constants 0, 1 or 64 share one compiled kernel instead of having one each."""

    def resolved(args: Any, kws: Any) -> Any:
        plain = numba.core.types.unliteral
        return resolve(tuple(map(plain, args)), {name: plain(kind) for name, kind in kws.items()})

    return resolved
