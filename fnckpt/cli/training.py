"""``fnckpt demo``."""

import argparse
from pathlib import Path

from fnckpt.cli.registry import command
from fnckpt.extras import install, require


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--directory", type=Path, default=Path("demo_output"))
    parser.add_argument("--epochs", type=int, default=12)


@command("demo", "train on digits, export three formats, run them", _arguments)
def demo(options: argparse.Namespace) -> int:
    for module in ("sklearn", "rich"):
        require(module, "the demo")
    from fnckpt.demo import NOT_INSTALLED, run_demo
    from fnckpt.exporting.runtimes import RUNTIMES
    from fnckpt.showing.tables import print_table

    result, rows = run_demo(options.directory, epochs=options.epochs)
    names = ", ".join(path.name for path in result.checkpoints)
    print(f"\nCheckpoints in {options.directory}: {names}\n")
    header = ("file", "bytes", "nodes", "runtime", "accuracy", "max error")
    print_table(header, [row.cells() for row in rows])
    for row in rows:
        if row.runtime == NOT_INSTALLED:
            runtime, _ = RUNTIMES[Path(row.file).suffix.removeprefix(".").upper()]
            print(f"{row.file} was not run: {install(runtime)}")
    return 0
