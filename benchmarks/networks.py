"""Networks of other people, exported to every format and run where that is read.

    pip install -e '.[networks,run,mindspore]'
    python -m benchmarks.networks [NAME ...]

For each network and format: nodes, transposes left, the greatest difference from JAX relative to
the greatest number, and the seconds of the export.
"""

import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

import fnckpt
from fnckpt.ir.targets import target
from fnckpt.runtimes import RUNTIMES, is_installed
from tests.networks.others import OTHERS
from tests.networks.zoo import Network


def measured(network: Network, file_format: str, path: Path) -> str:
    """The line of one file."""
    params, apply, inputs = network
    wanted = [np.asarray(leaf) for leaf in jax.tree.leaves(apply(params, *inputs))]
    result = fnckpt.export(params, apply, inputs, file_format, file_name=path)
    found = RUNTIMES[file_format][1](result.path, inputs)
    errors = [
        np.abs(a.astype(np.float64) - b).max() / np.abs(b).max()
        for a, b in zip(found, wanted, strict=True)
    ]
    nodes = target(file_format).summarize(result.path).nodes
    transposes = sum("ranspose" in node.op for node in nodes)
    return (
        f"{result.nodes:5} of {result.traced_nodes:5} nodes  {transposes:3} transposes  "
        f"error {max(errors):.1e}  {result.seconds:5.1f} s"
    )


def main() -> None:
    """Print the table."""
    names = sys.argv[1:] or list(OTHERS)
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            made = OTHERS[name]()
            for file_format in filter(is_installed, RUNTIMES):
                line = measured(made, file_format, Path(directory, name))
                print(f"{name:22}{file_format:8}{line}", flush=True)


if __name__ == "__main__":
    main()
