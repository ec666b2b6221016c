"""The `nblstm` command: the group, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import codecs
import importlib
import os
import sys
from typing import Any

import click
from nblstm.cli import ranks
from nblstm.cli.names import meant_command, misspelt_variables
from nblstm.cli.shown import say
from nblstm.cli.signals import exit_code, raising
from nblstm.cli.spelling import in_options

from nblstm.errors import ConfigError, NblstmError
from nblstm.version import __version__

COMMANDS = {  # name -> module
    "train": "train",
    "sweep": "sweep",
    "sample": "sample",
    "write": "write",
    "score": "score",
    "classify": "classify",
    "translate": "translate",
    "tag": "tag",
    "eval": "evaluate",
    "adapt-prepare": "adapt_prepare",
    "report": "report",
    "plot": "plot",
    "info": "info",
    "quantize": "quantize",
    "prune": "prune",
    "export": "export",
    "import": "import_",
    "serve": "serve",
    "forecast": "forecast",
    "warmup": "warmup",
}
USAGE, FAILURE = 2, 1


class _Commands(click.Group):
    """The commands by name, each imported when it is asked for, so that starting one is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"nblstm.cli.{COMMANDS[name]}").command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if ctx.resilient_parsing:  # a shell completes a line
            return super().resolve_command(ctx, args)
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            meant = meant_command(args[0], COMMANDS)
            ctx.fail(
                f"there is no command {args[0]!r}"
                + (f"; did you mean {meant}?" if meant else "; nblstm -h lists them.")
            )
        name, command, rest = super().resolve_command(ctx, args)
        for sentence in misspelt_variables(os.environ, COMMANDS, name or "", command or self):
            _say(sentence)
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return 0  # the reader has had enough, as in `nblstm sample | head`; click would exit with 1
        except KeyboardInterrupt:
            return _fail("interrupted.", exit_code())  # click would write an empty line before
        except NblstmError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "") or self
            return _fail_with(error, in_options(str(error), command))


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
    sys.exit(run(args))


def run(args: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    REPLACING.used = False
    try:
        ranks.begin(sys.argv[1:] if args is None else args)
        with raising():
            code = _run(args)
    except KeyboardInterrupt:  # a second one, while the first was told; or one while the handlers change
        code = exit_code()
    except Exception:
        if not ranks.has_left():
            raise
        import traceback

        code = _fail(traceback.format_exc(), FAILURE)
    _tell_refusal()
    _close_stdout()
    ranks.end(code, interrupted=code > 128)
    if REPLACING.used:
        _say(f"note: standard output is {sys.stdout.encoding} and lacks some of these characters; '?' stands for each.")
    return code


def _run(args: list[str] | None) -> int:
    try:
        if sys.stdout is None:
            raise NblstmError("standard output is closed; redirect it to a file or to /dev/null.")
        _open_stdout()
        result = nblstm.main(args, prog_name="nblstm", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except NblstmError as error:
        return _fail_with(error, str(error))
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted.", exit_code())
    except MemoryError:
        return _fail("there is not enough memory; lower --batch-size, --bptt or --hidden-size.", FAILURE)
    except OSError as error:
        return _fail(f"{error.filename or 'writing the output'}: {error.strerror or error}.", FAILURE)


def _fail_with(error: NblstmError, message: str) -> int:
    return _fail(message, USAGE if isinstance(error, ConfigError) else FAILURE)


def _fail(message: str, code: int) -> int:
    _say(f"Error: {ranks.name()}{' '.join(message.splitlines())}")
    return code


def _say(line: str) -> None:
    """Write a line to standard error, if there is one."""
    if ranks.is_silent():
        return
    try:
        say(line, err=True)
    except (OSError, ValueError):
        pass


class _Replacing:
    """Error handler of an encoding: '?' for what it lacks. used: whether that has happened."""

    used = False

    def __call__(self, error: UnicodeError) -> tuple[str | bytes, int]:
        self.used = True
        return codecs.replace_errors(error)


REPLACING = _Replacing()
codecs.register_error("nblstm-replacing", REPLACING)


def _open_stdout() -> None:
    """Make standard output UTF-8 where it is no terminal, and let it replace what a terminal's encoding lacks."""
    if hasattr(sys.stdout, "reconfigure"):
        encoding = {} if sys.stdout.isatty() else {"encoding": "utf-8"}
        sys.stdout.reconfigure(errors="nblstm-replacing", **encoding)


def _tell_refusal() -> None:
    """Say that the kernels' cache was not used because others can write to it: without it every start is slow."""
    cache = sys.modules.get("nblstm.kernels.cpu.kernel_cache")
    if cache is not None and getattr(cache, "KernelCache", None) and cache.KernelCache.refusal:
        _say(cache.KernelCache.refusal)


def _close_stdout() -> None:
    """Flush standard output now: at exit no one could report an error any more."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
