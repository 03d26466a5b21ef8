"""What a Python with jax2onnx runs, which needs nothing of fnckpt."""

import jax
import jax2onnx

from benchmarks.zoo.loops import LOOPS


def export(name: str, path: str) -> None:
    """Write jax2onnx's file of a loop."""
    params, apply, inputs = LOOPS[name]()
    params = jax.tree.map(jax.numpy.asarray, params)
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs]
    jax2onnx.to_onnx(
        lambda *args: apply(params, *args), shapes, return_mode="file", output_path=path
    )
