"""What GE calls types and layouts, and how attributes are held in the file.

A data type has two numbers: the file's, in a descriptor, and the engine's, in an attribute. They
agree for almost none. Source: graphengine r1.1, ``metadef/proto/ge_ir.proto`` and
``inc/external/graph/types.h``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fnckpt.proto.ge_ir_pb2 import AttrDef, TensorDescriptor

Value = bool | int | float | str | np.dtype | tuple["Value", ...]


@dataclass(frozen=True)
class DataType:
    """A type by GE's name; ``dtype`` is None where numpy has none."""

    name: str
    file: int
    engine: int
    dtype: np.dtype | None


_ROWS = """
FLOAT 1 0 float32 | FLOAT16 2 1 float16 | INT8 3 2 int8 | UINT8 4 4 uint8 | INT16 5 6 int16
UINT16 6 7 uint16 | INT32 7 3 int32 | INT64 8 9 int64 | UINT32 9 8 uint32 | UINT64 10 10 uint64
BOOL 11 12 bool | DOUBLE 12 11 float64 | STRING 13 13 - | DUAL_SUB_INT8 14 14 -
DUAL_SUB_UINT8 15 15 - | COMPLEX64 16 16 complex64 | COMPLEX128 17 17 complex128 | QINT8 18 18 -
QINT16 19 19 - | QINT32 20 20 - | QUINT8 21 21 - | QUINT16 22 22 - | RESOURCE 23 23 -
STRING_REF 24 24 - | DUAL 25 25 - | UNDEFINED 0 26 -
"""


def _data_type(row: str) -> DataType:
    name, file, engine, dtype = row.split()
    return DataType(name, int(file), int(engine), None if dtype == "-" else np.dtype(dtype))


DATA_TYPES = tuple(_data_type(row) for row in _ROWS.replace("|", "\n").strip().splitlines())
OF_DTYPE: Mapping[np.dtype, DataType] = {each.dtype: each for each in DATA_TYPES if each.dtype}
OF_FILE_CODE: Mapping[int, DataType] = {each.file: each for each in DATA_TYPES}
OF_ENGINE_CODE: Mapping[int, DataType] = {each.engine: each for each in DATA_TYPES}
OF_NAME: Mapping[str, DataType] = {each.name: each for each in DATA_TYPES}

UNCONNECTED = "FORMAT_RESERVED"
LAYOUTS = frozenset(
    ["NCHW", "NHWC", "ND", "HWCN", "CHWN", "NCDHW", "NDHWC", "DHWCN", "DHWNC", "CN", "NC"]
)

ListType = AttrDef.ListValue.ListValueType
SINGLE = {
    "Int": "i", "Float": "f", "Bool": "b", "String": "s", "Type": "dt", "Tensor": "t",
    "Bytes": "bt", "NamedAttrs": "func", "ListListInt": "list_list_int",
}  # fmt: skip
LISTS = {
    "ListString": ("s", ListType.VT_LIST_STRING),
    "ListInt": ("i", ListType.VT_LIST_INT),
    "ListFloat": ("f", ListType.VT_LIST_FLOAT),
    "ListBool": ("b", ListType.VT_LIST_BOOL),
    "ListTensor": ("t", ListType.VT_LIST_TENSOR),
    "ListNamedAttrs": ("na", ListType.VT_LIST_NAMED_ATTRS),
    "ListType": ("dt", ListType.VT_LIST_DATA_TYPE),
}


def _items(value: Value) -> tuple[Value, ...]:
    assert isinstance(value, tuple), value
    return value


def _int(value: Value) -> int:
    assert isinstance(value, int | np.integer), value
    return int(value)


def _float(value: Value) -> float:
    assert isinstance(value, int | float), value
    return float(value)


def _text(value: Value) -> bytes:
    assert isinstance(value, str), value
    return value.encode()


def _engine(value: Value) -> int:
    assert isinstance(value, np.dtype), value
    return OF_DTYPE[value].engine


def _nested(value: Value) -> AttrDef.ListListInt:
    rows = (AttrDef.ListListInt.ListInt(list_i=map(_int, _items(row))) for row in _items(value))
    return AttrDef.ListListInt(list_list_i=rows)


def _list(kind: str, item: Callable[[Value], object]) -> Callable[[Value], AttrDef]:
    field, code = LISTS[kind]

    def pack(value: Value) -> AttrDef:
        packed = AttrDef()
        packed.list.val_type = code
        getattr(packed.list, field).extend(item(each) for each in _items(value))
        return packed

    return pack


PACK: Mapping[str, Callable[[Value], AttrDef]] = {
    "Int": lambda value: AttrDef(i=_int(value)),
    "Float": lambda value: AttrDef(f=_float(value)),
    "Bool": lambda value: AttrDef(b=bool(value)),
    "String": lambda value: AttrDef(s=_text(value)),
    "Type": lambda value: AttrDef(dt=_engine(value)),
    "ListListInt": lambda value: AttrDef(list_list_int=_nested(value)),
    "ListInt": _list("ListInt", _int),
    "ListFloat": _list("ListFloat", _float),
    "ListBool": _list("ListBool", bool),
    "ListString": _list("ListString", _text),
}


def names_list(names: Iterable[str]) -> AttrDef:
    """A list of strings as the loader writes its own lists: without ``val_type``."""
    return AttrDef(list=AttrDef.ListValue(s=[name.encode() for name in names]))


def places_list(places: Iterable[int]) -> AttrDef:
    """A list of integers as the loader writes its own lists: without ``val_type``."""
    return AttrDef(list=AttrDef.ListValue(i=list(places)))


def descriptor(dtype: np.dtype, shape: tuple[int, ...], layout: str) -> TensorDescriptor:
    """The type of a connected port, as MindSpore's converter fills it."""
    packed = TensorDescriptor(
        dtype=f"DT_{OF_DTYPE[dtype].name}", layout=layout, has_out_attr=True, device_type="NPU"
    )
    packed.shape.dim.extend(shape)
    packed.shape.SetInParent()
    packed.real_dim_cnt = len(shape)
    packed.attr["origin_format"].s = b"ND"
    packed.attr["origin_shape"].list.val_type = ListType.VT_LIST_INT
    packed.attr["shape_range"].list_list_int.SetInParent()
    return packed


def unconnected() -> TensorDescriptor:
    """The type of an optional port that nothing is connected to."""
    packed = TensorDescriptor(layout=UNCONNECTED, has_out_attr=True, device_type="NPU")
    packed.shape.SetInParent()
    packed.attr["origin_format"].s = b"ND"
    return packed
