"""What narrow types cost in accuracy and save in bytes and time, over the networks of the zoo.

Claims: where weights are most of a file, it has at most 0.55 of the float32 one's bytes; the
greatest difference from jitted JAX over the greatest number, in ONNX Runtime on the CPU, is below
1e-2 in float16 and below 1e-1 in bfloat16. Prints a row for each network and type: the bytes, and
the time of a call in turns with the float32 file, as ratios; the error; and the operators that
stayed in float32. int8 and int4 are of the weights of matrix products alone, "int8, all" of the
weights and activations, calibrated with the one input that is measured.

Run: pip install -e '.[run,quantize]'; python -m benchmarks.precision [--networks ViT-S BERT-base]
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnxruntime as ort

import fnckpt
from benchmarks.zoo import ZOO
from fnckpt.exporting.narrowing import greatest_error
from fnckpt.exporting.runtimes import run_onnx

LIMITS = {"float16": 1e-2, "bfloat16": 1e-1}
SECONDS, LEAST = 4.0, 5  # of the turns of a type, and how many turns there are at least


def rows(name: str, directory: Path) -> list[str]:
    """A line of the table for each type."""
    params, apply_fn, inputs = ZOO[name]()
    given = [np.asarray(x) for x in jax.tree.leaves(inputs)]
    wanted = [np.asarray(x) for x in jax.tree.leaves(jax.jit(apply_fn)(params, *inputs))]

    def exported(kind: str, **how: Any) -> fnckpt.ExportResult:
        return fnckpt.export(
            params, apply_fn, inputs, "ONNX", file_name=directory / f"{name}-{kind}", **how
        )

    single, found = exported("float32"), []
    integers = {kind: {"quantize": kind} for kind in ("int8", "int4")}
    calibrated = {"int8, all": {"quantize": fnckpt.Calibration([inputs])}}
    for kind, how in ({kind: {"dtype": kind} for kind in LIMITS} | integers | calibrated).items():
        try:
            file = exported(kind, **how)
        except ValueError as error:  # nothing to store as integers
            found.append(f"| {name} | {kind} | {str(error).splitlines()[0]} | | | |")
            continue
        error = greatest_error(run_onnx(file, given), wanted)
        kept = "" if file.narrowing is None else ", ".join(
            f"{count} {op}" for op, count in file.narrowing.kept.items()
        )  # fmt: skip
        held = "" if error < LIMITS.get(kind, np.inf) else " MISSED"
        size, spent = file.bytes / single.bytes, latency(file.path, single.path, given)
        found.append(f"| {name} | {kind} | {size:.2f} | {spent:.2f} | {error:.0e}{held} | {kept} |")
    return found


def latency(one: Path, other: Path, given: Sequence[np.ndarray]) -> float:
    """The median of the ratios of the time of a call, in turns."""
    sessions = [
        ort.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (one, other)
    ]
    names = [[node.name for node in session.get_inputs()] for session in sessions]
    feeds = [dict(zip(each, given, strict=True)) for each in names]
    ratios: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(ratios) < LEAST + 1 or time.perf_counter() < end:
        spent = [0.0, 0.0]
        for place in random.sample((0, 1), 2):
            start = time.perf_counter()
            sessions[place].run(None, feeds[place])
            spent[place] = time.perf_counter() - start
        ratios.append(spent[0] / spent[1])
    return statistics.median(ratios[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=list(ZOO), choices=list(ZOO))
    print("| network | type | bytes | time | error | in float32 |\n|---|---|---|---|---|---|")
    for name in parser.parse_args().networks:
        with tempfile.TemporaryDirectory() as directory:
            print(*rows(name, Path(directory)), sep="\n", flush=True)


if __name__ == "__main__":
    main()
