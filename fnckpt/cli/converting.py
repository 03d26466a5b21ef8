"""``fnckpt convert``."""

import argparse
from pathlib import Path

from fnckpt.cli.registry import command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)


@command("convert", "between .ckpt, .safetensors, .npz and an Orbax directory", _arguments)
def convert(options: argparse.Namespace) -> int:
    from fnckpt.checkpoints import convert

    convert.convert(options.source, options.destination)
    return 0
