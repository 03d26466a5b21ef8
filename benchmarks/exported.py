"""ONNX files of ours against jax2onnx's, and against jitted JAX, in ONNX Runtime on 2 threads.

Claims, over the networks of ``benchmarks.zoo``, ratios ours / theirs as medians over rounds:
  latency                        each <= 1.03, geometric mean <= 0.8
  latency, ONNX Runtime's own optimizations off      geometric mean <= 0.5
  nodes                                              geometric mean <= 0.5
  latency against jitted JAX     each < 1.0
  seconds to export                                  geometric mean <= 0.5
  peak memory of the export      each <= 1.0
Each export runs in a process of its own, which has imported everything, and whose peak memory is
counted; the sessions of a network take turns in one process. Both files have the opset that
jax2onnx writes by itself, so that the same runtimes read them. A network that jax2onnx cannot
export, or whose file ONNX Runtime does not load, is shown as such and has no ratio of latency.

Run: pip install -e '.[bench]'; python -m benchmarks.exported [--networks UNet LSTM] [--repeat 3]
"""

import argparse
import json
import math
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime as ort

import fnckpt
from benchmarks.zoo import ZOO

THREADS = 2
OPSET = 23  # jax2onnx's default; ours is 20
ERROR = r"[\w.]*(Error|Fail|Exception|InvalidGraph|NotImplemented): "
LEAST_SECONDS = 0.15  # of one turn of one contestant


def export_ours(params: Any, apply_fn: Callable[..., Any], inputs: Any, path: Path) -> None:
    fnckpt.export(params, apply_fn, inputs, "ONNX", file_name=path, opset=OPSET)


def export_theirs(params: Any, apply_fn: Callable[..., Any], inputs: Any, path: Path) -> None:
    import jax2onnx

    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs]
    jax2onnx.to_onnx(
        lambda *args: apply_fn(params, *args),
        shapes,
        opset=OPSET,
        return_mode="file",
        output_path=str(path),
    )


EXPORTERS = {"ours": export_ours, "theirs": export_theirs}


def export_alone(who: str, name: str, path: Path) -> dict[str, float]:
    """Seconds of one export, and by how many MiB the process's peak grew meanwhile."""
    params, apply_fn, inputs = ZOO[name]()
    if who == "theirs":
        import jax2onnx  # noqa: F401 - importing it is no part of the export
    jax.block_until_ready(params)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    EXPORTERS[who](params, apply_fn, inputs, path)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mib": after / 1024, "grown": (after - before) / 1024}


def options(optimized: bool) -> ort.SessionOptions:
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads, chosen.inter_op_num_threads = THREADS, 1
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen.log_severity_level = 3
    if not optimized:
        chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return chosen


def session(path: Path, optimized: bool) -> ort.InferenceSession:
    return ort.InferenceSession(path, options(optimized), providers=["CPUExecutionProvider"])


def runner(path: Path, inputs: Sequence[np.ndarray], optimized: bool) -> Callable[[], Any]:
    ready = session(path, optimized)
    feed = {node.name: x for node, x in zip(ready.get_inputs(), inputs, strict=True)}
    return lambda: ready.run(None, feed)


def seconds_of(run: Callable[[], Any], least: float = LEAST_SECONDS) -> float:
    """The mean of as many runs as fill a turn of ``least`` seconds."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < least:
        run()
        count += 1
    return (time.perf_counter() - start) / count


def latencies(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds a run, a list of rounds each, taking turns; the first round is not counted."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, run in contestants.items():
            found[name].append(seconds_of(run))
    return {name: seconds[1:] for name, seconds in found.items()}


def worst_error(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """The largest difference, in units of the largest number that is wanted."""
    pairs = zip(found, wanted, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def run_alone(name: str, paths: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Latencies and errors of the files of one network, and of JAX."""
    params, apply_fn, inputs = ZOO[name]()
    jitted = jax.jit(apply_fn)
    wanted = [np.asarray(x) for x in jax.tree.leaves(jitted(params, *inputs))]
    contestants: dict[str, Callable[[], Any]] = {}
    for who, path in paths.items():
        contestants[who] = runner(path, inputs, True)
        contestants[f"{who}, literal"] = runner(path, inputs, False)
    errors = {who: worst_error(contestants[who](), wanted) for who in contestants}
    contestants["jax"] = lambda: jax.block_until_ready(jitted(params, *inputs))
    return {"seconds": latencies(contestants, rounds), "errors": errors}


