"""MindIR of ours against MindIR that MindSpore exports of the same network written in mindspore.nn.

Claims, as medians over rounds of ratios ours / theirs, in MindSpore 2.10 on the CPU, graph mode:
  latency, for ResNet-50, a BERT block of 128 words, an MLP    each <= 1.03 (1.0 within noise)
The weights are the same: Flax's, brought over by ``fnckpt.bridge.to_mindspore``; both results are
compared with JAX's. The files take turns in one process.

Run: pip install -e '.[bench]'; python -m benchmarks.exported_mindspore [--rounds 9]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import fnckpt
from benchmarks.exported import seconds_of
from benchmarks.zoo.cells import TWICE
from fnckpt.bridge import to_mindspore

LEAST_SECONDS = 0.3  # of one turn of one file
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


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Seconds of a run of each, a list of rounds, and the errors against JAX."""
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    params, apply_fn, (x,) = TWICE[name].flax()
    wanted = np.asarray(jax.jit(apply_fn)(params, x))
    fed = TWICE[name].feed(x)
    with tempfile.TemporaryDirectory() as directory:
        ours, theirs = (Path(directory, f"{who}.mindir") for who in ("ours", "theirs"))
        fnckpt.export(params, apply_fn, x, "MINDIR", file_name=ours)
        export_theirs(name, params, fed, theirs)
        runs = {"ours": runner(ours, x), "theirs": runner(theirs, fed)}
        scale = max(1.0, float(np.abs(wanted).max()))
        errors = {who: float(np.abs(run() - wanted).max()) / scale for who, run in runs.items()}
        found: dict[str, list[float]] = {who: [] for who in runs}
        for _ in range(rounds + 1):
            for who, run in runs.items():
                found[who].append(seconds_of(run, LEAST_SECONDS))
    return {"seconds": {who: values[1:] for who, values in found.items()}, "errors": errors}


def show(name: str, rounds: int) -> bool:
    """Measure in a process of its own, print a line, and say whether the bar holds."""
    command = [sys.executable, "-m", "benchmarks.exported_mindspore", "--one", name]
    done = subprocess.run(
        [*command, "--rounds", str(rounds)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    seconds = result["seconds"]
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
    ms = {who: 1e3 * statistics.median(values) for who, values in seconds.items()}
    ratio = statistics.median(ratios)
    print(
        f"{name:12} ours {ms['ours']:8.3f} ms   theirs {ms['theirs']:8.3f} ms   "
        f"ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})   errors "
        f"{result['errors']['ours']:.0e} / {result['errors']['theirs']:.0e}   "
        f"{'holds' if ratio <= BAR else 'MISSED'}",
        flush=True,
    )
    return ratio <= BAR


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--one", choices=list(TWICE), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.rounds)))
        return
    for name in TWICE:
        show(name, given.rounds)


if __name__ == "__main__":
    main()
