"""The `nblstm` command, also as `python -m nblstm`: Ctrl-C is one line, even while Python still imports."""

import os
import sys
from _signal import SIG_IGN, SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

# An interrupt before main() listens is a traceback: little is imported until then, not even `signal`.


def main() -> None:
    """Run the command and exit with its code."""
    if getsignal(SIGINT) is default_int_handler:  # not where it is ignored
        signal(SIGINT, _leave)
    from nblstm.cli.main import run

    code = run()
    signal(SIGINT, SIG_IGN)  # nothing but the end is left
    exec("")  # Python ends `-m` with a signal, not a code, if an interrupt came in the last text that was executed
    sys.exit(code)


def _leave(number: int, frame: object) -> None:
    """End at once: nothing has been done yet."""
    os.write(2, b"Error: interrupted.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
