"""The bytes of an ONNX file as its message, and its arrays as views of them.

Large arrays are taken out of the message before it is parsed, so that nothing is copied; those in
other files are mapped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from fnckpt.errors import FormatError
from fnckpt.ir.sources.mapping import beside
from fnckpt.ir.targets.external import MOST_BYTES
from fnckpt.wire import LENGTH, Part, Reader, field

MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW_DATA = 7, 5, 9
LEAST_VIEWED = 4096  # bytes of a tensor that stays in the message
MOST_AXES = 64  # of NumPy
NARROW = ("uint4", "int4", "uint2", "int2", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn")


@dataclass(frozen=True)
class Model:
    """A file: ``name`` is what errors call it; ``folder`` is where its other files lie.

    ``views`` are the data of initializers that are not in ``proto``, by their number.
    """

    name: str
    folder: Path | None
    proto: onnx.ModelProto
    views: Mapping[int, memoryview]

    def initializers(self) -> dict[str, np.ndarray]:
        """The arrays of the outermost graph by name.

        Raises:
          FormatError: the data of one is not what its shape says.
        """
        found: dict[str, np.ndarray] = {}
        for index, tensor in enumerate(self.proto.graph.initializer):
            if tensor.name in found:
                raise FormatError(f"{self.name}: two initializers are called {tensor.name!r}")
            found[tensor.name] = self.array(tensor, self.views.get(index))
        return found

    def array(self, tensor: onnx.TensorProto, view: memoryview | None = None) -> np.ndarray:
        """The array of a tensor.

        Raises:
          FormatError: its data is not what its shape says, or lies where it must not.
        """
        dtype = self.dtype(tensor.data_type, tensor.name)
        shape = tuple(tensor.dims)
        if len(shape) > MOST_AXES or any(not 0 <= size < 1 << 48 for size in shape):
            raise self.error(tensor.name, f"its shape {list(shape)[:8]} is impossible")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            view = self._beside(tensor)
        try:
            if view is None:
                return numpy_helper.to_array(tensor)
            if dtype.name in NARROW:
                whole = onnx.TensorProto(dims=shape, data_type=tensor.data_type)
                whole.raw_data = bytes(view)
                return numpy_helper.to_array(whole)
            return np.frombuffer(view, dtype.newbyteorder("<")).reshape(shape)
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            raise self.error(tensor.name, f"its data does not fit its shape: {error}") from None

    def dtype(self, element: int, name: str) -> np.dtype:
        """NumPy's dtype of an element type.

        Raises:
          FormatError: there is no such type.
        """
        if element not in onnx.TensorProto.DataType.values()[1:]:  # the first is UNDEFINED
            raise self.error(name, f"there is no element type {element}")
        return helper.tensor_dtype_to_np_dtype(element)

    def error(self, name: str, fault: str) -> FormatError:
        """``<file>: <name>: <fault>``."""
        return FormatError(f"{self.name}: {name!r}: {fault}")

    def _beside(self, tensor: onnx.TensorProto) -> memoryview:
        """The data of a tensor in another file."""
        held = {entry.key: entry.value for entry in tensor.external_data}
        location = held.get("location", "")
        file = beside(f"{self.name}: {tensor.name!r}", location, self.folder)
        numbers = [held.get("offset", "0"), held.get("length", "")]
        if not all(each.isdecimal() or not each for each in numbers):
            raise self.error(tensor.name, f"its data has no place in {location!r}: {numbers}")
        size = file.size
        start = int(numbers[0] or 0)
        end = start + int(numbers[1]) if numbers[1] else size
        if end > size or start > end:
            raise self.error(tensor.name, f"its data ends at byte {end} of {location!r}, {size}")
        return file.part(start, end)


def read(data: memoryview, name: str, folder: Path | None) -> Model:
    """The model in ``data``.

    Raises:
      FormatError: it is no ONNX model.
    """
    views: dict[int, memoryview] = {}
    try:
        light = b"".join(_light_model(Reader(data, name), views))
    except FormatError as error:
        detail = str(error).removeprefix(f"{name}: ")
        raise FormatError(f"{name}: not an ONNX file, or a damaged one: {detail}") from None
    if len(light) > MOST_BYTES:
        raise FormatError(f"{name}: not an ONNX file, its graph is larger than {MOST_BYTES} bytes")
    try:
        proto = onnx.ModelProto.FromString(light)
    except DecodeError:
        raise FormatError(f"{name}: not an ONNX file, its bytes are not a ModelProto") from None
    if not proto.HasField("graph"):
        raise FormatError(f"{name}: not an ONNX file, it holds no graph")
    return Model(name, folder, proto, views)


def _light_model(reader: Reader, views: dict[int, memoryview]) -> list[Part]:
    parts: list[Part] = []
    begin, count = reader.at, 0
    for number, wire in reader.fields():
        if (number, wire) == (MODEL_GRAPH, LENGTH):
            graph, count = _light_graph(reader.chunk(), views, count)
            parts += field(MODEL_GRAPH, graph)
        else:
            reader.skip(wire)
            parts.append(reader.data[begin : reader.at])
        begin = reader.at
    return parts


def _light_graph(
    reader: Reader, views: dict[int, memoryview], count: int
) -> tuple[list[Part], int]:
    parts: list[Part] = []
    begin = reader.at
    for number, wire in reader.fields():
        tensor = reader.chunk() if (number, wire) == (GRAPH_INITIALIZER, LENGTH) else None
        if tensor is None:
            reader.skip(wire)
        elif len(tensor.data) >= LEAST_VIEWED:
            parts += field(GRAPH_INITIALIZER, _light_tensor(tensor, views, count))
        if tensor is None or len(tensor.data) < LEAST_VIEWED:
            parts.append(reader.data[begin : reader.at])
        count += tensor is not None
        begin = reader.at
    return parts, count


def _light_tensor(reader: Reader, views: dict[int, memoryview], index: int) -> list[Part]:
    parts: list[Part] = []
    begin = reader.at
    for number, wire in reader.fields():
        if (number, wire) == (TENSOR_RAW_DATA, LENGTH):
            views[index] = reader.chunk().data
        else:
            reader.skip(wire)
            parts.append(reader.data[begin : reader.at])
        begin = reader.at
    return parts
