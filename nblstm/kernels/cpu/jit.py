"""`jit`: numba.njit as every kernel uses it, with a cache of its own (`kernel_cache`)."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite.binding import add_symbol, ffi
from numba.core import cgutils
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock

from nblstm.interrupts import held
from nblstm.kernels.compiling import counted
from nblstm.kernels.cpu.kernel_cache import KernelCache, is_digested
from nblstm.kernels.cpu.machine import PLAIN
from nblstm.kernels.cpu.team import Context, by_team


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
        self.state.targetctx = Context.of(self.state.targetctx)
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
    dispatcher.team = by_team
    if is_digested(function):
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
