"""Attention to a cache and rotary embedding in ONNX Runtime's own operators."""

import numpy as np
import onnx

from fnckpt.ir.attributes import flag, integer, ints, number
from fnckpt.ir.graph import CNode
from fnckpt.ir.targets.onnx.emit_network import CANNOT, EMITTERS, emits
from fnckpt.ir.targets.onnx.sizes import vector
from fnckpt.ir.targets.onnx.writer import Writer

__all__ = ["CANNOT", "EMITTERS"]

INT32 = onnx.TensorProto.INT32
INT64 = np.dtype(np.int64)
NO_LIMIT = -1


@emits("CachedAttention")
def emit_cached_attention(node: CNode, w: Writer) -> None:
    """Of ONNX Runtime's own.

    The cache may be longer than what it holds: how many tokens there are is said apart. Rows are
    aligned at their ends, so that padding is the mask's. Angles of its own the operator would not
    take from positions in a prompt of several rows (1.32), so that they are applied before.
    """
    (batch, _, _), total = node.inputs[0].aval.shape, node.results[1].shape[2]
    count = vector(w, (total,), "total")
    last = w.once("Sub", count, w.ints([1], "one"))
    lasts = w.once("Cast", w.once("Expand", last, vector(w, (batch,), "batch")), to=INT32)
    whole = w.once("Cast", w.once("Squeeze", count), to=INT32)
    *operands, mask = node.inputs if len(node.inputs) > 5 else (*node.inputs, "")
    of_query, of_key = ints(node, "heads")
    w.node(
        "com.microsoft.GroupQueryAttention", node, *operands, lasts, whole, "", "", "", mask,
        num_heads=of_query, kv_num_heads=of_key, scale=number(node, "scale"),
        softcap=number(node, "cap"), local_window_size=integer(node, "window") or NO_LIMIT,
    )  # fmt: skip


@emits("Rotary")
def emit_rotary(node: CNode, w: Writer) -> None:
    """Of ONNX Runtime's own: a row of cosines and sines for each token, by its number."""
    x, *angles = node.inputs
    batch, rows, size = angles[0].aval.shape
    table = vector(w, (batch * rows, size), "table")
    count = w.once("Squeeze", vector(w, (batch * rows,), "count"))
    zero, one = (w.scalar(value, INT64, name) for value, name in ((0, "zero"), (1, "one")))
    places = w.once("Reshape", w.once("Range", zero, count, one), vector(w, (batch, rows), "rows"))
    tables = [w.once("Reshape", w.ref(each), table) for each in angles]
    w.node(
        "com.microsoft.RotaryEmbedding", node, x, places, *tables,
        num_heads=integer(node, "heads"), interleaved=int(flag(node, "interleaved")),
    )  # fmt: skip
