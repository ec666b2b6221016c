"""Teams: threads that wait in compiled code for their part of a kernel's work, so that sharing it takes a microsecond.

A pool of Python's wakes a sleeping thread for each call, which then waits for the GIL: 35 microseconds pass before the
second part begins, and 30 more until its end is noticed. Here numba's wrapper of a kernel (`Convention`) unboxes the
arguments, releases the GIL and publishes them in a frame. Each helper looks at a word of its own, and calls the kernel
with its share. One that has found nothing for a while falls asleep, and is woken with the next call; the leader does
a part that has not been begun when its own is done, so nobody waits for a helper that is late. Whoever does it, a part
is the same, and so are the results.

The words of a team, int64: those of a barrier (nobody waits there), RUN and FRAME, the code and the arguments that are
published, LEAD, the code that leads, PARTS, DONE, of the others' parts; from PART on, STRIDE words for each part: whether
it is there for the taking, and where it starts and stops. Those that different threads look at lie in different cache lines.
"""

from __future__ import annotations

import copy
import ctypes
import os
import platform
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.callconv import RETCODE_NONE, RETCODE_OK, CPUCallConv, excinfo_ptr_t
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext
from numba.core.registry import cpu_target

from nblstm.interrupts import held

_I32, _I64, _POINTER = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
_VOID = ir.VoidType()
SHARE_LENGTH = 4 + 7  # arguments that a share is to compiled code: four numbers, and what numba tells of an array
ALONE = 4  # words of a share's counter where the caller wants no team
RUN, FRAME, LEAD, PARTS, DONE, PART = 16, 17, 18, 19, 32, 48
STRIDE, START, STOP = 16, 1, 2
LOOKS = 10_000  # at a word, some 200 microseconds, before a helper goes to sleep: spinning longer slows a busy machine
PATIENCE = 1000  # looks at DONE before the leader gives way to whoever needs its core
LEAD_NAME, HELP_NAME = "nblstm_lead", "nblstm_help"
IS_X86 = platform.machine() in ("x86_64", "AMD64")
_RUN = ir.FunctionType(_VOID, [_POINTER, *[_I64] * 4])  # a part: of (frame, *share)
_LEAD = ir.FunctionType(_VOID, [_I64.as_pointer(), _RUN.as_pointer(), _POINTER])


# ---------------------------------------------------------------- a kernel's wrapper


class Convention(CPUCallConv):
    """How numba's wrapper calls a kernel: at once, or as often as there are parts, where its share has a team."""

    def call_function(self, builder, callee, resty, argtys, args, attrs=None):
        if resty != types.none or not _is_share(argtys[-1]):
            return super().call_function(builder, callee, resty, argtys, args, attrs)
        _leave_as_it_is(builder.function)
        share, flat = args[-1], list(self._get_arg_packer(argtys).as_arguments(builder, args))
        kind = ir.LiteralStructType([*(value.type for value in flat), _I32, excinfo_ptr_t])
        place = cgutils.alloca_once(builder, kind)
        for number, value in enumerate(flat):
            builder.store(value, cgutils.gep_inbounds(builder, place, 0, number))
        code, error = (cgutils.gep_inbounds(builder, place, 0, len(flat) + k) for k in range(2))
        builder.store(RETCODE_NONE, code)
        run, frame = _part(builder.module, callee, kind), builder.bitcast(place, _POINTER)
        counter = self.context.make_array(argtys[-1].types[-1])(self.context, builder, builder.extract_value(share, 4))
        with builder.if_else(builder.icmp_signed("<=", counter.nitems, counter.nitems.type(ALONE))) as (
            alone,
            together,
        ):
            with alone:
                builder.call(run, [frame, *(builder.extract_value(share, k) for k in range(4))])
            with together:
                lead = builder.inttoptr(builder.load(builder.gep(counter.data, [_I64(LEAD)])), _LEAD.as_pointer())
                builder.call(lead, [counter.data, run, frame])
        status = self._get_return_status(builder, builder.load(code), builder.load(error))
        return status, self.context.get_dummy_value()


def _leave_as_it_is(function: ir.Function) -> None:
    """Let LLVM not optimize what runs once a call: that takes longer than all else that a wrapper needs."""
    function.attributes.add("noinline")
    function.attributes.add("optnone")


