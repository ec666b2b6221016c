"""The `nblstm` command, also as `python -m nblstm`: Ctrl-C is one line, even while Python still imports."""

import os
import sys
from _signal import SIG_IGN, SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

# An interrupt before main() listens is a traceback: little is imported until then, not even `signal`.

GARBAGE = 200_000  # objects made before Python looks for garbage: a start makes so many, and throws none away
BLAS_PATIENCE = "20"  # that NumPy's threads wait for work without sleeping: 2 to the power of it, in processor cycles


def main() -> None:
    """Run the command and exit with its code."""
    if getsignal(SIGINT) is default_int_handler:  # not where it is ignored
        signal(SIGINT, _leave)
    import gc

    gc.set_threshold(GARBAGE)
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", BLAS_PATIENCE)  # by default a thread spins for a whole start
    from nblstm.cli.main import run

    code = run()
    signal(SIGINT, SIG_IGN)  # nothing but the end is left
    _end(code)


def _leave(number: int, frame: object) -> None:
    """End at once: nothing has been done yet."""
    os.write(2, b"Error: interrupted.\n")
    os._exit(128 + number)


def _is_watched() -> bool:
    """Tell whether a profiler, a debugger or a person at a prompt waits for the end of the command."""
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
    tools = map(monitoring.get_tool, range(6)) if monitoring else ()
    return bool(sys.gettrace() or sys.getprofile() or sys.flags.inspect or any(tools))


def _end(code: int) -> None:
    """End with an exit code: as Python does, but without taking all modules apart, a tenth of a short command's time."""
    if "mpi4py" in sys.modules or _is_watched():  # MPI ends where Python does
        exec("")  # Python ends `-m` with a signal, not a code, if an interrupt came in the last text that was executed
        sys.exit(code)
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):  # nobody reads it any more
                pass
    os._exit(code)


if __name__ == "__main__":
    main()
