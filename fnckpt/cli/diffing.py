"""``fnckpt diff``."""

import argparse
from pathlib import Path

from fnckpt.cli.inspection import show
from fnckpt.cli.registry import command

SAME = {  # by whether they were run, and whether they are graphs of a training step
    (True, False): "give the same numbers for the same random inputs, but for rounding",
    (False, True): "have the same inputs, outputs, operators, attributes and constants",
    (False, False): "hold the same",
}


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
    runnable = suffixes <= {f".{name.lower()}" for name in TARGETS}
    one_format = not runnable or len(suffixes) == 1
    table = differences(options.a, options.b) if one_format else None
    if runnable and (table is None or not table.rows):
        table = ran(options.a, options.b)
    assert table is not None
    if not table.rows and not options.json:
        print(f"{options.a} and {options.b} {SAME[runnable, options.a.suffix == '.meta']}")
        return 0
    show([table], as_json=options.json)
    return 1 if table.rows else 0
