"""The `nblstm` command: the group, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any

import click

from nblstm.errors import ConfigError, NblstmError
from nblstm.version import __version__

COMMANDS = {
    "train": "train", "sample": "sample", "write": "write", "score": "score", "eval": "evaluate", "report": "report",
    "plot": "plot", "info": "info",
    "warmup": "warmup",
}  # fmt: skip
USAGE, FAILURE, INTERRUPTED = 2, 1, 130


class _Commands(click.Group):
    """The commands by name, each imported when it is asked for, so that starting one is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"nblstm.cli.{COMMANDS[name]}").command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return 0  # the reader has had enough, as in `nblstm sample | head`; click would exit with 1


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "NBLSTM", "max_content_width": 100},
    invoke_without_command=True,
    epilog="Every option can be set by an environment variable: --hidden-size of train by NBLSTM_TRAIN_HIDDEN_SIZE.",
)
@click.version_option(__version__, prog_name="nblstm")
@click.pass_context
def nblstm(ctx: click.Context) -> None:
    """Train LSTM language models on text, and let them write.

    \b
    nblstm train corpus.txt      learn; writes model.safetensors
    nblstm sample -n 100         write 100 tokens
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated."""
    code = _run(args)
    _tell_refusal()
    _close_stdout()
    sys.exit(code)


def _run(args: list[str] | None) -> int:
    try:
        if sys.stdout is None:
            raise NblstmError("standard output is closed; redirect it to a file or to /dev/null.")
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # a model may write what the terminal's encoding lacks
        result = nblstm.main(args, prog_name="nblstm", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except NblstmError as error:
        return _fail(str(error), USAGE if isinstance(error, ConfigError) else FAILURE)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted.", INTERRUPTED)
    except MemoryError:
        return _fail("there is not enough memory; lower --batch-size, --bptt or --hidden-size.", FAILURE)
    except OSError as error:
        return _fail(f"{error.filename or 'writing the output'}: {error.strerror or error}.", FAILURE)


def _fail(message: str, code: int) -> int:
    try:
        click.echo(f"Error: {' '.join(message.splitlines())}", err=True)
    except (OSError, ValueError):
        pass
    return code


def _tell_refusal() -> None:
    """A line where the kernels' cache was not used, because others can write to it; without it every start is slow."""
    jit = sys.modules.get("nblstm.kernels.jit")
    if jit is not None and getattr(jit, "KernelCache", None) and jit.KernelCache.refusal:
        with contextlib.suppress(OSError, ValueError):
            click.echo(jit.KernelCache.refusal, err=True)


def _close_stdout() -> None:
    """Nothing that is still buffered may fail at exit, when no one can report it any more."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
