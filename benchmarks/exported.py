"""ONNX files of ours against jax2onnx's, and against jitted JAX, in ONNX Runtime on 2 threads.

Claims, over the networks and functions of ``benchmarks.zoo``, ratios ours / theirs as medians over
turns that follow each other in random order:
  latency                        each <= 1.03, geometric mean <= 0.7
  latency, ONNX Runtime's own optimizations off      geometric mean <= 0.5
  nodes                                              geometric mean <= 0.5
  latency against jitted JAX     each <= 1.0, geometric mean <= 0.45
  seconds to export                                  geometric mean <= 0.25
  peak memory of the export      each <= 1.0; what it grows by, each <= 2 x the weights
Each export runs in a process of its own, which has imported everything, and whose peak memory is
counted; the sessions of a network take turns in one process. Both files have the opset that
jax2onnx writes by itself, or ``--opset``, so that the same runtimes read them. A network that
jax2onnx cannot export, or whose file ONNX Runtime does not load, is shown as such and has no ratio
of latency. ``--quick`` takes the small ones in one process, without memory and without sessions
that do not optimize, in 3 minutes of an idle machine. With ``--processor`` it counts processor
time, of which a busy machine takes less away, and ONNX Runtime has one thread. The last lines are
rows for the table of docs/benchmarks.md.

Run: pip install -e '.[bench]'; python -m benchmarks.exported [--quick] [--networks UNet LSTM]
"""

import argparse
import datetime
import json
import math
import random
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
from benchmarks import needs
from benchmarks.zoo import SMALL_ONES, ZOO

THREADS = 2
OPSET = 23  # the default of both
ERROR = r"[\w.]*(Error|Fail|Exception|InvalidGraph|NotImplemented): "
LEAST_SECONDS = 0.02  # of one turn of one contestant
LARGE = 50 * 1024  # KiB of weights, beside which what else an export needs is little
MOST_SECONDS = 1.0  # of the turns of one contestant with --quick


def export_ours(
    params: Any, apply_fn: Callable[..., Any], inputs: Any, path: Path, opset: int
) -> None:
    fnckpt.export(params, apply_fn, inputs, "ONNX", file_name=path, opset=opset)


def export_theirs(
    params: Any, apply_fn: Callable[..., Any], inputs: Any, path: Path, opset: int
) -> None:
    import jax2onnx

    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs]
    jax2onnx.to_onnx(
        lambda *args: apply_fn(params, *args),
        shapes,
        opset=opset,
        return_mode="file",
        output_path=str(path),
    )


EXPORTERS = {"ours": export_ours, "theirs": export_theirs}


def export_alone(who: str, name: str, path: Path, opset: int) -> dict[str, float]:
    """Seconds of one export, and by how many MiB the process's peak grew meanwhile."""
    params, apply_fn, inputs = ZOO[name]()
    if who == "theirs":
        import jax2onnx  # noqa: F401 - importing it is no part of the export
    jax.block_until_ready(params)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    EXPORTERS[who](params, apply_fn, inputs, path, opset)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params)) / 1024
    grown = (after - before) / weights if weights > LARGE else math.nan
    return {"seconds": seconds, "mib": after / 1024, "grown": grown}


def options(optimized: bool, threads: int = THREADS) -> ort.SessionOptions:
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads, chosen.inter_op_num_threads = threads, 1
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen.log_severity_level = 3
    if not optimized:
        chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return chosen


def session(path: Path, optimized: bool, threads: int = THREADS) -> ort.InferenceSession:
    chosen = options(optimized, threads)
    return ort.InferenceSession(path, chosen, providers=["CPUExecutionProvider"])


def runner(
    path: Path, inputs: Sequence[np.ndarray], optimized: bool, threads: int = THREADS
) -> Callable[[], Any]:
    ready = session(path, optimized, threads)
    feed = {node.name: x for node, x in zip(ready.get_inputs(), inputs, strict=True)}
    return lambda: ready.run(None, feed)


Clock = Callable[[], float]


def seconds_of(run: Callable[[], Any], clock: Clock = time.perf_counter) -> float:
    """The mean of as many runs as fill a turn, by ``clock``."""
    start, before, count = time.perf_counter(), clock(), 0
    while not count or time.perf_counter() - start < LEAST_SECONDS:
        run()
        count += 1
    return (clock() - before) / count


