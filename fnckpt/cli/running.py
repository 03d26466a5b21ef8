"""``fnckpt run``."""

import argparse
from pathlib import Path

from fnckpt.cli.registry import command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "inputs", type=Path, help="an .npz: arrays by the names of the inputs, or in order"
    )
    parser.add_argument("-o", "--output", type=Path, help="write the outputs to this .npz")
    parser.add_argument("--json", action="store_true", help="for programs: one JSON document")


@command("run", "run a .onnx, .mindir or .air file on the arrays of an .npz", _arguments)
def run(options: argparse.Namespace) -> int:
    from fnckpt.checkpoints.formats import npz
    from fnckpt.cli.inspection import show
    from fnckpt.exporting.run import run_named
    from fnckpt.showing.file_table import Elements, FileTable

    outputs = run_named(options.model, npz.read(options.inputs))
    if options.output is not None:
        npz.write(outputs, options.output)
    rows = [
        (name, x.dtype.name, x.shape, Elements(x.reshape(-1)[:4].tolist()))
        for name, x in outputs.items()
    ]
    header = ("output", "dtype", "shape", "first elements")
    show([FileTable("outputs", "outputs", header, rows)], as_json=options.json)
    return 0
