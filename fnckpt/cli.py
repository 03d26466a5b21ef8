"""The command line: ``fnckpt demo | inspect | check | convert``."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fnckpt.errors import FnckptError

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 is success, 1 a fault in a file, 2 a wrong call or a failing disk."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    if options.debug:
        return command(options)
    try:
        return command(options)
    except (FnckptError, ValueError, OSError) as error:
        print(f"fnckpt: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"fnckpt: {error}; install it, for all at once: pip install 'fnckpt[demo]'",
              file=sys.stderr)  # fmt: skip
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fnckpt",
        description="Train JAX functions, keep checkpoints, export MindIR, ONNX, AIR.",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error was raised")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train on digits, export three formats, run them")
    demo.add_argument("--directory", type=Path, default=Path("demo_output"))
    demo.add_argument("--epochs", type=int, default=12)
    demo.set_defaults(command=_demo)

    inspect = commands.add_parser("inspect", help="show what a file holds")
    inspect.add_argument("file", type=Path)
    inspect.set_defaults(command=_inspect)

    check = commands.add_parser("check", help="tell whether a file is valid for its loader")
    check.add_argument("file", type=Path)
    check.set_defaults(command=_check)

    convert = commands.add_parser(
        "convert", help="between .ckpt, .safetensors, .npz and an Orbax directory"
    )
    convert.add_argument("source", type=Path)
    convert.add_argument("destination", type=Path)
    convert.set_defaults(command=_convert)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from fnckpt.demo import run_demo
    from fnckpt.tables import print_table

    result, rows = run_demo(options.directory, epochs=options.epochs)
    print(
        f"\nCheckpoints in {options.directory}: {', '.join(p.name for p in result.checkpoints)}\n"
    )
    header = ("file", "bytes", "nodes", "runtime", "accuracy", "max error")
    print_table(header, [row.cells() for row in rows])
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from fnckpt.inspecting import inspect_file
    from fnckpt.tables import print_table

    for table in inspect_file(options.file):
        print(table.title)
        print_table(table.header, table.rows)
    return 0


def _check(options: argparse.Namespace) -> int:
    from fnckpt.inspecting import check_file

    problems = check_file(options.file)
    for problem in problems:
        print(f"{options.file}: {problem}")
    if not problems:
        print(f"{options.file}: good")
    return 1 if problems else 0


def _convert(options: argparse.Namespace) -> int:
    from fnckpt.convert import convert

    convert(options.source, options.destination)
    return 0
