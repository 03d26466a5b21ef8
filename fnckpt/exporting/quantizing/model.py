"""An encoded ONNX file as a message whose weights can be changed, and back."""

from collections.abc import Iterator

import numpy as np
import onnx

from fnckpt.ir.targets.external import LEAST_BYTES, Beside, beside, fits
from fnckpt.ir.targets.target import Encoded


def message(encoded: Encoded) -> onnx.ModelProto:
    """The file with all its weights in it, in memory."""
    model = onnx.load_from_string(b"".join(bytes(part) for part in encoded.parts))
    if encoded.beside is not None:
        _fill(model, encoded.beside)
    return model


def _fill(model: onnx.ModelProto, data: Beside) -> None:
    held = dict(zip((place.offset for place in data.places()), data.arrays, strict=True))
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            offset = next(int(e.value) for e in tensor.external_data if e.key == "offset")
            tensor.raw_data = np.ascontiguousarray(held[offset]).tobytes()
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")


def encoded_again(model: onnx.ModelProto, stem: str, *, external: bool) -> Encoded:
    """The file of a message; its weights go beside it where they must, or shall."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    arrays = {name: _bytes(tensor) for name, tensor in tensors.items()}
    nodes = len(model.graph.node)
    if not external and fits(arrays, sum(node.ByteSize() for node in model.graph.node)):
        return Encoded([model.SerializeToString()], nodes)
    large = {name: array for name, array in arrays.items() if array.nbytes >= LEAST_BYTES}
    data = beside(
        tuple(large.values()),
        folder="",
        before=f"{stem}.onnx.",
        after=".data",
        front=b"",
        align=4096,
    )
    for name, place in zip(large, data.places(), strict=True):
        _move_out(tensors[name], data.location, place.offset, place.length)
    return Encoded([model.SerializeToString()], nodes, data)


def _bytes(tensor: onnx.TensorProto) -> np.ndarray:
    if not tensor.HasField("raw_data"):
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)
        )
    return np.frombuffer(tensor.raw_data, np.uint8)


def _move_out(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, held in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(held))


def initializers(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The weights and constants by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def products(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The products with a matrix that is known."""
    known = initializers(model)
    for node in model.graph.node:
        tensor = known.get(node.input[1]) if node.op_type == "MatMul" else None
        if tensor is not None and len(tensor.dims) == 2:
            yield node


def bytes_of(model: onnx.ModelProto) -> int:
    """What the weights and constants take, in a file and in memory."""
    return sum(_bytes(tensor).nbytes for tensor in model.graph.initializer)
