"""What float16 and bfloat16 cost in accuracy and save in bytes, over the networks of the zoo.

Claims: where weights are most of a file, it has at most 0.55 of the float32 one's bytes; the
greatest difference from jitted JAX over the greatest number, in ONNX Runtime on the CPU, is below
1e-2 in float16 and below 1e-1 in bfloat16. Prints a row for each network and type, with the
operators that stayed in float32.

Run: pip install -e '.[run]'; python -m benchmarks.precision [--networks ViT-S BERT-base]
"""

import argparse
import tempfile
from pathlib import Path

import jax
import numpy as np

import fnckpt
from benchmarks.zoo import ZOO
from fnckpt.exporting.narrowing import greatest_error
from fnckpt.exporting.runtimes import run_onnx

LIMITS = {"float16": 1e-2, "bfloat16": 1e-1}


def rows(name: str, directory: Path) -> list[str]:
    """A line of the table for each type."""
    params, apply_fn, inputs = ZOO[name]()
    given = [np.asarray(x) for x in jax.tree.leaves(inputs)]
    wanted = [np.asarray(x) for x in jax.tree.leaves(jax.jit(apply_fn)(params, *inputs))]
    single = fnckpt.export(params, apply_fn, inputs, "ONNX", file_name=directory / name)
    found = []
    for dtype, limit in LIMITS.items():
        half = fnckpt.export(
            params, apply_fn, inputs, "ONNX", file_name=directory / dtype, dtype=dtype
        )
        error = greatest_error(run_onnx(half, given), wanted)
        assert half.narrowing is not None
        kept = ", ".join(f"{count} {op}" for op, count in half.narrowing.kept.items())
        held = "" if error < limit else " MISSED"
        found.append(
            f"| {name} | {dtype} | {half.bytes / single.bytes:.2f} | {error:.0e}{held} | {kept} |"
        )
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=list(ZOO), choices=list(ZOO))
    print("| network | type | bytes | error | in float32 |\n|---|---|---|---|---|")
    for name in parser.parse_args().networks:
        with tempfile.TemporaryDirectory() as directory:
            print(*rows(name, Path(directory)), sep="\n", flush=True)


if __name__ == "__main__":
    main()
