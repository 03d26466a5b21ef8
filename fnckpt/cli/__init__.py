"""The command line, ``fnckpt COMMAND``; each command is a module of this package.

Exit codes: 0 it is so, 1 what was asked is not so (``check``, ``diff``), 2 a wrong call, a file
that cannot be read, a failing disk, or a function that cannot be exported; then one line on the
stream of errors says what is wrong. 130 after Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from fnckpt.cli import (
    checking,
    converting,
    diffing,
    exports,
    inspection,
    running,
    training,
    viewing,
)
from fnckpt.cli.registry import COMMANDS
from fnckpt.errors import FnckptError
from fnckpt.extras import install
from fnckpt.visible import visible

__all__ = ["checking", "converting", "diffing", "exports", "inspection", "main", "running"]
__all__ += ["training", "viewing"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    whole = parser()
    options = whole.parse_args(arguments)
    if options.command is None:
        whole.print_help()
        return 0
    if options.debug:
        return options.command(options)
    try:
        return options.command(options)
    except KeyboardInterrupt as stop:
        print(f"fnckpt: {stop or 'stopped by Ctrl-C'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `| head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (FnckptError, ValueError, OSError, RuntimeError) as error:
        print(visible(f"fnckpt: {error}", lines=True), file=sys.stderr)
    except ModuleNotFoundError as error:
        print(f"fnckpt: {_missing(error)}", file=sys.stderr)
    return 2


def _missing(error: ModuleNotFoundError) -> str:
    """What is missing, with the command that installs it."""
    said, module = str(error), (error.name or "").partition(".")[0]
    return said if "pip install" in said or not module else f"{said}: {install(module)}"


def parser() -> argparse.ArgumentParser:
    """The parser of all commands, from the table of them."""
    whole = argparse.ArgumentParser(
        prog="fnckpt",
        description="Train JAX functions, keep checkpoints, export MindIR, ONNX, AIR.",
        epilog="Exit codes: 0 yes, 1 no (check, diff), 2 a wrong call or a bad file.",
    )
    whole.add_argument("--debug", action="store_true", help="show where an error was raised")
    whole.add_argument("--version", action="version", version=f"fnckpt {version('fnckpt')}")
    whole.set_defaults(command=None)
    commands = whole.add_subparsers(metavar="COMMAND")
    for name, command in COMMANDS.items():
        part = commands.add_parser(name, help=command.help, description=command.help)
        command.configure(part)
        part.set_defaults(command=command.run)
    return whole
