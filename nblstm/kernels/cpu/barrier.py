"""A barrier for threads that run compiled code side by side: each waits, spinning, until all have arrived.

For waits of microseconds only, where waking a sleeping thread would cost more than the work. All parts must
be running: `threads.run_cooperatively` sees to that. On a machine busy with other work a part may be pushed aside for
milliseconds, at every barrier again: so long waits are summed up, and a kernel of many steps ends early (`crowded`).

Two parts may stand on one core while another is idle: a virtual machine whose idle cores are halted wakes a thread where
it slept, and moves it some milliseconds later. They then wait for each other's turns, until one of them moves (`step_aside`).

counter (4,) int64, zeros at first: arrivals; nanoseconds of long waits; whether to end; where part 0 was, a core's number and 1.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nblstm.kernels.cpu.jit import inlined, shared
from nblstm.kernels.cpu.machine import PLAIN
from nblstm.kernels.cpu.vectors import pointer

SPINS = 20_000  # looks at the counter, some 20 microseconds, before giving way
CROWDED = 2_000_000  # nanoseconds of long waits in one call that mean fewer free cores than parts
LINUX, MOST_CORES = sys.platform == "linux", 1024  # that the system is asked about
ASIDE = 100_000  # nanoseconds of long waits that mean that parts may share a core
CLOCK = time.CLOCK_MONOTONIC if os.name == "posix" and sys.maxsize > 2**32 else 0  # its number, 0 for none


@intrinsic
def _arrive(typingctx, counter):
    """counter[0] += 1, seen by all threads; the old value"""

    def codegen(context, builder, sig, args):
        address = pointer(context, builder, sig.args[0], args[0], ir.IntType(64)(0))
        return builder.atomic_rmw("add", address, ir.IntType(64)(1), "seq_cst")

    return types.int64(counter), codegen


@intrinsic
def _arrived(typingctx, counter):
    """counter[0], as the other threads left it"""

    def codegen(context, builder, sig, args):
        address = pointer(context, builder, sig.args[0], args[0], ir.IntType(64)(0))
        return builder.load_atomic(address, "seq_cst", 8)

    return types.int64(counter), codegen


@intrinsic
def _yield(typingctx):
    """let another thread run on this core"""

    def codegen(context, builder, sig, args):
        if os.name == "posix":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _core(typingctx):
    """the number of the core that this thread is on, from 0; -1 where nobody tells"""

    def codegen(context, builder, sig, args):
        if not LINUX:
            return ir.IntType(64)(-1)
        kind = ir.FunctionType(ir.IntType(32), [])
        function = cgutils.get_or_insert_function(builder.module, kind, "sched_getcpu")
        return builder.sext(builder.call(function, []), ir.IntType(64))

    return types.int64(), codegen


@intrinsic
def _leave(typingctx, core):
    """move this thread from a core to another one that it may run on, if there is one; it may run on all of them again then"""

    def codegen(context, builder, sig, args):
        if LINUX:
            i32, i64 = ir.IntType(32), ir.IntType(64)
            all_ = cgutils.alloca_once(builder, ir.ArrayType(i64, MOST_CORES // 64))
            kind = ir.FunctionType(i32, [i32, i64, all_.type])
            take, give = (
                cgutils.get_or_insert_function(builder.module, kind, f"sched_{verb}affinity") for verb in ("get", "set")
            )
            size, zero = i64(MOST_CORES // 8), i32(0)
            word = builder.gep(all_, [zero, builder.trunc(builder.lshr(args[0], i64(6)), i32)])
            bit = builder.shl(i64(1), builder.and_(args[0], i64(63)))
            with builder.if_then(builder.icmp_signed("==", builder.call(take, [zero, size, all_]), zero)):
                builder.store(builder.and_(builder.load(word), builder.not_(bit)), word)
                builder.call(give, [zero, size, all_])
                builder.store(builder.or_(builder.load(word), bit), word)
                builder.call(give, [zero, size, all_])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def _nanoseconds(typingctx):
    """a steady clock, 0 where there is none to call"""

    def codegen(context, builder, sig, args):
        i64 = ir.IntType(64)
        if not CLOCK:
            return i64(0)
        time = cgutils.alloca_once(builder, ir.ArrayType(i64, 2))  # struct timespec
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32), time.type])
        function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(function, [ir.IntType(32)(CLOCK), time])
        seconds, nanoseconds = (builder.extract_value(builder.load(time), k) for k in range(2))
        return builder.add(builder.mul(seconds, i64(10**9)), nanoseconds)

    return types.int64(), codegen


@shared
def barrier(counter, parts, round_):
    """Wait until all `parts` threads have come here for the round_-th time (from 1)."""
    if parts > 1:
        _arrive(counter)
        turns = 0
        while turns < SPINS and _arrived(counter) < parts * round_:
            turns += 1
        if turns == SPINS:  # more threads than free cores, or an interrupt: the others need this core
            started = _nanoseconds()
            while _arrived(counter) < parts * round_:
                _yield()
            if round_ > 1:  # before, others may only have been waking up
                counter[1] += _nanoseconds() - started  # two at once may count as one: it is a hint


@inlined
def crowded(counter, part):
    """Part 0 decides, ahead of a barrier, whether all parts should end behind it: counter[2] then says so."""
    if part == 0 and counter[1] > CROWDED:
        counter[2] = 1


@shared
def step_aside(counter, part, waited):
    """Let a part leave the core of part 0 where long waits have grown by ASIDE since `waited` of them; returns those now."""
    if counter[1] - waited <= ASIDE:
        return waited
    core = _core()
    if part == 0:
        counter[3] = core + 1
    elif counter[3] == core + 1 and 0 <= core < MOST_CORES:
        _leave(core)
    return counter[1]


if PLAIN:  # the same for kernels that run as Python, whose additions are no single instructions
    _adding = threading.Lock()

    def _core():
        return -1

    def barrier(counter, parts, round_):
        if parts > 1:
            with _adding:
                counter[0] += 1
            while counter[0] < parts * round_:
                time.sleep(0)
