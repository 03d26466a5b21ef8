"""ONNX files become graphs; importing this fills the table of imports."""

from fnckpt.ir.sources.onnx import (
    bits,
    control,
    einsum,
    elementwise,
    image,
    index,
    network,
    pool,
    quantized,
    recurrent,
    reduction,
    sampling,
    sequence,
    shape,
    signal,
)
from fnckpt.ir.sources.onnx.reading import source

__all__ = [
    "bits",
    "control",
    "einsum",
    "elementwise",
    "image",
    "index",
    "network",
    "pool",
    "quantized",
    "recurrent",
    "reduction",
    "sampling",
    "sequence",
    "shape",
    "signal",
    "source",
]
