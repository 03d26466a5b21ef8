"""Integers that stand for floats: a scale and a zero point, of all, of a channel or of a block."""

import ml_dtypes
import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.build import FLOAT32, INT32, Builder, axis_of
from fnckpt.ir.sources.onnx.elementwise import cast
from fnckpt.ir.sources.onnx.network import convolved
from fnckpt.ir.sources.onnx.registry import Site, imports

UINT8 = np.dtype(np.uint8)


def along(b: Builder, part: Node, x: Node, axis: int, block: int) -> Node:
    """A scale or zero point in a shape that broadcasts to ``x``."""
    if len(part.aval.shape) == 0 or part.aval.size == 1:
        return b.reshape(part, ())
    if block:
        shape, size = part.aval.shape, x.aval.shape[axis]
        rank = len(shape)
        apart = b.broadcast(
            b.unsqueeze(part, axis + 1), (*shape[: axis + 1], block, *shape[axis + 1 :])
        )
        whole = b.reshape(apart, (*shape[:axis], shape[axis] * block, *shape[axis + 1 :]))
        assert rank == len(x.aval.shape)
        return b.slice(whole, axis, 0, size)
    sizes = [1] * len(x.aval.shape)
    sizes[axis] = part.aval.shape[0]
    return b.reshape(part, sizes)


@imports("DequantizeLinear")
def import_dequantize(site: Site, x: Node, scale: Node, zero: Node | None = None) -> Node:
    b = site.build
    rank = len(x.aval.shape)
    axis = axis_of(site.integer("axis", 1), rank) if rank and scale.aval.size > 1 else 0
    block = site.integer("block_size", 0)
    code = site.integer("output_dtype", 0)
    dtype = site.around.dtype(code) if code else scale.aval.dtype
    return dequantized(b, x, scale, zero, axis, block, dtype)


def dequantized(
    b: Builder, x: Node, scale: Node, zero: Node | None, axis: int, block: int, dtype: np.dtype
) -> Node:
    """``(x - zero) * scale``, the difference as float32."""
    wide = b.cast(x, INT32) if x.aval.dtype.kind in "iu" else b.cast(x, FLOAT32)
    if zero is not None:
        wide = b.sub(wide, b.cast(along(b, zero, x, axis, block), wide.aval.dtype))
    factor = b.cast(along(b, scale, x, axis, block), FLOAT32)
    return b.cast(b.mul(b.cast(wide, FLOAT32), factor), dtype)


@imports("QuantizeLinear")
def import_quantize(site: Site, x: Node, scale: Node, zero: Node | None = None) -> Node:
    b = site.build
    rank = len(x.aval.shape)
    axis = axis_of(site.integer("axis", 1), rank) if rank and scale.aval.size > 1 else 0
    code = site.integer("output_dtype", 0)
    dtype = site.around.dtype(code) if code else UINT8
    dtype = dtype if zero is None else zero.aval.dtype
    block = site.integer("block_size", 0)
    return quantized(b, x, scale, zero, axis, block, dtype, site.flag("saturate", True))


def quantized(
    b: Builder,
    x: Node,
    scale: Node,
    zero: Node | None,
    axis: int,
    block: int,
    dtype: np.dtype,
    saturate: bool = True,
) -> Node:
    """``x / scale + zero``, rounded to even, not beyond the ends of the type."""
    factor = along(b, scale, x, axis, block)
    own = np.result_type(x.aval.dtype, factor.aval.dtype) if x.aval.dtype.kind == "f" else FLOAT32
    divided = b.div(b.cast(x, own), b.cast(factor, own))
    if dtype.kind not in "iu" and dtype.name not in ("int4", "uint4", "int2", "uint2"):
        shifted = (
            divided if zero is None else b.add(divided, b.cast(along(b, zero, x, axis, block), own))
        )
        return cast(b, shifted, dtype, saturate=saturate)
    info = ml_dtypes.iinfo(dtype)
    whole = b("Round", b.cast(divided, FLOAT32))
    if zero is not None:
        whole = b.add(whole, b.cast(along(b, zero, x, axis, block), FLOAT32))
    inside = b("Clip", whole, low=float(info.min), high=float(info.max))
    return b.cast(b.cast(inside, INT32), dtype)


@imports("QLinearMatMul")
def import_q_matmul(
    site: Site, a: Node, a_scale: Node, a_zero: Node, y: Node, y_scale: Node, y_zero: Node,
    scale: Node, zero: Node,
) -> Node:  # fmt: skip
    b = site.build
    left = dequantized(b, a, a_scale, a_zero, len(a.aval.shape) - 2, 0, FLOAT32)
    right = dequantized(b, y, y_scale, y_zero, len(y.aval.shape) - 1, 0, FLOAT32)
    return quantized(b, b.product(left, right), scale, zero, 0, 0, zero.aval.dtype)


@imports("QLinearConv")
def import_q_conv(
    site: Site, x: Node, x_scale: Node, x_zero: Node, w: Node, w_scale: Node, w_zero: Node,
    scale: Node, zero: Node, bias: Node | None = None,
) -> Node:  # fmt: skip
    b = site.build
    left = dequantized(b, x, x_scale, x_zero, 0, 0, FLOAT32)
    kernel = dequantized(b, w, w_scale, w_zero, 0, 0, FLOAT32)
    given = []
    if bias is not None:
        factor = b.mul(b.reshape(w_scale, (w_scale.aval.size,)), b.reshape(x_scale, ()))
        given.append(b.mul(b.cast(bias, FLOAT32), factor))
    return quantized(b, convolved(site, left, kernel, *given), scale, zero, 0, 0, zero.aval.dtype)