def _part(module: ir.Module, callee: Any, kind: ir.LiteralStructType) -> ir.Function:
    """Write the function that runs a part of a kernel, whose flat arguments, code and error are in a frame."""
    run = ir.Function(module, _RUN, f"{callee.name}.part")
    run.linkage = "internal"
    _leave_as_it_is(run)
    builder = ir.IRBuilder(run.append_basic_block("entry"))
    frame = builder.bitcast(run.args[0], kind.as_pointer())
    *places, code, error = (cgutils.gep_inbounds(builder, frame, 0, k) for k in range(len(kind.elements)))
    first = len(places) - SHARE_LENGTH
    args = [*map(builder.load, places[:first]), *run.args[1:], *map(builder.load, places[first + 4 :])]
    result = builder.alloca(callee.args[0].type.pointee)
    found = builder.call(callee, [result, error, *args])
    sound = [builder.icmp_signed("==", found, good) for good in (RETCODE_OK, RETCODE_NONE)]
    with builder.if_then(builder.not_(builder.or_(*sound))):
        builder.store(found, code)
    builder.ret_void()
    return run


def _is_share(kind: Any) -> bool:
    """Whether a type is that of `threads.Share`, as a plain tuple."""
    return isinstance(kind, types.Tuple) and kind.types[:4] == (types.int64,) * 4 and len(kind) == 5


class Context(CPUContext):
    """numba's, whose wrappers know teams."""

    _wraps = False

    @classmethod
    def of(cls, context: CPUContext) -> Context:
        """Return a copy for one compilation."""
        own = copy.copy(context)
        own.__class__ = cls
        return own

    @property
    def call_conv(self):
        return Convention(self) if self._wraps else CPUCallConv(self)

    def create_cpython_wrapper(self, *args, **options):
        self._wraps = True
        super().create_cpython_wrapper(*args, **options)
        self._wraps = False


# ---------------------------------------------------------------- leading and helping


class _Writer:
    """Writes the LLVM of a function of (words, ...)."""

    def __init__(self, module: ir.Module, name: str, kind: ir.FunctionType) -> None:
        self.function = ir.Function(module, kind, name)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))

    def word(self, place: Any) -> Any:
        """The address of a word."""
        return self.builder.gep(self.function.args[0], [place if isinstance(place, ir.Value) else _I64(place)])

    def of_part(self, part: Any, place: int = 0) -> Any:
        """The address of a word of a part."""
        return self.word(self.builder.add(self.builder.mul(part, _I64(STRIDE)), _I64(PART + place)))

    def now(self, address: Any) -> Any:
        """A word as other threads left it."""
        return self.builder.load_atomic(address, "seq_cst", 8)

    def call(self, run: Any, frame: Any, part: Any) -> None:
        """Run a part."""
        start, stop = (self.builder.load(self.of_part(part, k)) for k in (START, STOP))
        self.builder.call(run, [frame, part, start, stop, _I64(1)])

    @contextmanager
    def if_taken(self, part: Any) -> Iterator[None]:
        """A block for a part that was there for the taking, which counts it as done at its end."""
        bd = self.builder
        found = bd.atomic_rmw("xchg", self.of_part(part), _I64(0), "seq_cst")
        with bd.if_then(bd.icmp_signed("==", found, _I64(1))):
            yield
            bd.atomic_rmw("add", self.word(DONE), _I64(1), "seq_cst")

    @contextmanager
    def looking(self, condition: Callable[[Any], Any]) -> Iterator[Any]:
        """A loop as long as condition(the address of the number of turns); it tells the processor that it waits."""
        bd, (look, body, end) = (
            self.builder,
            (self.builder.append_basic_block(name) for name in ("look", "body", "end")),
        )
        turns = cgutils.alloca_once_value(bd, _I64(0))
        bd.branch(look)
        bd.position_at_end(look)
        bd.cbranch(condition(turns), body, end)
        bd.position_at_end(body)
        bd.store(bd.add(bd.load(turns), _I64(1)), turns)
        if IS_X86:
            bd.call(cgutils.get_or_insert_function(bd.module, ir.FunctionType(_VOID, []), "llvm.x86.sse2.pause"), [])
        yield turns
        bd.branch(look)
        bd.position_at_end(end)


