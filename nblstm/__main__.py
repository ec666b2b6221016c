"""The `nblstm` command, also as `python -m nblstm`: Ctrl-C is one line, even while Python still imports."""

import os
import signal
import sys


def main() -> None:
    """Run the command and exit with its code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, _leave)
    from nblstm.cli.main import run

    code = run()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing but the end is left
    sys.exit(code)


def _leave(number: int, frame: object) -> None:
    """End at once: nothing has been done yet."""
    os.write(2, b"Error: interrupted.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
