"""Functions of MindIR that are written out, against MindSpore's own kernels: time and error.

For each function two files: ours, and one of the older dialect, which holds the primitive alone.
They take turns in one process of MindSpore 2.10 (graph mode, CPU), in an order drawn anew; the
ratio is that of processor time. The errors are those of numbers over the whole domain, in float32
against JAX in float64: of the value itself, or of max(1, value) where the table says so.

No bar: it shows what right digits cost (docs/benchmarks.md, "Functions written out").

Run: pip install -e '.[mindspore]'; python -m benchmarks.written_out [--turns 30]
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import fnckpt

COUNT = 1_000_000

# The function, the magnitudes and the signs of its argument, and whether the error is relative.
FUNCTIONS: dict[str, tuple[Callable[[jax.Array], jax.Array], tuple[float, float], str, bool]] = {
    "tanh": (jnp.tanh, (1e-30, 100), "+-", True),
    "exp": (jnp.exp, (2e-38, 85), "+-", True),
    "log": (jnp.log, (2e-38, 3e38), "+", False),
    "log1p": (jnp.log1p, (1e-30, 1e30), "+", True),
    "expm1": (jnp.expm1, (2e-38, 85), "+-", True),
}


def sample(low: float, high: float, signs: str) -> np.ndarray:
    """Numbers whose magnitudes are even on a logarithmic scale, in an order drawn once."""
    size = np.geomspace(low, high, COUNT)
    sign = np.where(np.arange(COUNT) % 2, -1, 1) if signs == "+-" else 1
    return np.random.default_rng(0).permutation(size * sign).astype(np.float32)


def error(found: np.ndarray, wanted: np.ndarray, relative: bool) -> float:
    apart, size = np.abs(found - wanted), np.abs(wanted)
    least = np.finfo(np.float32).tiny if relative else 1
    return float(np.max(apart / np.maximum(size, least)))


def load(path: Path, x: np.ndarray) -> Callable[[], np.ndarray]:
    import mindspore as ms

    net, tensor = ms.nn.GraphCell(ms.load(str(path))), ms.Tensor(x)
    return lambda: net(tensor).asnumpy()


def turns(runs: dict[str, Callable[[], np.ndarray]], count: int) -> dict[str, float]:
    """The median seconds of processor time of each."""
    seconds: dict[str, list[float]] = {who: [] for who in runs}
    for _ in range(count):
        for who in random.sample(list(runs), len(runs)):
            start = time.process_time()
            runs[who]()
            seconds[who].append(time.process_time() - start)
    return {who: statistics.median(found) for who, found in seconds.items()}


def measure(name: str, count: int, directory: Path) -> None:
    function, (low, high), signs, relative = FUNCTIONS[name]
    x = sample(low, high, signs)
    with jax.enable_x64(True):
        wanted = np.asarray(function(jnp.asarray(x, np.float64)))
    runs: dict[str, Callable[[], np.ndarray]] = {}
    for who, dialect in (("kernel", "2.0"), ("ours", "2.3")):
        file = directory / f"{name}-{who}.mindir"
        fnckpt.export((), lambda _, x: function(x), x, "MINDIR", file_name=file, mindspore=dialect)
        runs[who] = load(file, x)
    errors = {who: error(run(), wanted, relative) for who, run in runs.items()}
    seconds = turns(runs, count)
    print(
        f"{name:6} kernel {1e3 * seconds['kernel']:6.1f} ms, error {errors['kernel']:.1e}   "
        f"ours {1e3 * seconds['ours']:6.1f} ms, error {errors['ours']:.1e}   "
        f"ratio {seconds['ours'] / seconds['kernel']:.2f}",
        flush=True,
    )


def main() -> None:
    import mindspore as ms

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=30)
    chosen = parser.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE)
    with tempfile.TemporaryDirectory() as directory:
        for name in FUNCTIONS:
            measure(name, chosen.turns, Path(directory))


if __name__ == "__main__":
    main()