def _lead(module: ir.Module) -> None:
    """lead(words, run, frame): publish, run part 0 and those that nobody takes, wait for the others."""
    writer = _Writer(module, LEAD_NAME, _LEAD)
    bd, (_, run, frame) = writer.builder, writer.function.args
    parts = bd.load(writer.word(PARTS))
    for pointer, place in ((run, RUN), (frame, FRAME)):
        bd.store(bd.ptrtoint(pointer, _I64), writer.word(place))
    bd.store_atomic(_I64(0), writer.word(DONE), "seq_cst", 8)
    with cgutils.for_range(bd, parts, start=_I64(1), intp=_I64) as loop:
        bd.store_atomic(_I64(1), writer.of_part(loop.index), "seq_cst", 8)
    writer.call(run, frame, _I64(0))
    with cgutils.for_range(bd, parts, start=_I64(1), intp=_I64) as loop, writer.if_taken(loop.index):
        writer.call(run, frame, loop.index)
    others = bd.sub(parts, _I64(1))
    with writer.looking(lambda turns: bd.icmp_signed("<", writer.now(writer.word(DONE)), others)) as turns:
        if os.name == "posix":
            with bd.if_then(bd.icmp_signed(">", bd.load(turns), _I64(PATIENCE))):
                bd.call(cgutils.get_or_insert_function(module, ir.FunctionType(_I32, []), "sched_yield"), [])
    bd.ret_void()


def _help(module: ir.Module) -> None:
    """help(words, part): run the part whenever it is there for the taking; return when it has not been for long."""
    writer = _Writer(module, HELP_NAME, ir.FunctionType(_VOID, [_I64.as_pointer(), _I64]))
    bd, part = writer.builder, writer.function.args[1]
    there = lambda: bd.icmp_signed("==", writer.now(writer.of_part(part)), _I64(1))
    with writer.looking(lambda turns: bd.icmp_signed("<", bd.load(turns), _I64(LOOKS))) as turns:  # noqa: SIM117
        with bd.if_then(there()), writer.if_taken(part):
            run = bd.inttoptr(bd.load(writer.word(RUN)), _RUN.as_pointer())
            writer.call(run, bd.inttoptr(bd.load(writer.word(FRAME)), _POINTER), part)
            bd.store(_I64(0), turns)
    bd.ret_void()


@cache
def _native() -> tuple[int, Callable[[int, int], None]]:
    """The address of lead, and help."""
    codegen = cpu_target.target_context.codegen()
    with held(), global_compiler_lock:
        library, module = codegen.create_library("nblstm team"), ir.Module("nblstm team")
        _lead(module)
        _help(module)
        library.add_ir_module(module)
        library.finalize()
        lead, help = map(library.get_pointer_to_function, (LEAD_NAME, HELP_NAME))
    return lead, ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(help)


# ---------------------------------------------------------------- threads


class _Helper:
    """The thread that does a part of a team's work: in compiled code while there is some, asleep when there is none."""

    def __init__(self, words: np.ndarray, part: int) -> None:
        self.asleep, self.bed = False, threading.Lock()
        self.bed.acquire()
        threading.Thread(target=self._work, args=(words, part), daemon=True, name="nblstm").start()

    def _work(self, words: np.ndarray, part: int) -> None:
        help, address = _native()[1], words.ctypes.data
        while True:
            help(address, part)
            self.asleep = True  # if the next part has just been published, the leader does it
            self.bed.acquire()

    def wake(self) -> None:
        """Let it look for work again. The leader calls this."""
        if self.asleep:
            self.asleep = False
            self.bed.release()


class Team:
    """The words and the helpers of one caller at a time, for a number of parts."""

    def __init__(self, parts: int) -> None:
        self.words = np.zeros(PART + parts * STRIDE, np.int64)
        self.words[LEAD], self.words[PARTS] = _native()[0], parts
        self._numbers = memoryview(self.words)  # which take a number in a tenth of the time
        self.helpers = [_Helper(self.words, part) for part in range(1, parts)]

    def share(self, edges: Sequence[int]) -> tuple[Any, ...]:
        """Return what a kernel is called with for all parts, from edges[part] to edges[part + 1]; wake who is asleep."""
        numbers = self._numbers
        for place, start, stop in zip(range(PART, len(numbers), STRIDE), edges, edges[1:]):
            numbers[place + START], numbers[place + STOP] = start, stop
        for helper in self.helpers:
            helper.wake()
        return 0, 0, 0, 1, self.words


_free: dict[int, deque[Team]] = {}  # parts -> teams that nobody has


def by_team(kernel: Callable[..., None], edges: Sequence[int], args: tuple[Any, ...]) -> None:
    """Call kernel(*args, share) for every part, from edges[part] to edges[part + 1], by a team that is free or a new one."""
    parts = len(edges) - 1
    free = _free.setdefault(parts, deque())
    try:
        own = free.pop()
    except IndexError:
        own = Team(parts)
    try:
        kernel(*args, own.share(edges))
    finally:
        free.append(own)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free.clear)  # a child has none of their threads
