"""Loops in our files against jitted JAX, files of jax2onnx, and MindIR of MindSpore's own.

Claims, as medians of ratios ours / theirs, on 2 threads, over ``benchmarks.zoo.loops``:
  latency in ONNX Runtime against jitted JAX     each <= 1.0, recurrent networks <= 0.7
  latency against jax2onnx 0.17.1's file         each <= 0.8, where there is one
  a while loop in MindIR against the same that MindSpore exports    <= 1.0
  seconds to export and bytes of 10,000 trips against those of 10   <= 1.1
The contestants of a loop take turns in one process, a run each, in an order drawn anew. jax2onnx
pins much, so that it has a Python of its own: ``pip install jax2onnx==0.17.1 onnxruntime``.

Run: python -m benchmarks.loops --peer ~/peer/bin/python [--seconds 30] [--loops "GRU, 512 steps"]
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import fnckpt
from benchmarks.exported import ERROR, worst_error
from benchmarks.exported import runner as onnx_runner
from benchmarks.exported_mindspore import take_turns
from benchmarks.zoo.loops import LOOPS, SIDE, normal, while_of_products

MOST_OF_JAX, MOST_OF_JAX_RECURRENT, MOST_OF_PEER = 1.0, 0.7, 0.8
MOST_OF_MINDSPORE, MOST_GROWTH = 1.0, 1.1
WARM_UP, EXPORTS = 2, 5
MINDSPORE, GROWTH = "MindIR, 1,000 trips", "growth"
TRIPS, OF_MINDSPORE = (10, 100, 1000, 10_000), 1000


def by_peer(peer: str, name: str, path: Path) -> str:
    """Let jax2onnx write its file, and load it; what kept it from it."""
    write = f"from benchmarks.zoo.peer import export; export({name!r}, {str(path)!r})"
    load = f"import onnxruntime; onnxruntime.InferenceSession({str(path)!r})"
    for python, code in ((peer, write), (sys.executable, load)):
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if re.match(ERROR, line)]
            return [*lines, f"killed by {done.returncode}"][0][:300]
    return ""


def against_jax(name: str, peer: str, seconds: float) -> dict[str, Any]:
    """Seconds of a run of each, turn by turn, and errors; ``failure`` is jax2onnx's."""
    params, apply, inputs = LOOPS[name]()
    jitted = jax.jit(apply)
    wanted = [np.asarray(x) for x in jax.tree.leaves(jitted(params, *inputs))]
    with tempfile.TemporaryDirectory() as directory:
        ours, theirs = (Path(directory, f"{who}.onnx") for who in ("ours", "theirs"))
        fnckpt.export(params, apply, inputs, "ONNX", file_name=ours)
        runs: dict[str, Callable[[], Any]] = {"ours": onnx_runner(ours, inputs, True)}
        failure = by_peer(peer, name, theirs) if peer else "no Python of jax2onnx was named"
        if not failure:
            runs["jax2onnx"] = onnx_runner(theirs, inputs, True)
        errors = {who: worst_error(run(), wanted) for who, run in runs.items()}
        runs["jax"] = lambda: jax.block_until_ready(jitted(params, *inputs))
        return {"seconds": timed(runs, seconds), "errors": errors, "failure": failure}


