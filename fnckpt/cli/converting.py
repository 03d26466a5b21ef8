"""``fnckpt convert``."""

import argparse
from pathlib import Path

from fnckpt.cli.registry import command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="of a graph's format, such as opset=18",
    )  # fmt: skip


@command("convert", "a checkpoint or a graph from one format to another", _arguments)
def convert(options: argparse.Namespace) -> int:
    """Between .ckpt, .safetensors, .npz and an Orbax directory, or from .onnx to a graph."""
    from fnckpt.importing.converting import convert

    extra = dict(each.partition("=")[::2] for each in options.option)
    values = {name: int(text) if text.isdecimal() else text for name, text in extra.items()}
    convert(options.source, options.destination, **values)
    return 0
