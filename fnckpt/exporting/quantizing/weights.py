"""Weights of products in 4 or 8 bits, by ONNX Runtime's own quantizer."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper

from fnckpt.exporting.quantizing.model import initializers, products
from fnckpt.exporting.quantizing.options import Quantization
from fnckpt.extras import require

BITS_OF_ACTIVATIONS = 4  # an accuracy_level: int8 products, which all processors have


def gemm_as_products(model: onnx.ModelProto) -> None:
    """x w + b in two operators: the quantizer knows products alone."""
    found: list[onnx.NodeProto] = []
    known = initializers(model)
    for node in model.graph.node:
        found.extend(_apart(model, node, known) if node.op_type == "Gemm" else [node])
    del model.graph.node[:]
    model.graph.node.extend(found)


def _apart(
    model: onnx.ModelProto, node: onnx.NodeProto, known: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    weight, plain = node.input[1], not attrs.get("transA") and attrs.get("alpha", 1) == 1
    if weight not in known or not plain or attrs.get("beta", 1) != 1:
        return [node]
    if attrs.get("transB"):
        weight = _turned(model, known, weight)
    if len(node.input) < 3:
        return [_product(node, node.input[0], weight, node.output[0])]
    between = f"{node.output[0]}/product"
    total = helper.make_node("Add", [between, node.input[2]], node.output, f"{node.name}/Add")
    total.metadata_props.extend(node.metadata_props)
    return [_product(node, node.input[0], weight, between), total]


def _product(node: onnx.NodeProto, x: str, weight: str, to: str) -> onnx.NodeProto:
    made = helper.make_node("MatMul", [x, weight], [to], node.name)
    made.metadata_props.extend(node.metadata_props)
    return made


def _turned(model: onnx.ModelProto, known: dict[str, onnx.TensorProto], weight: str) -> str:
    name = f"{weight}.T"
    if name not in known:
        value = np.ascontiguousarray(numpy_helper.to_array(known[weight]).T)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
        known[name] = model.graph.initializer[-1]
    return name


def quantize(model: onnx.ModelProto, how: Quantization, *, standard: bool) -> Sequence[str]:
    """Store the matrices of products as integers; the names of those that became some.

    Args:
      model: is changed.
      how: bits and blocks.
      standard: with DequantizeLinear, not with ONNX Runtime's MatMulNBits.

    Raises:
      ValueError: a pattern of ``how.skip`` that no weight has, or nothing to quantize.
      ModuleNotFoundError: ONNX Runtime or what its quantizer needs is not installed.
    """
    for module in ("onnxruntime", "onnx_ir"):
        require(module, "quantize")
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    gemm_as_products(model)
    places = {node.name: node.input[1] for node in products(model)}
    kept = skipped(places.values(), how.skip, "Quantization")
    chosen = [weight for weight in dict.fromkeys(places.values()) if weight not in kept]
    if not chosen:
        raise ValueError(
            f"quantize={how.name!r}: there is no product with a known matrix left to quantize; "
            "leave quantize out, or give a Calibration for convolutions"
        )
    with quiet():
        quantizer = MatMulNBitsQuantizer(
            model,
            bits=how.bits,
            block_size=how.block_size,
            is_symmetric=how.symmetric,
            accuracy_level=BITS_OF_ACTIVATIONS,
            nodes_to_exclude=[node for node, weight in places.items() if weight in kept],
        )
        quantizer.process()
    _drop_unused(model)
    if standard:
        _in_standard_operators(model)
    return chosen


def skipped(names: Iterable[str], patterns: Sequence[str], what: str) -> set[str]:
    """The names that one of the patterns has.

    Raises:
      ValueError: a pattern without a name.
    """
    every = list(dict.fromkeys(names))
    lost = [p for p in patterns if not any(fnmatchcase(name, p) for name in every)]
    if lost:
        near = get_close_matches(lost[0], every, 3, 0.3) or every[:3]
        raise ValueError(
            f"{what}: skip={lost[0]!r} matches no weight; the weights are {', '.join(near)}"
        )
    return {name for name in every if any(fnmatchcase(name, p) for p in patterns)}


@contextmanager
def quiet() -> Iterator[None]:
    """The quantizers tell of each node, and advise what is done already."""
    names = ("onnxruntime.quantization.matmul_nbits_quantizer", None)
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _drop_unused(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    if len(kept) < len(model.graph.initializer):
        copies = [onnx.TensorProto.FromString(t.SerializeToString()) for t in kept]
        del model.graph.initializer[:]
        model.graph.initializer.extend(copies)


def _in_standard_operators(model: onnx.ModelProto) -> None:
    """MatMulNBits as a DequantizeLinear of blocks in front of a MatMul."""
    known, found, made = initializers(model), list[onnx.NodeProto](), dict[str, str]()
    for node in model.graph.node:
        if node.op_type != "MatMulNBits":
            found.append(node)
            continue
        packed = node.input[1]
        if packed not in made:
            dequantize = _dequantized(model, node, known)
            found.append(dequantize)
            made[packed] = dequantize.output[0]
        found.append(_product(node, node.input[0], made[packed], node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(found)
    own = [each for each in model.opset_import if each.domain != "com.microsoft"]
    del model.opset_import[:]
    model.opset_import.extend(own)
    _drop_unused(model)


def _dequantized(
    model: onnx.ModelProto, node: onnx.NodeProto, known: dict[str, onnx.TensorProto]
) -> onnx.NodeProto:
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    rows, bits, block = int(attrs["K"]), int(attrs["bits"]), int(attrs["block_size"])
    packed, scales, *zeros = (numpy_helper.to_array(known[name]) for name in node.input[1:])
    columns, blocks = scales.reshape(int(attrs["N"]), -1).shape
    numbers = _unpacked(packed, bits).reshape(columns, -1)[:, :rows]
    middle = 1 << (bits - 1)
    dtype = {4: ml_dtypes.int4, 8: np.int8}[bits]
    parts = {
        "": (numbers.T.astype(np.int16) - middle).astype(dtype),
        "_scales": np.ascontiguousarray(scales.reshape(columns, blocks).T),
    }
    if zeros:
        each = _unpacked(zeros[0], bits).reshape(columns, -1)[:, :blocks]
        parts["_zero_points"] = (each.T.astype(np.int16) - middle).astype(dtype)
    name = f"{node.input[1]}_DQ"
    model.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), name + ending)
        for ending, value in parts.items()
    )
    inputs = [name + ending for ending in parts]
    to = f"{node.input[1]}/dequantized"
    return helper.make_node("DequantizeLinear", inputs, [to], to, axis=0, block_size=block)


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Bytes as the numbers in them, the lower half first."""
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
