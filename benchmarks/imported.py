"""Functions that ``load_graph`` gives against the originals, both jitted; and how fast it loads.

Claims:
  imported / original, median seconds of a call   geometric mean over the zoo <= 1.05
  a file of 2.4 GB                                loaded in < 1 s, < 200 MB more memory before use
The two functions of a network take turns, call by call, in one process. The large file has its
weights beside the graph, as every ONNX file over 2 GB.

Run: pip install -e '.[bench]'; python -m benchmarks.imported [--networks UNet LSTM] [--large]
"""

import argparse
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
from benchmarks.zoo import ZOO

LEAST_SECONDS = 2.0  # of one network
LARGE = (24, 5000, 5000)  # float32: 2.4 GB

LOAD = """
import re, sys, time
from pathlib import Path
import fnckpt
from fnckpt.ir.sources import reader

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

reader("ONNX")
before, start = resident(), time.perf_counter()
loaded = fnckpt.load_graph(sys.argv[1])
print(time.perf_counter() - start)
print(resident() - before)
"""


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def ratio(name: str, file_format: str, folder: Path) -> float:
    """Seconds of a call of the imported function, in those of the original."""
    params, apply_fn, inputs = ZOO[name]()
    file = fnckpt.export(params, apply_fn, inputs, file_format, file_name=folder / name)
    ours, imported = fnckpt.load_graph(file.path)
    arrays = [jax.numpy.asarray(x) for x in inputs]
    first, second = jax.device_put(params), jax.device_put(ours)
    original, loaded = jax.jit(apply_fn), jax.jit(imported)
    calls = [lambda: original(first, *arrays), lambda: loaded(second, *arrays)]
    for call in calls:
        seconds(call)
    times: list[list[float]] = [[], []]
    while sum(map(sum, times)) < LEAST_SECONDS or len(times[0]) < 7:
        for own, call in zip(times, calls, strict=True):
            own.append(seconds(call))
    return statistics.median(times[1]) / statistics.median(times[0])


def load_large(folder: Path) -> None:
    """Write the file, and load it in a process of its own."""
    weights = {f"w{i}": np.ones(LARGE[1:], np.float32) for i in range(LARGE[0])}

    def net(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        for each in params.values():
            x = x @ each
        return x

    x = np.ones((1, LARGE[1]), np.float32)
    file = fnckpt.export(weights, net, x, "ONNX", file_name=folder / "large", external_data=True)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(file.path)], check=True, capture_output=True, text=True
    )
    took, memory = map(float, done.stdout.split())
    print(f"a file of 2.4 GB: loaded in {took:.2f} s, {memory:.0f} MB more memory", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--networks", nargs="*", default=list(ZOO))
    parser.add_argument("--format", default="ONNX", choices=("ONNX", "MINDIR", "AIR"))
    parser.add_argument("--large", action="store_true", help="load a file of 2.4 GB, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found: list[float] = []
        for name in options.networks:
            found.append(ratio(name, options.format, Path(folder)))
            print(f"{name:24}{found[-1]:8.3f}", flush=True)
        print(f"{'geometric mean':24}{statistics.geometric_mean(found):8.3f}", flush=True)
        if options.large:
            load_large(Path(folder))


if __name__ == "__main__":
    main()
