"""MindIR files of the small networks and functions of ``benchmarks.zoo`` against jitted JAX.

Claims, as medians over turns in random order, in MindSpore 2.10 on the CPU, graph mode:
  latency against jitted JAX      geometric mean, and each above 1.0 by name
  seconds of ``mindspore.load`` and the first call, beside the time of a call
  the error against JAX           each <= 1e-4 of the greatest number
Each network has a process of its own.

Run: pip install -e '.[bench]'; python -m benchmarks.mindir [--networks MLP hue] [--seconds 2]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

import fnckpt
from benchmarks.exported_mindspore import WARM_UP, take_turns
from benchmarks.zoo import SMALL_ONES, ZOO

LARGEST = 1e-4


def measure(name: str, seconds: float) -> dict[str, float]:
    """Milliseconds of a call of each, seconds of the load and the first call, and the error."""
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    params, apply_fn, inputs = ZOO[name]()
    call = jax.jit(lambda *args: apply_fn(params, *args))
    wanted = jax.tree.leaves(call(*inputs))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "net.mindir")
        fnckpt.export(params, apply_fn, inputs, "MINDIR", file_name=path)
        start = time.perf_counter()
        net, tensors = ms.nn.GraphCell(ms.load(str(path))), [ms.Tensor(x) for x in inputs]
        found = [each.asnumpy() for each in _all(net(*tensors))]
        first = time.perf_counter() - start
    given = [jax.device_put(x) for x in inputs]
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: [each.asnumpy() for each in _all(net(*tensors))],
        "jax": lambda: jax.block_until_ready(call(*given)),
    }
    for run in runs.values():
        for _ in range(WARM_UP):
            run()
    spent = take_turns(runs, seconds)
    pairs = zip(found, map(np.asarray, wanted), strict=True)
    error = max(float(np.abs(a - b).max()) / max(1.0, float(np.abs(b).max())) for a, b in pairs)
    return {who: 1e3 * statistics.median(each) for who, each in spent.items()} | {
        "first": first, "error": error,
    }  # fmt: skip


def _all(result: object) -> tuple:
    return result if isinstance(result, tuple) else (result,)


def in_a_process(name: str, seconds: float) -> dict[str, float] | None:
    command = [sys.executable, "-m", "benchmarks.mindir", "--one", name]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"{name:18} {(done.stderr.strip() or '?').splitlines()[-1][:100]}", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(SMALL_ONES), choices=list(ZOO))
    parser.add_argument("--seconds", type=float, default=2, help="of each network")
    parser.add_argument("--one", choices=list(ZOO), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.seconds)))
        return
    ratios: dict[str, float] = {}
    for name in given.networks:
        if (found := in_a_process(name, given.seconds)) is None:
            continue
        ratios[name] = found["ours"] / found["jax"]
        print(
            f"{name:18} ours {found['ours']:8.3f} ms   jax {found['jax']:8.3f} ms   ratio "
            f"{ratios[name]:6.2f}   load and first call {found['first']:6.2f} s   error "
            f"{found['error']:.0e}{'' if found['error'] <= LARGEST else '   MISSED'}",
            flush=True,
        )
    above = sorted((name for name in ratios if ratios[name] > 1), key=lambda n: -ratios[n])
    print(f"geometric mean {statistics.geometric_mean(ratios.values()):.2f}; above 1.0:")
    print(", ".join(f"{name} {ratios[name]:.2f}" for name in above))


if __name__ == "__main__":
    main()
