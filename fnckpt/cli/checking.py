"""``fnckpt check``."""

import argparse
import json
from pathlib import Path

from fnckpt.cli.registry import command
from fnckpt.visible import visible


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="for programs: one JSON document")


@command("check", "say whether a file is valid for its loader; exit code 1 if not", _arguments)
def check(options: argparse.Namespace) -> int:
    from fnckpt.showing.inspect import check_file

    problems = check_file(options.file)
    if options.json:
        print(json.dumps({"file": str(options.file), "problems": problems}, indent=1))
        return 1 if problems else 0
    for problem in problems:
        print(visible(f"{options.file}: {problem}"))
    if not problems:
        print(visible(f"{options.file}: good"))
    return 1 if problems else 0
