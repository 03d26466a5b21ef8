"""Where the time of an exported file goes: ONNX Runtime's own profile, ours beside jax2onnx's.

For each network of ``benchmarks.zoo``, with ONNX Runtime's optimizations off and on, the
milliseconds of each operator in one run. Products (Conv, ConvTranspose, Gemm, MatMul, Einsum) are
what no exporter can leave out: "floor" is their time in the faster of the two files, over all time
of jax2onnx's file. A bar below the floor cannot be met by a better graph.

With ``--jax`` instead: jitted JAX beside our file, and which operators of it alone, and which
single node of it, take longer than JAX's whole function: there XLA makes one loop of several
operators, or has a faster one, and no graph of these operators is as fast.

Run: pip install -e '.[bench]'; python -m benchmarks.exported_profile [--kept DIR]
     pip install -e '.[bench]'; python -m benchmarks.exported_profile --jax
"""

import argparse
import json
import math
import statistics
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import onnxruntime as ort

from benchmarks import needs
from benchmarks.exported import (
    EXPORTERS,
    OPSET,
    child,
    export_ours,
    latencies,
    options,
    runner,
)
from benchmarks.zoo import SMALL_ONES, ZOO

PRODUCTS = frozenset(
    {"Conv", "ConvTranspose", "Einsum", "FusedConv", "FusedMatMul", "Gemm", "MatMul"}
)
RUNS, WARM = 12, 3
SHOWN = 6  # operators


def kernels(path: Path, inputs: Sequence[np.ndarray], optimized: bool) -> list[tuple[str, float]]:
    """The operator of each node that ONNX Runtime runs, and its milliseconds in one run."""
    chosen = options(optimized)
    chosen.enable_profiling = True
    chosen.profile_file_prefix = str(path.with_suffix(""))
    session = ort.InferenceSession(path, chosen, providers=["CPUExecutionProvider"])
    feed = {node.name: x for node, x in zip(session.get_inputs(), inputs, strict=True)}
    for _ in range(WARM + RUNS):
        session.run(None, feed)
    events = json.loads(Path(session.end_profiling()).read_text())
    timed = [e for e in events if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
    each = len(timed) // (WARM + RUNS)
    runs = [timed[i : i + each] for i in range(WARM * each, len(timed), each)]
    return [
        (same[0]["args"]["op_name"], statistics.median(e["dur"] for e in same) / 1000)
        for same in zip(*runs, strict=True)
    ]


def profile(path: Path, inputs: Sequence[np.ndarray], optimized: bool) -> dict[str, float]:
    """Milliseconds of each operator in one run."""
    spent: Counter[str] = Counter()
    for op, ms in kernels(path, inputs, optimized):
        spent[op] += ms
    return dict(spent)


def products(spent: dict[str, float]) -> float:
    return sum(ms for op, ms in spent.items() if op in PRODUCTS)


def told(spent: dict[str, float]) -> str:
    largest = Counter(spent).most_common(SHOWN)
    return f"{sum(spent.values()):7.1f} ms: " + ", ".join(f"{op} {ms:.1f}" for op, ms in largest)


def show(name: str, directory: Path) -> dict[bool, float]:
    """Print one network's profiles; the floors, by whether ONNX Runtime optimizes."""
    paths = {who: directory / f"{name}-{who}.onnx" for who in EXPORTERS}
    for who, path in paths.items():
        if not path.exists():
            child("--export", who, name, str(path))
    loads = not isinstance(child("--load", str(paths["theirs"])), str)
    _, _, inputs = ZOO[name]()
    print(f"\n{name}" + ("" if loads else ": jax2onnx's file does not load"), flush=True)
    floors: dict[bool, float] = {}
    for optimized in (False, True):
        there = {who: path for who, path in paths.items() if who == "ours" or loads}
        found = {who: profile(path, inputs, optimized) for who, path in there.items()}
        for who, spent in found.items():
            print(f"  {'optimized' if optimized else 'literal':9} {who:6} {told(spent)}")
        if loads:
            least = min(products(spent) for spent in found.values())
            floors[optimized] = least / sum(found["theirs"].values())
            print(f"  floor {floors[optimized]:.2f}", flush=True)
    return floors


def show_beside_jax(name: str, directory: Path) -> None:
    """Print what of our file takes longer than all of jitted JAX."""
    params, apply_fn, inputs = ZOO[name]()
    path = directory / f"{name}-ours.onnx"
    export_ours(params, apply_fn, inputs, path, OPSET)
    jitted = jax.jit(apply_fn)
    turns = {
        "ours": runner(path, inputs, True),
        "jax": lambda: jax.block_until_ready(jitted(params, *inputs)),
    }
    found = {who: 1000 * statistics.median(s) for who, s in latencies(turns, 9).items()}
    ratio = found["ours"] / found["jax"]
    print(f"\n{name}: {found['ours']:.3f} ms, jitted JAX {found['jax']:.3f}, ratio {ratio:.2f}")
    if ratio <= 1:
        return
    each = kernels(path, inputs, True)
    spent = profile(path, inputs, True)
    print(f"  {len(each)} kernels, {told(spent)}")
    longer = [f"{op} {ms:.3f}" for op, ms in Counter(spent).most_common() if ms > found["jax"]]
    print("  operators that alone take longer than JAX: " + (", ".join(longer) or "none"))
    op, ms = max(each, key=lambda pair: pair[1])
    print(f"  the slowest node: {op} {ms:.3f} ms, {ms / found['jax']:.2f} of JAX", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(ZOO))
    parser.add_argument("--kept", type=Path, help="files of exported.py --keep")
    parser.add_argument("--jax", action="store_true", help="beside jitted JAX, the small ones")
    given = parser.parse_args()
    if given.jax:
        with tempfile.TemporaryDirectory() as directory:
            for name in given.networks or SMALL_ONES:
                show_beside_jax(name, Path(directory))
        return
    needs.jax2onnx()
    floors: list[dict[bool, float]] = []
    for name in given.networks or ZOO:
        with tempfile.TemporaryDirectory() as directory:
            floors.append(show(name, given.kept or Path(directory)))
    for optimized in (False, True):
        values = [each[optimized] for each in floors if optimized in each]
        mean = statistics.geometric_mean(values) if values else math.nan
        print(f"floor, {'optimized' if optimized else 'literal'}: geometric mean {mean:.2f}")


if __name__ == "__main__":
    main()