def child(*args: str) -> dict[str, Any] | str:
    """What a process of this script's own printed, or the last line of its error."""
    command = [sys.executable, "-m", "benchmarks.exported", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if re.match(ERROR, line)]
        return [*lines, f"killed by {done.returncode}"][0]
    return json.loads(done.stdout.splitlines()[-1])


@dataclass(frozen=True)
class Row:
    """What is shown of one network; ``ratios`` has those that there are files for."""

    network: str
    nodes: tuple[int, int]
    transposes: tuple[int, int]
    ms: tuple[float, float, float]
    ratios: dict[str, float]
    errors: tuple[float, float]
    failure: str = ""


def count(path: Path) -> tuple[int, int]:
    """Nodes, functions' bodies in place of their calls, and transposes among them."""
    model = onnx.load_model(path, load_external_data=False)
    bodies = {(f.domain, f.name): f.node for f in model.functions}

    def ops(nodes: Sequence[onnx.NodeProto]) -> list[str]:
        found: list[str] = []
        for node in nodes:
            body = bodies.get((node.domain, node.op_type))
            found += [node.op_type] if body is None else ops(body)
        return found

    kinds = ops(model.graph.node)
    return len(kinds), kinds.count("Transpose")


@dataclass(frozen=True)
class Files:
    """The files of one network that were written, ours first, and what writing them took.

    ``failure`` says why jax2onnx's does not load; then it has no latency.
    """

    paths: Sequence[Path]
    costs: Sequence[dict[str, Any]]
    failure: str


def write(name: str, directory: Path) -> Files:
    """Export the network with both, a process each."""
    paths = {who: directory / f"{name}-{who}.onnx" for who in EXPORTERS}
    exports = {who: child("--export", who, name, str(path)) for who, path in paths.items()}
    ours, theirs = exports["ours"], exports["theirs"]
    if isinstance(ours, str):
        raise SystemExit(f"{name}: our export failed: {ours}")
    if isinstance(theirs, str):
        return Files([paths["ours"]], [ours], theirs)
    loads = child("--load", str(paths["theirs"]))
    return Files([*paths.values()], [ours, theirs], loads if isinstance(loads, str) else "")


def measure(name: str, files: Files, rounds: int, repeat: int) -> list[Row]:
    """Run the files that load, and JAX, in turns; a row for each time that all rounds are done."""
    there = files.paths[:1] if files.failure else files.paths
    runs = child("--run", name, "--rounds", str(rounds * repeat), *map(str, there))
    if isinstance(runs, str):
        raise SystemExit(f"{name}: a file does not run: {runs}")
    times = {who: np.array(v).reshape(repeat, rounds) for who, v in runs["seconds"].items()}
    return [
        row_of(name, files, {who: v[turn] for who, v in times.items()}, runs["errors"])
        for turn in range(repeat)
    ]


