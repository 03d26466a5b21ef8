"""``fnckpt demo``."""

import argparse
from pathlib import Path

from fnckpt.cli.registry import command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--directory", type=Path, default=Path("demo_output"))
    parser.add_argument("--epochs", type=int, default=12)


@command("demo", "train on digits, export three formats, run them", _arguments)
def demo(options: argparse.Namespace) -> int:
    from fnckpt.demo import run_demo
    from fnckpt.showing.tables import print_table

    result, rows = run_demo(options.directory, epochs=options.epochs)
    names = ", ".join(path.name for path in result.checkpoints)
    print(f"\nCheckpoints in {options.directory}: {names}\n")
    header = ("file", "bytes", "nodes", "runtime", "accuracy", "max error")
    print_table(header, [row.cells() for row in rows])
    return 0
