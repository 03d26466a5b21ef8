"""``fnckpt inspect``."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from fnckpt.cli.registry import command
from fnckpt.showing.file_table import FileTable
from fnckpt.visible import visible


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--stats", action="store_true", help="of a checkpoint: range, mean, norm, NaNs"
    )
    parser.add_argument(
        "--tree", action="store_true", help="of a checkpoint: the bytes of each part"
    )
    parser.add_argument("--json", action="store_true", help="for programs: one JSON document")


@command(
    "inspect", "show what a checkpoint, a .mindir, .onnx, .air or .meta file holds", _arguments
)
def inspect(options: argparse.Namespace) -> int:
    from fnckpt.showing.inspect import inspect_file, statistics, tree

    if options.stats or options.tree:
        tables = [*([tree(options.file)] if options.tree else [])]
        tables += [statistics(options.file)] if options.stats else []
    else:
        tables = inspect_file(options.file)
    show(tables, as_json=options.json)
    return 0


def show(tables: Sequence[FileTable], *, as_json: bool) -> None:
    """Print tables for people or for programs."""
    from fnckpt.showing.tables import print_table

    if as_json:
        print(json.dumps([table.document() for table in tables], indent=1))
        return
    for table in tables:
        print(visible(table.title))
        print_table(table.columns(), table.texts())
