"""MindIR of ours against MindIR that MindSpore exports of the same network written in mindspore.nn.

Claims, as medians of ratios ours / theirs, in MindSpore 2.10 on the CPU, graph mode:
  latency, for ResNet-50, a BERT block of 128 words, an MLP    each <= 1.03 (1.0 within noise)
The weights are the same: Flax's, brought over by ``fnckpt.to_mindspore``; both results are
compared with JAX's. The files take turns in one process, a run each, in an order drawn anew; theirs
is loaded twice, and what it is of itself shows the noise.

Run: pip install -e '.[bench]'; python -m benchmarks.exported_mindspore [--seconds 60]
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import fnckpt
from benchmarks.zoo.cells import TWICE
from fnckpt.checkpoints.mindspore_names import to_mindspore

WARM_UP = 5  # runs
BAR = 1.03


def export_theirs(name: str, params: Any, x: np.ndarray, path: Path) -> None:
    """Build the cell, load Flax's weights into it, let MindSpore write it."""
    import mindspore as ms

    cell = TWICE[name].build()
    wanted = {key: tuple(value.shape) for key, value in cell.parameters_dict().items()}
    weights = to_mindspore(params)
    if wanted != {key: value.shape for key, value in weights.items()}:
        raise SystemExit(f"{name}: the cell is not the network: {wanted.keys() ^ weights.keys()}")
    loaded = {key: ms.Parameter(value) for key, value in weights.items()}
    ms.load_param_into_net(cell, loaded, strict_load=True)
    ms.export(cell.set_train(False), ms.Tensor(x), file_name=str(path), file_format="MINDIR")


def runner(path: Path, x: np.ndarray) -> Callable[[], np.ndarray]:
    import mindspore as ms

    net, tensor = ms.nn.GraphCell(ms.load(str(path))), ms.Tensor(x)
    return lambda: net(tensor).asnumpy()


def take_turns(runs: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """The seconds of each run; in every turn each runs once."""
    found: dict[str, list[float]] = {who: [] for who in runs}
    order, end = list(runs), time.perf_counter() + seconds
    while time.perf_counter() < end:
        random.shuffle(order)
        for who in order:
            start = time.perf_counter()
            runs[who]()
            found[who].append(time.perf_counter() - start)
    return found


def measure(name: str, seconds: float) -> dict[str, Any]:
    """Seconds of a run of each, turn by turn, and the errors against JAX."""
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    params, apply_fn, (x,) = TWICE[name].flax()
    wanted = np.asarray(jax.jit(apply_fn)(params, x))
    fed = TWICE[name].feed(x)
    with tempfile.TemporaryDirectory() as directory:
        ours, theirs = (Path(directory, f"{who}.mindir") for who in ("ours", "theirs"))
        fnckpt.export(params, apply_fn, x, "MINDIR", file_name=ours)
        export_theirs(name, params, fed, theirs)
        runs = {
            "ours": runner(ours, x), "theirs": runner(theirs, fed), "again": runner(theirs, fed)
        }  # fmt: skip
        scale = max(1.0, float(np.abs(wanted).max()))
        errors = {who: float(np.abs(run() - wanted).max()) / scale for who, run in runs.items()}
        for run in runs.values():
            for _ in range(WARM_UP):
                run()
        return {"seconds": take_turns(runs, seconds), "errors": errors}


def ratios(result: dict[str, Any], who: str) -> list[float]:
    """``who`` over theirs: a quarter of the turns are below the first, half below the second."""
    pairs = zip(result["seconds"][who], result["seconds"]["theirs"], strict=True)
    return statistics.quantiles([a / b for a, b in pairs], n=4)


def show(name: str, seconds: float) -> bool:
    """Measure in a process of its own, print a line, and say whether the bar holds."""
    command = [sys.executable, "-m", "benchmarks.exported_mindspore", "--one", name]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    ms = {who: 1e3 * statistics.median(values) for who, values in result["seconds"].items()}
    low, ratio, high = ratios(result, "ours")
    print(
        f"{name:12} ours {ms['ours']:8.3f} ms   theirs {ms['theirs']:8.3f} ms   "
        f"ratio {ratio:.2f} ({low:.2f} to {high:.2f})   theirs / theirs "
        f"{ratios(result, 'again')[1]:.2f}   turns {len(result['seconds']['ours'])}   errors "
        f"{result['errors']['ours']:.0e} / {result['errors']['theirs']:.0e}   "
        f"{'holds' if ratio <= BAR else 'MISSED'}",
        flush=True,
    )
    return ratio <= BAR


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="of each network")
    parser.add_argument("--one", choices=list(TWICE), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.seconds)))
        return
    for name in TWICE:
        show(name, given.seconds)


if __name__ == "__main__":
    main()
