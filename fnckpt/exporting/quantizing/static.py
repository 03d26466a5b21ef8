"""Weights and what they meet as int8, with ranges found on samples, by ONNX Runtime's quantizer."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx

from fnckpt.exporting.quantizing.model import initializers
from fnckpt.exporting.quantizing.options import Calibration
from fnckpt.exporting.quantizing.weights import quiet, skipped
from fnckpt.extras import require

PyTree = object
WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def weights_of(model: onnx.ModelProto) -> dict[str, str]:
    """Of each layer with a known weight the node's name: the weight's."""
    known = initializers(model)
    nodes = (node for node in model.graph.node if node.op_type in WITH_WEIGHTS)
    return {node.name: node.input[1] for node in nodes if node.input[1] in known}


def quantize_static(
    model: onnx.ModelProto,
    how: Calibration,
    feeds_of: Callable[[PyTree], Sequence[np.ndarray]],
) -> tuple[onnx.ModelProto, Sequence[str]]:
    """The file with QuantizeLinear and DequantizeLinear around its layers, and their weights.

    Args:
      model: the file of floats.
      how: the samples.
      feeds_of: the arrays of a sample, one for each input.

    Raises:
      ValueError: no samples, no layers, or a pattern that no weight has.
      ModuleNotFoundError: ONNX Runtime or what its quantizer needs is not installed.
    """
    for module in ("onnxruntime", "onnx_ir"):
        require(module, "quantize")
    from onnxruntime import quantization

    places = weights_of(model)
    kept = skipped(list(places.values()), how.skip, "Calibration")
    chosen = [name for name in dict.fromkeys(places.values()) if name not in kept]
    if not chosen:
        raise ValueError(
            "quantize=Calibration(...): there is no convolution or product with a known weight "
            "left to quantize; leave quantize out"
        )
    names = [value.name for value in model.graph.input]
    feeds = [dict(zip(names, feeds_of(batch), strict=True)) for batch in how.batches]
    if not feeds:
        raise ValueError("quantize=Calibration(...): batches is empty; give some samples")

    class Samples(quantization.CalibrationDataReader):
        """One sample after the other, then an empty one."""

        def __init__(self) -> None:
            self.rest = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray]:
            return next(self.rest, {})

    given = onnx.ModelProto()
    given.CopyFrom(model)  # the quantizer moves the weights of what it is given
    with quiet(), tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "static.onnx")
        quantization.quantize_static(
            given,
            path,
            Samples(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=how.per_channel,
            reduce_range=how.reduce_range,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=[node for node, weight in places.items() if weight in kept],
        )
        return onnx.load(path), chosen