def row_of(
    name: str, files: Files, seconds: dict[str, np.ndarray], errors: dict[str, float]
) -> Row:
    """The ratios of one repetition, as medians over its rounds."""

    def ratio(a: str, b: str) -> float:
        return float(np.median(seconds[a] / seconds[b]))

    ratios = {"jax": ratio("ours", "jax")}
    nodes, transposes = zip(*map(count, files.paths), strict=True)
    if len(files.paths) > 1:
        ours, theirs = files.costs
        ratios |= {
            "nodes": nodes[0] / nodes[1],
            "export": ours["seconds"] / theirs["seconds"],
            "memory": ours["mib"] / theirs["mib"],
        }
    if not files.failure:
        ratios |= {
            "latency": ratio("ours", "theirs"),
            "literal": ratio("ours, literal", "theirs, literal"),
        }
    ms = [1000 * float(np.median(seconds.get(who, 0))) for who in ("ours", "theirs", "jax")]
    return Row(
        name,
        (nodes[0], nodes[-1] if len(nodes) > 1 else 0),
        (transposes[0], transposes[-1] if len(nodes) > 1 else 0),
        (ms[0], ms[1], ms[2]),
        ratios,
        (errors["ours"], errors.get("theirs", 0.0)),
        files.failure,
    )


RATIOS = ("nodes", "latency", "literal", "jax", "export", "memory")
HEAD = f"{'':15s}       nodes   transp. " + " ".join(f"{key:>8s}" for key in RATIOS) + "  ms"
BARS: dict[str, tuple[float | None, float | None]] = {  # of each network, of the geometric mean
    "nodes": (None, 0.5),
    "latency": (1.03, 0.8),
    "literal": (None, 0.5),
    "jax": (1.0, None),
    "export": (None, 0.5),
    "memory": (1.0, None),
}


def show(row: Row) -> None:
    ratios = " ".join(f"{row.ratios.get(key, math.nan):8.2f}" for key in RATIOS)
    counts = f"{row.nodes[0]:5d}/{row.nodes[1]:<5d} {row.transposes[0]:3d}/{row.transposes[1]:<3d}"
    times = "/".join(f"{ms:.1f}" for ms in row.ms)
    errors = "/".join(f"{e:.0e}" for e in row.errors)
    print(f"{row.network:15s} {counts} {ratios}  {times:20s} {errors} {row.failure}", flush=True)


def judge(rows: Sequence[Row]) -> None:
    """Geometric means, and whether each bar holds."""
    for key in RATIOS:
        values = {row.network: row.ratios[key] for row in rows if key in row.ratios}
        if not values:
            continue
        each, mean_bar = BARS[key]
        mean = statistics.geometric_mean(values.values())
        over = [f"{name} {value:.2f}" for name, value in values.items() if each and value > each]
        missed = bool(over) or (mean_bar is not None and mean > mean_bar)
        wanted = [f"each <= {each}" if each else "", f"mean <= {mean_bar}" if mean_bar else ""]
        told = f"wanted {', '.join(filter(None, wanted))}"
        verdict = f"MISSED {', '.join(over)}" if missed else "holds"
        worst = max(values.values())
        print(f"{key:8s} geometric mean {mean:.2f}, worst {worst:.2f}; {told}: {verdict}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(ZOO), choices=list(ZOO))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeat", type=int, default=1, help="tables, of the same files")
    parser.add_argument("--keep", type=Path, help="where the files stay, for exported_profile")
    parser.add_argument("--export", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("files", nargs="*", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.export:
        who, name, path = given.export
        print(json.dumps(export_alone(who, name, Path(path))))
        return
    if given.load:
        session(given.load, optimized=False)
        print("{}")
        return
    if given.run:
        paths = dict(zip(EXPORTERS, given.files, strict=False))
        print(json.dumps(run_alone(given.run, paths, given.rounds)))
        return
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    print(HEAD, flush=True)
    tables: list[list[Row]] = [[] for _ in range(given.repeat)]
    for name in given.networks:
        with tempfile.TemporaryDirectory() as directory:
            files = write(name, given.keep or Path(directory))
            for rows, row in zip(
                tables, measure(name, files, given.rounds, given.repeat), strict=True
            ):
                rows.append(row)
                show(row)
    for number, rows in enumerate(tables, 1):
        print(f"\ntable {number} of {given.repeat}")
        judge(rows)


if __name__ == "__main__":
    main()
