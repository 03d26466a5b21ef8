"""The command line, ``fnckpt COMMAND``; each command is a module of this package.

Exit codes: 0 it is so, 1 what was asked is not so (``check``, ``diff``), 2 a wrong call, a file
that is none, a failing disk, or a function that cannot be exported.
"""

import argparse
import os
import sys
from collections.abc import Sequence

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
from fnckpt.visible import visible

__all__ = ["checking", "converting", "diffing", "exports", "inspection", "main", "running"]
__all__ += ["training", "viewing"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = parser().parse_args(arguments)
    if options.debug:
        return options.command(options)
    try:
        return options.command(options)
    except BrokenPipeError:  # the reader, `| head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (FnckptError, ValueError, OSError, RuntimeError) as error:
        print(visible(f"fnckpt: {error}", lines=True), file=sys.stderr)
    except ModuleNotFoundError as error:
        hint = "install it, for all at once: pip install 'fnckpt[demo]'"
        print(f"fnckpt: {error}; {hint}", file=sys.stderr)
    return 2


def parser() -> argparse.ArgumentParser:
    """The parser of all commands, from the table of them."""
    whole = argparse.ArgumentParser(
        prog="fnckpt",
        description="Train JAX functions, keep checkpoints, export MindIR, ONNX, AIR.",
        epilog="Exit codes: 0 yes, 1 no (check, diff), 2 a wrong call or a bad file.",
    )
    whole.add_argument("--debug", action="store_true", help="show where an error was raised")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        part = commands.add_parser(name, help=command.help, description=command.help)
        command.configure(part)
        part.set_defaults(command=command.run)
    return whole
