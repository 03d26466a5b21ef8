"""``fnckpt diff``."""

import argparse
from pathlib import Path

from fnckpt.cli.inspection import show
from fnckpt.cli.registry import command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("--json", action="store_true", help="for programs: one JSON document")


@command("diff", "what differs between two checkpoints or two graphs; 1 if anything", _arguments)
def diff(options: argparse.Namespace) -> int:
    from fnckpt.ir.targets import TARGETS
    from fnckpt.showing.diff import differences
    from fnckpt.showing.ran import ran

    suffixes = {options.a.suffix, options.b.suffix}
    graphs = suffixes <= {f".{name.lower()}" for name in TARGETS}
    by_running = graphs and len(suffixes) == 2
    table = (ran if by_running else differences)(options.a, options.b)
    if not table.rows and not options.json:
        print(f"{options.a} and {options.b} hold the same")
        return 0
    show([table], as_json=options.json)
    return 1 if table.rows else 0
