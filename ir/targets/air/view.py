"""An AIR file as its operators, attributes decoded and defaults filled in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from fnckpt.ir.targets.air.codes import LISTS, OF_ENGINE_CODE, OF_FILE_CODE, SINGLE, Value
from fnckpt.ir.targets.air.prototypes import Attribute, Port, Prototype, prototype
from fnckpt.ir.targets.foreign import elements
from fnckpt.proto.ge_ir_pb2 import AttrDef, GraphDef, OpDef, TensorDescriptor


@dataclass(frozen=True)
class Desc:
    """The type of a port: ``dtype`` by GE's name, so that a bad code can be told."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def desc_of(packed: TensorDescriptor) -> Desc:
    """What a descriptor says."""
    known = OF_FILE_CODE.get(packed.dtype)
    return Desc(known.name if known else f"code {packed.dtype}", tuple(packed.shape.dim))


@dataclass(frozen=True)
class OpView:
    """An operator as rules and kernels read it.

    Attributes:
      inputs: one for each port of the prototype: a name ``producer:index``, None where nothing is
        connected, and a tuple for a dynamic port.
      attrs: those of the prototype, with defaults.
      outputs: the declared types of the results.
      const: what a Const holds.
    """

    name: str
    type: str
    inputs: tuple[str | tuple[str, ...] | None, ...]
    attrs: Mapping[str, Value] = field(default_factory=dict)
    outputs: tuple[Desc, ...] = ()
    const: np.ndarray | None = None

    def ints(self, name: str) -> tuple[int, ...]:
        """A ListInt."""
        value = self.attrs[name]
        assert isinstance(value, tuple)
        return tuple(int(each) for each in value if isinstance(each, int))

    def integer(self, name: str) -> int:
        """An Int."""
        value = self.attrs[name]
        assert isinstance(value, int)
        return value

    def number(self, name: str) -> float:
        """A Float."""
        value = self.attrs[name]
        assert isinstance(value, int | float)
        return float(value)

    def flag(self, name: str) -> bool:
        """A Bool."""
        return bool(self.attrs[name])

    def text(self, name: str) -> str:
        """A String."""
        return str(self.attrs[name])

    def dtype(self, name: str) -> np.dtype:
        """A Type."""
        value = self.attrs[name]
        assert isinstance(value, np.dtype)
        return value

    def sources(self) -> list[str]:
        """The connected inputs."""
        flat: list[str] = []
        for each in self.inputs:
            flat.extend([each] if isinstance(each, str) else each or ())
        return flat


def split(source: str) -> tuple[str, int] | None:
    """``producer:index`` as its parts; None where it is not of that form."""
    producer, _, index = source.rpartition(":")
    is_number = index.isdecimal() and len(index) < 10
    if not producer or not (is_number or index == "-1"):
        return None
    return producer, int(index)


def members(op: OpDef, proto: Prototype) -> list[tuple[str, Port]]:
    """The names of the input ports that ``op`` should have, dynamic ones by their count."""
    names: list[tuple[str, Port]] = []
    for port in proto.inputs:
        if port.kind == "dyn":
            count = op.attr[f"__dynamic_input_{port.name}_cnt"].i if has_count(op, port) else 0
            names += [(f"{port.name}{i}", port) for i in range(min(count, len(op.input) + 1))]
        else:
            names.append((port.name, port))
    return names


def has_count(op: OpDef, port: Port) -> bool:
    """Whether the count of a dynamic input is there, as an integer."""
    key = f"__dynamic_input_{port.name}_cnt"
    return key in op.attr and op.attr[key].WhichOneof("value") == "i"


def links(op: OpDef) -> list[str]:
    """The inputs that carry data; control edges end in ``:-1``."""
    return [source for source in op.input if not source.endswith(":-1")]


def view(op: OpDef) -> OpView:
    """``op``, whose type must be known, decoded."""
    proto = prototype(op.type)
    assert proto is not None
    ports = members(op, proto)
    given = iter([*links(op), *[""] * len(ports)])
    inputs: list[str | tuple[str, ...] | None] = []
    for port in proto.inputs:
        if port.kind == "dyn":
            count = sum(each is port for _, each in ports)
            inputs.append(tuple(next(given) for _ in range(count)))
        else:
            inputs.append(next(given) or None)
    attrs = {each.name: attribute(op, each) for each in proto.attributes if each.kind != "Tensor"}
    known = {name: value for name, value in attrs.items() if value is not None}
    outputs = tuple(map(desc_of, op.output_desc))
    return OpView(op.name, op.type, tuple(inputs), known, outputs, const_of(op))


def attribute(op: OpDef, expected: Attribute) -> Value | None:
    """The value in the file, or else the default; None where there is neither."""
    if expected.name in op.attr:
        return unpack(expected.kind, op.attr[expected.name])
    return expected.default


def unpack(kind: str, packed: AttrDef) -> Value | None:
    """The value of an attribute that holds what its kind says."""
    if kind in LISTS:
        items: Iterable[object] = getattr(packed.list, LISTS[kind][0])
        return tuple(each for each in (_item(kind, item) for item in items) if each is not None)
    if kind == "ListListInt":
        return tuple(tuple(row.list_i) for row in packed.list_list_int.list_list_i)
    return _item(kind, getattr(packed, SINGLE[kind]))


def _item(kind: str, item: object) -> Value | None:
    if kind in ("Type", "ListType"):
        assert isinstance(item, int)
        known = OF_ENGINE_CODE.get(item)
        return known.dtype if known else None
    if isinstance(item, bytes):
        return item.decode(errors="replace")
    return item if isinstance(item, bool | int | float) else None


def const_of(op: OpDef) -> np.ndarray | None:
    """What a Const holds; None where it holds nothing, or not what it declares."""
    if op.type not in ("Const", "Constant") or "value" not in op.attr:
        return None
    tensor = op.attr["value"].t
    known = OF_FILE_CODE.get(tensor.desc.dtype)
    shape = tuple(tensor.desc.shape.dim)
    if known is None or known.dtype is None or min(shape, default=0) < 0:
        return None
    count = elements(shape)
    if count is None or len(tensor.data) != known.dtype.itemsize * count:
        return None
    stored = known.dtype.newbyteorder("<")
    return np.frombuffer(tensor.data, stored).reshape(shape).astype(known.dtype, copy=False)


def output_names(graph: GraphDef) -> list[str]:
    """The results as ``op:index``: the graph's list, or the inputs of a NetOutput."""
    listed = list(graph.output)
    for op in graph.op:
        if op.type == "NetOutput":
            listed += links(op)
    return listed