def latencies(
    contestants: dict[str, Callable[[], Any]], turns: int, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds a run, a list of turns each, in an order drawn anew; the first is not counted."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for _ in range(turns + 1):
        random.shuffle(order)
        for name in order:
            found[name].append(seconds_of(contestants[name], clock))
    return {name: seconds[1:] for name, seconds in found.items()}


def worst_error(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """The largest difference, in units of the largest number that is wanted."""
    pairs = zip(found, wanted, strict=True)
    return max(float(np.abs(a - b).max() / (np.abs(b).max() or 1)) for a, b in pairs)


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


def export_all_of_theirs(names: Sequence[str], directory: Path, opset: int) -> None:
    """Print what each took, or why it failed; it patches JAX, so that it is alone here."""
    for name in names:
        params, apply_fn, inputs = ZOO[name]()
        start = time.perf_counter()
        try:
            export_theirs(params, apply_fn, inputs, path_of(directory, name, "theirs"), opset)
        except Exception as error:  # whatever it is
            print(json.dumps(f"{type(error).__name__}: {str(error)[:90]}"), flush=True)
        else:
            print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def path_of(directory: Path, name: str, who: str) -> Path:
    return directory / f"{name}-{who}.onnx"


def run_quickly(
    name: str, directory: Path, given: argparse.Namespace, theirs: dict[str, Any] | str
) -> "Row":
    """Our export, and the turns of both files and of JAX, in this process."""
    clock, threads = (time.process_time, 1) if given.processor else (time.perf_counter, THREADS)
    params, apply_fn, inputs = ZOO[name]()
    paths = [path_of(directory, name, who) for who in EXPORTERS]
    start = time.perf_counter()
    export_ours(params, apply_fn, inputs, paths[0], given.opset)
    costs: list[dict[str, Any]] = [{"seconds": time.perf_counter() - start}]
    contestants = {"ours": runner(paths[0], inputs, True, threads)}
    failure = theirs if isinstance(theirs, str) else ""
    if not isinstance(theirs, str):
        costs.append(theirs)
        try:
            contestants["theirs"] = runner(paths[1], inputs, True, threads)
            contestants["theirs"]()
        except Exception as error:  # whatever ONNX Runtime says of it
            contestants.pop("theirs", None)
            failure = f"{type(error).__name__}: {str(error)[:90]}".replace("\n", " ")
    jitted = jax.jit(apply_fn)
    wanted = [np.asarray(x) for x in jax.tree.leaves(jitted(params, *inputs))]
    errors = {who: worst_error(run(), wanted) for who, run in contestants.items()}
    contestants["jax"] = lambda: jax.block_until_ready(jitted(params, *inputs))
    slowest = max(seconds_of(run) for run in contestants.values())
    turns = max(5, min(25, int(MOST_SECONDS / max(slowest, LEAST_SECONDS))))
    seconds = {who: np.array(v) for who, v in latencies(contestants, turns, clock).items()}
    return row_of(name, Files(paths[: len(costs)], costs, failure), seconds, errors)


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


def write(name: str, directory: Path, opset: int) -> Files:
    """Export the network with both, a process each."""
    at = ("--opset", str(opset))
    paths = {who: path_of(directory, name, who) for who in EXPORTERS}
    exports = {who: child("--export", who, name, str(path), *at) for who, path in paths.items()}
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
        }
        if "mib" in ours:
            ratios["memory"] = ours["mib"] / theirs["mib"]
    grown = files.costs[0].get("grown", math.nan)
    if not math.isnan(grown):
        ratios["grown"] = grown
    if not files.failure:
        ratios["latency"] = ratio("ours", "theirs")
        if "ours, literal" in seconds:
            ratios["literal"] = ratio("ours, literal", "theirs, literal")
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


RATIOS = ("nodes", "latency", "literal", "jax", "export", "memory", "grown")
HEAD = f"{'':16s}       nodes   transp. " + " ".join(f"{key:>8s}" for key in RATIOS) + "  ms"
BARS: dict[str, tuple[float | None, float | None]] = {  # of each network, of the geometric mean
    "nodes": (None, 0.5),
    "latency": (1.03, 0.7),
    "literal": (None, 0.5),
    "jax": (1.0, 0.45),
    "export": (None, 0.25),
    "memory": (1.0, None),
    "grown": (2.0, None),
}


def show(row: Row) -> None:
    ratios = " ".join(f"{row.ratios.get(key, math.nan):8.2f}" for key in RATIOS)
    counts = f"{row.nodes[0]:5d}/{row.nodes[1]:<5d} {row.transposes[0]:3d}/{row.transposes[1]:<3d}"
    times = "/".join(f"{ms:.3g}" for ms in row.ms)
    errors = "/".join(f"{e:.0e}" for e in row.errors)
    print(f"{row.network:16s} {counts} {ratios}  {times:20s} {errors} {row.failure}", flush=True)


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


def history(rows: Sequence[Row], what: str) -> str:
    """The row of docs/benchmarks.md: the date, how many, the means, and which are above a bar."""

    def told(key: str) -> str:
        found = {row.network: row.ratios[key] for row in rows if key in row.ratios}
        if not found:
            return " | "
        bar = BARS[key][0] or math.inf
        over = sorted(((v, n) for n, v in found.items() if v > bar), reverse=True)
        names = ", ".join(f"{name} {value:.2f}" for value, name in over)
        return f"{statistics.geometric_mean(found.values()):.2f} | {names or 'none'}"

    today = datetime.datetime.now(datetime.UTC).date()
    return f"| {today} | {what}, {len(rows)} | {told('latency')} | {told('jax')} |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(ZOO))
    parser.add_argument("--quick", action="store_true", help="the small ones, in one process")
    parser.add_argument(
        "--processor", action="store_true", help="with --quick: 1 thread, processor time"
    )
    parser.add_argument("--opset", type=int, default=OPSET)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeat", type=int, default=1, help="tables, of the same files")
    parser.add_argument("--keep", type=Path, help="where the files stay, for exported_profile")
    parser.add_argument("--export", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--all-of-theirs", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("files", nargs="*", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    needs.jax2onnx()
    if given.export:
        who, name, path = given.export
        print(json.dumps(export_alone(who, name, Path(path), given.opset)))
        return
    if given.all_of_theirs:
        export_all_of_theirs(given.networks, given.all_of_theirs, given.opset)
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
    tables = quick_tables(given) if given.quick else full_tables(given)
    for number, rows in enumerate(tables, 1):
        print(f"\ntable {number} of {given.repeat}")
        judge(rows)
    clock = ", processor time" if given.processor else ""
    what = f"{'quick' if given.quick else 'all'}{clock}, opset {given.opset}"
    print("", *(history(rows, what) for rows in tables), sep="\n")


def quick_tables(given: argparse.Namespace) -> list[list[Row]]:
    """The rows of each repetition, shown as they come."""
    tables: list[list[Row]] = [[] for _ in range(given.repeat)]
    names = given.networks or list(SMALL_ONES)
    with tempfile.TemporaryDirectory() as temporary:
        directory = given.keep or Path(temporary)
        flags = ["--all-of-theirs", str(directory), "--opset", str(given.opset)]
        command = [sys.executable, "-m", "benchmarks.exported", *flags, "--networks", *names]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        theirs = [json.loads(line) for line in done.stdout.splitlines() if line[:1] in '{"']
        for rows in tables:
            for name, cost in zip(names, theirs, strict=True):
                rows.append(run_quickly(name, directory, given, cost))
                show(rows[-1])
    return tables


def full_tables(given: argparse.Namespace) -> list[list[Row]]:
    """The rows of each repetition; a process for each export, and one for all turns."""
    tables: list[list[Row]] = [[] for _ in range(given.repeat)]
    for name in given.networks or ZOO:
        with tempfile.TemporaryDirectory() as directory:
            files = write(name, given.keep or Path(directory), given.opset)
            rows = measure(name, files, given.rounds, given.repeat)
            for table, row in zip(tables, rows, strict=True):
                table.append(row)
                show(row)
    return tables


if __name__ == "__main__":
    main()
