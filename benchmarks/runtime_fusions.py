"""Operators that only ONNX Runtime has, beside what it makes of a standard file by itself.

    python -m benchmarks.runtime_fusions [--turns 41]

The first table: the operators in a file of ours, those that ONNX Runtime runs after it has loaded
it, and the time with such operators switched off over the time with them. An operator that the
runtime makes by itself need not be in the file. The second: one product with the weights of q, k
and v side by side and a split, over three products. Both files of a row take turns; medians.
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime as ort

import fnckpt

WIDTH, KEYS = 512, 256
Params = dict[str, np.ndarray]


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32) / 20


FUSED: dict[str, Callable[..., jax.Array]] = {
    "BiasGelu": lambda p, x: jax.nn.gelu(x @ p["w"] + p["b"], approximate=False),
    "QuickGelu": lambda p, x: (x @ p["w"]) * jax.nn.sigmoid(1.702 * (x @ p["w"])),
    "FusedMatMul": lambda p, x: (x @ x.swapaxes(1, 2)) * 0.125,
}


def apart(params: Params, x: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(x @ params[name] for name in "qkv")


def together(params: Params, x: jax.Array) -> Sequence[jax.Array]:
    return jnp.split(x @ params["qkv"], [WIDTH, WIDTH + KEYS], 1)


def session(path: Path, *, plain: bool = False, kept: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if kept is not None:
        options.optimized_model_filepath = str(kept)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ratio(
    first: ort.InferenceSession, other: ort.InferenceSession, x: np.ndarray, turns: int
) -> float:
    """The time of ``first`` over that of ``other``."""
    found: list[float] = []
    for _ in range(turns):
        took: list[float] = []
        for each in (first, other):
            begun = time.perf_counter()
            for _ in range(10):
                each.run(None, {"x": x})
            took.append(time.perf_counter() - begun)
        found.append(took[0] / took[1])
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=41)
    turns = parser.parse_args().turns
    given = {"w": weights(WIDTH, 4 * WIDTH), "b": weights(4 * WIDTH)}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        print("| operator | in the file | at load | without / with |\n|---|---|---|---|")
        for name, function in FUSED.items():
            x = weights(2, 64, WIDTH)
            file = fnckpt.export(given, function, x, "ONNX", file_name=place / name)
            with_it = session(file.path, kept=place / "kept.onnx")
            ops = [
                ", ".join(Counter(n.op_type for n in onnx.load(path).graph.node))
                for path in (file.path, place / "kept.onnx")
            ]
            gain = ratio(session(file.path, plain=True), with_it, x, turns)
            print(f"| {name} | {ops[0]} | {ops[1]} | {gain:.2f} |")
        print("\n| weights | tokens | one product / three |\n|---|---|---|")
        parts = {"q": weights(WIDTH, WIDTH), "k": weights(WIDTH, KEYS), "v": weights(WIDTH, KEYS)}
        whole = {"qkv": np.concatenate(list(parts.values()), 1)}
        for quantize in (None, "int4"):
            for tokens in (1, 128):
                x = weights(tokens, WIDTH)
                one, three = (
                    fnckpt.export(
                        params, function, x, "ONNX", file_name=place / name, quantize=quantize,
                        runtime="onnxruntime",
                    )
                    for name, function, params in (
                        ("one", together, whole), ("three", apart, parts),
                    )
                )  # fmt: skip
                found = ratio(session(one.path), session(three.path), x, turns)
                print(f"| {quantize or 'float32'} | {tokens} | {found:.2f} |")


if __name__ == "__main__":
    main()
