"""Where the time of an exported file goes: ONNX Runtime's own profile, ours beside jax2onnx's.

For each network of ``benchmarks.zoo``, with ONNX Runtime's optimizations off and on, the
milliseconds of each operator in one run. Products (Conv, ConvTranspose, Gemm, MatMul, Einsum) are
what no exporter can leave out: "floor" is their time in the faster of the two files, over all time
of jax2onnx's file. A bar below the floor cannot be met by a better graph.

Run: pip install -e '.[bench]'; python -m benchmarks.exported_profile [--kept DIR]
"""

import argparse
import json
import math
import statistics
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks import needs
from benchmarks.exported import EXPORTERS, child, options
from benchmarks.zoo import ZOO

PRODUCTS = frozenset(
    {"Conv", "ConvTranspose", "Einsum", "FusedConv", "FusedMatMul", "Gemm", "MatMul"}
)
RUNS, WARM = 12, 3
SHOWN = 6  # operators


def profile(path: Path, inputs: Sequence[np.ndarray], optimized: bool) -> dict[str, float]:
    """Milliseconds of each operator in one run."""
    chosen = options(optimized)
    chosen.enable_profiling = True
    chosen.profile_file_prefix = str(path.with_suffix(""))
    session = ort.InferenceSession(path, chosen, providers=["CPUExecutionProvider"])
    feed = {node.name: x for node, x in zip(session.get_inputs(), inputs, strict=True)}
    for _ in range(WARM + RUNS):
        session.run(None, feed)
    events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [e for e in events if e["cat"] == "Node" and e["name"].endswith("_kernel_time")]
    each = len(kernels) // (WARM + RUNS)
    spent: Counter[str] = Counter()
    for event in kernels[WARM * each :]:
        spent[event["args"]["op_name"]] += event["dur"]
    return {op: total / RUNS / 1000 for op, total in spent.items()}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(ZOO), choices=list(ZOO))
    parser.add_argument("--kept", type=Path, help="files of exported.py --keep")
    given = parser.parse_args()
    needs.jax2onnx()
    floors: list[dict[bool, float]] = []
    for name in given.networks:
        with tempfile.TemporaryDirectory() as directory:
            floors.append(show(name, given.kept or Path(directory)))
    for optimized in (False, True):
        values = [each[optimized] for each in floors if optimized in each]
        mean = statistics.geometric_mean(values) if values else math.nan
        print(f"floor, {'optimized' if optimized else 'literal'}: geometric mean {mean:.2f}")


if __name__ == "__main__":
    main()
