"""A file of floats as one of integers, and what that costs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from fnckpt.exporting.quantizing.measured import Quantized, errors
from fnckpt.exporting.quantizing.model import bytes_of, encoded_again, message, products
from fnckpt.exporting.quantizing.options import Calibration, Quantization
from fnckpt.exporting.quantizing.static import quantize_static, weights_of
from fnckpt.exporting.quantizing.weights import gemm_as_products, quantize
from fnckpt.ir.targets.target import Encoded

PyTree = object


@dataclass(frozen=True)
class Sample:
    """What the error is measured on.

    Attributes:
      given: ``"the sample"`` or ``"random inputs"``.
      feeds: an array for each input of the file.
      feeds_of: the same of what ``sample_input`` may be.
    """

    given: str
    feeds: Sequence[np.ndarray]
    feeds_of: Callable[[PyTree], Sequence[np.ndarray]]


def quantized(
    encoded: Encoded,
    how: Quantization | Calibration,
    sample: Sample,
    *,
    stem: str,
    external: bool,
    standard: bool,
) -> tuple[Encoded, Quantized]:
    """The file with integers, and their error on the sample.

    Args:
      encoded: the file of floats.
      how: what is asked for.
      sample: what the error is measured on.
      stem: of the file's name.
      external: the weights go beside the graph, as they do anyway over 2 GB.
      standard: without operators of ONNX Runtime's own.

    Raises:
      ValueError: nothing can become integers, or a pattern is of no weight.
      ModuleNotFoundError: ONNX Runtime or what its quantizer needs is not installed.
    """
    before = message(encoded)
    if isinstance(how, Calibration):
        places = weights_of(before)
        after, weights = quantize_static(before, how, sample.feeds_of)
    else:
        gemm_as_products(before)
        places = {node.name: node.input[1] for node in products(before)}
        after = onnx.ModelProto()
        after.CopyFrom(before)
        weights = quantize(after, how, standard=standard)
    pairs = _values(before, after)
    layers = {weight: pairs[node] for node, weight in places.items() if weight in weights}
    error, by_layer = errors(before, after, layers, sample.feeds)
    facts = Quantized(
        name=how.name,
        weights=tuple(weights),
        kept=len(set(places.values())) - len(weights),
        bytes_before=bytes_of(before),
        bytes=bytes_of(after),
        error=error,
        layers=by_layer,
        given=sample.given,
    )
    return encoded_again(after, stem, external=external), facts


def _values(before: onnx.ModelProto, after: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """Of each node, by its name, what stands for its result in the two files.

    The static quantizer drops a Relu behind a layer, because the integers have no numbers below 0:
    then it is the result of the Relu, and the integers as numbers again.
    """
    left = {node.name for node in after.graph.node}
    dropped = {node.input[0]: node.output[0] for node in before.graph.node if node.name not in left}
    readers = {name: node for node in after.graph.node for name in node.input[:1]}
    now = {node.name: _as_numbers(node.output[0], readers) for node in after.graph.node}
    results = {node.name: node.output[0] for node in before.graph.node}
    return {node: (dropped.get(v, v), now.get(node, v)) for node, v in results.items()}


def _as_numbers(value: str, readers: Mapping[str, onnx.NodeProto]) -> str:
    """The value behind a QuantizeLinear and a DequantizeLinear, where it goes through them."""
    for op in ("QuantizeLinear", "DequantizeLinear"):
        if value not in readers or readers[value].op_type != op:
            return value
        value = readers[value].output[0]
    return value