def timed(runs: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    for run in runs.values():
        for _ in range(WARM_UP):
            run()
    return take_turns(runs, seconds)


def mindspores_own(path: Path, w: np.ndarray, inputs: tuple[np.ndarray, ...]) -> None:
    """The while loop as a cell, exported by MindSpore."""
    import mindspore as ms

    class Net(ms.nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.w = ms.Parameter(w, name="w")

        def construct(self, x: Any, trips: Any) -> Any:
            i = ms.Tensor(0, ms.int32)
            while i < trips:
                x = ms.ops.tanh(ms.ops.matmul(x, self.w))
                i = i + 1
            return x

    ms.export(Net(), *map(ms.Tensor, inputs), file_name=str(path), file_format="MINDIR")


def against_mindspore(seconds: float) -> dict[str, Any]:
    """As ``against_jax``, of the while loop in MindSpore."""
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    params, apply, inputs = while_of_products(OF_MINDSPORE)
    wanted = [np.asarray(apply(params, *inputs))]
    with tempfile.TemporaryDirectory() as directory:
        ours, theirs = (Path(directory, f"{who}.mindir") for who in ("ours", "mindspore"))
        fnckpt.export(params, apply, inputs, "MINDIR", file_name=ours)
        mindspores_own(theirs, params["w"], inputs)
        paths = {"ours": ours, "mindspore": theirs}
        nets = {who: ms.nn.GraphCell(ms.load(str(path))) for who, path in paths.items()}
        fed = [ms.Tensor(x) for x in inputs]
        runs = {who: lambda net=net: net(*fed).asnumpy() for who, net in nets.items()}
        errors = {who: worst_error([run()], wanted) for who, run in runs.items()}
        return {"seconds": timed(runs, seconds), "errors": errors, "failure": ""}


def scan_of(trips: int) -> tuple[Any, Callable[..., Any], np.ndarray]:
    """A loop of a known length, which is kept."""
    params = {"w": normal(SIDE, SIDE, scale=SIDE**-0.5)}

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return lax.fori_loop(0, trips, lambda i, x: jnp.tanh(x @ params["w"] + i), x)

    return params, apply, normal(SIDE, SIDE)


def growth() -> dict[str, Any]:
    """Seconds and bytes of the export of a loop, by format and trips."""
    found: dict[str, list[tuple[float, int]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for file_format in ("ONNX", "MINDIR"):
            fnckpt.export(*scan_of(5), file_format, file_name=Path(directory, "first"))
            took: dict[int, list[float]] = {trips: [] for trips in TRIPS}
            sizes: dict[int, int] = {}
            for _ in range(EXPORTS):
                for trips in TRIPS:
                    start = time.perf_counter()
                    file = fnckpt.export(
                        *scan_of(trips), file_format, file_name=Path(directory, "loop"),
                        max_unroll=0,
                    )  # fmt: skip
                    took[trips].append(time.perf_counter() - start)
                    sizes[trips] = file.path.stat().st_size
            found[file_format] = [(statistics.median(took[n]), sizes[n]) for n in TRIPS]
    return found


def alone(name: str, peer: str, seconds: float) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loops", "--one", name, "--peer", peer]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def bars(name: str) -> dict[str, float]:
    """The greatest ratio to each that a loop may have."""
    recurrent = name.startswith(("LSTM", "GRU"))
    of_jax = MOST_OF_JAX_RECURRENT if recurrent else MOST_OF_JAX
    return {"jax": of_jax, "jax2onnx": MOST_OF_PEER, "mindspore": MOST_OF_MINDSPORE}


def show(name: str, result: dict[str, Any]) -> None:
    """A line for each that the loop is compared with."""
    seconds = result["seconds"]
    own = 1e3 * statistics.median(seconds["ours"])
    error = result["errors"]["ours"]
    print(f"{name:22} ours {own:9.2f} ms, error {error:.0e}, {len(seconds['ours'])} turns")
    for who in seconds.keys() - {"ours"}:
        each = [a / b for a, b in zip(seconds["ours"], seconds[who], strict=True)]
        low, ratio, high = statistics.quantiles(each, n=4)
        most = bars(name)[who]
        print(
            f"{'':22} {who:10} {1e3 * statistics.median(seconds[who]):9.2f} ms, ratio {ratio:.2f} "
            f"({low:.2f} to {high:.2f}), wanted <= {most}: "
            f"{'holds' if ratio <= most else 'MISSED'}",
            flush=True,
        )
    if result["failure"]:
        print(f"{'':22} jax2onnx: {result['failure']}", flush=True)


def show_growth(found: dict[str, list[tuple[float, int]]]) -> None:
    for file_format, each in found.items():
        told = ", ".join(
            f"{trips:,} trips {seconds:.2f} s {size:,} bytes"
            for trips, (seconds, size) in zip(TRIPS, each, strict=True)
        )
        grown = [last / first for first, last in zip(each[0], each[-1], strict=True)]
        verdict = "holds" if max(grown) <= MOST_GROWTH else "MISSED"
        print(f"{file_format}: {told}: x {grown[0]:.2f}, x {grown[1]:.3f}: {verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", default="", help="the Python of jax2onnx's environment")
    parser.add_argument("--seconds", type=float, default=30, help="of each loop")
    every = [*LOOPS, MINDSPORE, GROWTH]
    parser.add_argument("--loops", nargs="+", default=every, choices=every)
    parser.add_argument("--one", choices=every, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one == MINDSPORE:
        print(json.dumps(against_mindspore(given.seconds)))
    elif given.one:
        print(json.dumps(against_jax(given.one, given.peer, given.seconds)))
    else:
        for name in given.loops:
            if name == GROWTH:
                show_growth(growth())
            else:
                show(name, alone(name, given.peer, given.seconds))


if __name__ == "__main__":
    main()
