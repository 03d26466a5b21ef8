"""Whether ONNX Runtime will load an ONNX file: what ``onnx.checker`` finds, and what it leaves out.

The checker looks neither at the bytes of tensors nor at data in other files, and goes through
functions within functions as often as they are called, which a small file can make endless.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

import onnx
from onnx import helper

from fnckpt.ir.targets.foreign import AnyPath, elements, refusing, told
from fnckpt.ir.targets.onnx.read import load, unrolled_problem

MOST_DIGITS = 18  # of an offset or a length
NARROW = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}  # bits of an element


@refusing
def check(path: AnyPath) -> list[str]:
    """Why the file may not load, one line a fault; empty for a good file.

    Raises:
      FormatError: it is no ONNX file.
    """
    model = load(path)
    problems = [
        problem
        for where, tensor in tensors_of(model)
        for problem in tensor_problems(where, tensor, Path(path).parent)
    ]
    unrolled = unrolled_problem(model)
    if problems or unrolled:
        return [*problems, *([unrolled] if unrolled else [])]
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        RuntimeError,  # the checker's C++ raises what it likes
        ValueError,
        MemoryError,
    ) as error:
        return [" ".join(str(error).split())]
    return []


def tensors_of(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every tensor of a file with where it stands: weights, attributes, graphs within graphs."""
    yield from _of_graph("", model.graph)
    for function in model.functions:
        where = f"function {function.name}: "
        yield from _of_attributes(where, function.attribute_proto)
        yield from _of_nodes(where, function.node)


def _of_graph(where: str, graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for tensor in graph.initializer:
        yield f"{where}{tensor.name}", tensor
    for sparse in graph.sparse_initializer:
        yield from _of_sparse(where, sparse)
    yield from _of_nodes(where, graph.node)


def _of_sparse(
    where: str, sparse: onnx.SparseTensorProto
) -> Iterator[tuple[str, onnx.TensorProto]]:
    yield f"{where}{sparse.values.name}", sparse.values
    yield f"{where}the indices of {sparse.values.name}", sparse.indices


def _of_nodes(
    where: str, nodes: Iterable[onnx.NodeProto]
) -> Iterator[tuple[str, onnx.TensorProto]]:
    for node in nodes:
        yield from _of_attributes(f"{where}node {node.name or node.op_type}: ", node.attribute)


def _of_attributes(
    where: str, attributes: Iterable[onnx.AttributeProto]
) -> Iterator[tuple[str, onnx.TensorProto]]:
    for each in attributes:
        here = f"{where}{each.name}"
        for tensor in (*([each.t] if each.HasField("t") else []), *each.tensors):
            yield here, tensor
        sparse = [each.sparse_tensor] if each.HasField("sparse_tensor") else []
        for held in (*sparse, *each.sparse_tensors):
            yield from _of_sparse(f"{here}: ", held)
        for graph in (*([each.g] if each.HasField("g") else []), *each.graphs):
            yield from _of_graph(f"{here}: ", graph)


def tensor_problems(where: str, tensor: onnx.TensorProto, folder: Path) -> Iterator[str]:
    """A type that there is, a possible shape, and as many bytes as both say."""
    types = onnx.TensorProto.DataType
    if tensor.data_type not in types.values() or tensor.data_type == onnx.TensorProto.UNDEFINED:
        yield f"{where}: ONNX has no data_type {tensor.data_type}"
        return
    count = elements(tensor.dims)
    if count is None or min(tensor.dims, default=0) < 0:
        yield f"{where}: its dims are {told(tuple(tensor.dims))}, which is impossible for a tensor"
        return
    kind = types.Name(tensor.data_type)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        yield from external_problems(where, tensor, kind, count, folder)
    else:
        yield from inline_problems(where, tensor, kind, count)


def bytes_of(kind: str, count: int) -> int:
    """What so many elements of a type take in ``raw_data`` or in another file; 0 of texts."""
    if kind == "STRING":
        return 0
    if kind in NARROW:
        return -(-count * NARROW[kind] // 8)
    return count * helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(kind)).itemsize


def inline_problems(where: str, tensor: onnx.TensorProto, kind: str, count: int) -> Iterator[str]:
    """The data in the file itself stands in one field, whole."""
    lengths = lengths_of(tensor)
    held = [name for name, length in lengths.items() if length]
    own = "raw_data" if held == ["raw_data"] else helper.tensor_dtype_to_field(tensor.data_type)
    wanted = bytes_of(kind, count) if own == "raw_data" else _items_of(kind, count)
    if len(held) > 1:
        yield f"{where}: its data is in more than one field: {' and '.join(held)}"
    elif own == "raw_data" and kind == "STRING":
        yield f"{where}: strings cannot be stored in raw_data, only numbers can"
    elif lengths[own] != wanted:
        unit = "bytes" if own == "raw_data" else "items"
        shape = told(tuple(tensor.dims))
        yield f"{where}: {own} has {lengths[own]} {unit}, {kind} {shape} has {wanted}"


def lengths_of(tensor: onnx.TensorProto) -> dict[str, int]:
    """The items in each field of data."""
    return {
        "raw_data": len(tensor.raw_data),
        "float_data": len(tensor.float_data),
        "int32_data": len(tensor.int32_data),
        "string_data": len(tensor.string_data),
        "int64_data": len(tensor.int64_data),
        "double_data": len(tensor.double_data),
        "uint64_data": len(tensor.uint64_data),
    }


def _items_of(kind: str, count: int) -> int:
    """How many items the field of a type has."""
    if kind in ("COMPLEX64", "COMPLEX128"):
        return 2 * count
    return -(-count * NARROW[kind] // 8) if kind in NARROW else count


def external_problems(
    where: str, tensor: onnx.TensorProto, kind: str, count: int, folder: Path
) -> Iterator[str]:
    """The data in another file is inside the folder, whole, and as long as it should be."""
    held = {entry.key: entry.value for entry in tensor.external_data}
    location = held.get("location", "")
    if kind == "STRING":
        yield f"{where}: strings cannot be stored in another file, only numbers can"
    if not location:
        yield f"{where}: its data is in another file, which has no name"
        return
    if PurePath(location).is_absolute() or ".." in PurePath(location).parts:
        yield f"{where}: its data is in {location}, outside the graph's directory"
        return
    file = folder / location
    if not _is_inside(file, folder):
        yield f"{where}: its data is in {location}, and there is no such file in the directory"
        return
    numbers = {name: held.get(name, "0") for name in ("offset", "length")}
    wrong = [n for n, v in numbers.items() if not (v.isascii() and v.isdecimal())]
    wrong += [n for n, v in numbers.items() if len(v) > MOST_DIGITS]
    if wrong:
        yield f"{where}: the {wrong[0]} of its data is not a number of bytes"
        return
    wanted, offset = bytes_of(kind, count), int(numbers["offset"])
    if "length" in held and int(held["length"]) != wanted:
        found = int(held["length"])
        yield f"{where}: its data has {found} bytes, {kind} {told(tuple(tensor.dims))} {wanted}"
    end, size = offset + max(wanted, int(numbers["length"])), file.stat().st_size
    if end > size:
        yield f"{where}: its data ends at byte {end} of {file.name}, which has {size}"


def _is_inside(file: Path, folder: Path) -> bool:
    """Whether it is a regular file, and no link leads out of the folder."""
    try:
        inside = file.resolve().is_relative_to(folder.resolve())
        return inside and file.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False
