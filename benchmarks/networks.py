"""Networks of other people, exported to every format and run where that is read.

    pip install -e '.[networks,run,mindspore]'
    python -m benchmarks.networks [NAME ...]

For each network and format: nodes, transposes left, the greatest difference from JAX relative to
the greatest number, and the seconds of the export. Where jax2onnx is installed (the extra
``bench``), the same of its file.
"""

import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np

import fnckpt
from fnckpt.exporting.runtimes import RUNTIMES, is_installed
from fnckpt.ir.targets import target
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


def of_the_peer(network: Network, path: Path) -> str:
    """The line of jax2onnx's file, or what kept it from being right."""
    import jax2onnx
    import onnx

    params, apply, inputs = network
    wanted = [np.asarray(leaf) for leaf in jax.tree.leaves(apply(params, *inputs))]
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs]
    start = time.perf_counter()
    try:
        jax2onnx.to_onnx(
            lambda *args: apply(params, *args), shapes, return_mode="file", output_path=str(path)
        )
        seconds = time.perf_counter() - start
        found = RUNTIMES["ONNX"][1](path, inputs)
    except Exception as error:
        return f"fails: {type(error).__name__}: {str(error).splitlines()[0][:90]}"
    if [x.shape for x in found] != [x.shape for x in wanted]:
        return f"differs: shapes {[x.shape for x in found]}"
    errors = [
        np.abs(a.astype(np.float64) - b).max() / np.abs(b).max()
        for a, b in zip(found, wanted, strict=True)
    ]
    model = onnx.load(path)
    nodes = [n.op_type for part in (model.graph, *model.functions) for n in part.node]
    return (
        f"{len(nodes):5} nodes           {nodes.count('Transpose'):3} transposes  "
        f"error {max(errors):.1e}  {seconds:5.1f} s"
    )


def main() -> None:
    """Print the table."""
    names = sys.argv[1:] or list(OTHERS)
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            made = OTHERS[name]()
            for file_format in filter(is_installed, RUNTIMES):
                line = measured(made, file_format, Path(directory, name))
                print(f"{name:22}{file_format:9}{line}", flush=True)
            if find_spec("jax2onnx"):
                line = of_the_peer(made, Path(directory, f"{name}.peer.onnx"))
                print(f"{name:22}jax2onnx {line}", flush=True)


if __name__ == "__main__":
    main()
