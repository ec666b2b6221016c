"""A barrier for threads that run compiled code side by side: each waits, spinning, until all have arrived.

For waits of microseconds only, where waking a sleeping thread would cost more than the work. All parts must
be running: `threads.together` sees to that.
"""

from __future__ import annotations

import os

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nblstm.kernels.jit import PLAIN, jit
from nblstm.kernels.vectors import pointer

SPINS = 1000  # looks at the counter, some microseconds, before giving way


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


@jit
def barrier(counter, parts, round_):
    """Wait until all `parts` threads have come here for the round_-th time (from 1). counter (1,) int64 starts at 0."""
    if parts > 1:
        _arrive(counter)
        turns = 0
        while _arrived(counter) < parts * round_:
            turns += 1
            if turns > SPINS:  # more threads than cores: the others need this one
                _yield()


if PLAIN:

    def barrier(counter, parts, round_):
        """Kernels that run as Python run on one thread: nobody to wait for."""
