"""``fnckpt run``."""

import argparse
from pathlib import Path

from fnckpt.cli.registry import command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "inputs", type=Path, help="an .npz: arrays by the names of the inputs, or in order"
    )
    parser.add_argument(
        "--runtime", choices=("jax",), help="jax: instead of the runtime of the format"
    )
    parser.add_argument("-o", "--output", type=Path, help="write the outputs to this .npz")


@command("run", "run a .onnx, .mindir or .air file on the arrays of an .npz", _arguments)
def run(options: argparse.Namespace) -> int:
    from fnckpt.checkpoints.formats import npz
    from fnckpt.exporting.run import run_named
    from fnckpt.importing.running import computed
    from fnckpt.showing.tables import print_table

    outputs = run_named(
        options.model, npz.read(options.inputs), computed if options.runtime else None
    )
    if options.output is not None:
        npz.write(outputs, options.output)
    rows = [
        (name, x.dtype.name, "x".join(map(str, x.shape)) or "scalar", _first(x))
        for name, x in outputs.items()
    ]
    print_table(("output", "dtype", "shape", "first elements"), rows)
    return 0


def _first(x: object) -> str:
    import numpy as np

    few = np.asarray(x).reshape(-1)[:4]
    return " ".join(f"{value:.6g}" for value in few.tolist())
