"""Builds GE operators one by one; weights stay views of their arrays until they are written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fnckpt.ir.graph import Aval, CNode, Constant, Node, Parameter, aval_of
from fnckpt.ir.targets.air.codes import (
    OF_DTYPE,
    PACK,
    Value,
    descriptor,
    names_list,
    places_list,
    unconnected,
)
from fnckpt.ir.targets.air.prototypes import Attribute, Port, Prototype, prototype
from fnckpt.ir.targets.target import Refusal
from fnckpt.proto.ge_ir_pb2 import AttrDef, OpDef, TensorDescriptor

ALWAYS_WRITTEN = {"data_format"}  # GE's defaults differ from type to type and from MindSpore's


@dataclass(frozen=True)
class Ref:
    """The result number ``index`` of the operator ``name``; ``const``: a Const holds it."""

    name: str
    index: int
    aval: Aval
    const: bool = False

    def __str__(self) -> str:
        return f"{self.name}:{self.index}"


Given = Node | Ref | None | Sequence[Node | Ref]


@dataclass(frozen=True)
class Written:
    """An operator of the file; ``value`` is what a Const holds, not yet in ``op``."""

    op: OpDef
    value: np.ndarray | None = None


@dataclass(frozen=True)
class Connection:
    """A port of one operator and what it is connected to, if it is."""

    name: str
    port: Port
    source: Ref | None


@dataclass
class Writer:
    """The operators written so far.

    Attributes:
      names: what each node is called, by ``id``.
      biases: for an Add that a product takes up as its bias, by ``id``: product and bias.
      unwritten: nodes that were asked for but refused; nothing may be written with any of them.
    """

    names: Mapping[int, str]
    biases: Mapping[int, tuple[CNode, Node]] = field(default_factory=dict)
    written: list[Written] = field(default_factory=list)
    refs: dict[int, tuple[Ref, ...]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    unwritten: list[CNode] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.taken.update(self.names.values())

    def node(
        self,
        kind: str,
        node: CNode,
        *inputs: Given,
        layout: str = "NCHW",
        more: Iterable[Aval] = (),
        **attrs: Value,
    ) -> None:
        """Write ``node`` as an operator of the type ``kind``.

        ``inputs`` fill the prototype's ports in order: None leaves an optional one open, a
        sequence fills a dynamic one. ``more`` are results of the type that ``node`` lacks.
        """
        results = (*node.results, *more)
        self.refs[id(node)] = self.op(kind, self.names[id(node)], inputs, results, layout, attrs)

    def step(self, kind: str, node: CNode, *inputs: Given, aval: Aval, **attrs: Value) -> Ref:
        """Write an operator on the way to ``node``; its result."""
        name = self.unused(f"{self.names[id(node)]}/{kind}")
        return self.op(kind, name, inputs, (aval,), "NCHW", attrs)[0]

    def op(
        self,
        kind: str,
        name: str,
        inputs: Sequence[Given],
        results: Sequence[Aval],
        layout: str,
        attrs: Mapping[str, Value],
    ) -> tuple[Ref, ...]:
        """Write an operator; one reference for each result."""
        proto = prototype(kind)
        assert proto is not None, kind
        connections = self._connect(proto, inputs)
        for each, aval in zip(proto.outputs, results, strict=True):
            _check_dtype(kind, each, aval)
        op = OpDef(name=name, type=kind, has_out_attr=True, id=len(self.written))
        for each in connections:
            source = each.source
            op.input.append("" if source is None else str(source))
            op.input_desc.append(
                unconnected() if source is None else _describe(source.aval, layout)
            )
        op.output_desc.extend(_describe(aval, layout) for aval in results)
        op.is_input_const.extend(each.source.const for each in connections if each.source)
        _name_ports(op, proto, [each.name for each in connections])
        _count_dynamic(op, proto, connections)
        for key, value in attrs.items():
            _set_attribute(op, proto, key, value)
        missing = {a.name for a in proto.attributes if a.required} - set(attrs)
        assert not missing, (kind, missing)
        self.written.append(Written(op))
        return tuple(Ref(name, index, aval) for index, aval in enumerate(results))

    def _connect(self, proto: Prototype, inputs: Sequence[Given]) -> list[Connection]:
        assert len(inputs) <= len(proto.inputs), (proto.name, inputs)
        given = [*inputs, *[None] * (len(proto.inputs) - len(inputs))]
        connections: list[Connection] = []
        for port, value in zip(proto.inputs, given, strict=True):
            if port.kind == "dyn":
                assert isinstance(value, Sequence)
                members = [self.ref(each) for each in value]
                connections += [
                    Connection(f"{port.name}{i}", port, ref) for i, ref in enumerate(members)
                ]
            elif value is None:
                assert port.kind == "opt", (proto.name, port.name)
                connections.append(Connection(port.name, port, None))
            else:
                assert not isinstance(value, Sequence)
                connections.append(Connection(port.name, port, self.ref(value)))
        for each in connections:
            if each.source is not None:
                _check_dtype(proto.name, each.port, each.source.aval)
        return connections

    def ref(self, value: Node | Ref) -> Ref:
        """Where the value of a node is found; a weight or a constant is written when first used."""
        if isinstance(value, Ref):
            return value
        if isinstance(value, CNode) and value.op == "TupleGetItem":
            (source,), index = value.inputs, value.attrs["index"]
            assert isinstance(index, int)
            self.ref(source)
            return self.refs[id(source)][index]
        if id(value) not in self.refs:
            self.refs[id(value)] = self._first_use(value)
        return self.refs[id(value)][0]

    def _first_use(self, value: Node) -> tuple[Ref, ...]:
        if isinstance(value, CNode):
            self.unwritten.append(value)
            return tuple(
                Ref(self.names[id(value)], i, aval) for i, aval in enumerate(value.results)
            )
        return (self._write_value(value),)

    def _write_value(self, node: Parameter | Constant) -> Ref:
        assert node.value is not None
        name = self.names[id(node)]
        if isinstance(node, Parameter):
            name = self.unused(f"{name}_const")
        return self.constant(name, node.value)

    def constant(self, name: str, value: np.ndarray) -> Ref:
        """Write a Const."""
        aval = aval_of(value)
        self.op("Const", name, (), (aval,), "NCHW", {})
        self.written[-1] = Written(self.written[-1].op, value)
        return Ref(name, 0, aval, const=True)

    def int32s(self, node: CNode, name: str, values: Sequence[int] | int) -> Ref:
        """Write a Const of int32 for the port ``name`` of ``node``: a vector, or a scalar."""
        value = np.asarray(values, np.int64)
        if value.size and np.abs(value).max() > np.iinfo(np.int32).max:
            raise Refusal(f"{name} {values} does not fit int32; use smaller arrays")
        return self.constant(self.unused(f"{self.names[id(node)]}/{name}"), value.astype(np.int32))

    def data(self, parameter: Parameter, index: int) -> None:
        """Write an input of the graph."""
        name = self.names[id(parameter)]
        op = OpDef(name=name, type="Data", input=[""], has_out_attr=True, id=len(self.written))
        op.input_desc.append(_describe(parameter.aval, "NCHW"))
        op.output_desc.append(_describe(parameter.aval, "NCHW"))
        proto = prototype("Data")
        assert proto is not None
        _name_ports(op, proto, ["x"])
        op.attr["index"].i = index
        self.written.append(Written(op))
        self.refs[id(parameter)] = (Ref(name, 0, parameter.aval),)

    def unused(self, name: str) -> str:
        """``name``, or where it is taken ``name_1`` and so on."""
        candidate, count = name, 0
        while candidate in self.taken:
            count += 1
            candidate = f"{name}_{count}"
        self.taken.add(candidate)
        return candidate


def unknown_dtype(aval: Aval) -> str | None:
    """Why a value cannot be held in the file, or None."""
    if aval.dtype in OF_DTYPE and aval.dtype.kind != "c":
        return None
    return f"GE r1.1 has no type for {aval.dtype}; compute in float32, float16 or an integer type"


def _describe(aval: Aval, layout: str) -> TensorDescriptor:
    return descriptor(aval.dtype, aval.shape, layout)


def _check_dtype(kind: str, port: Port, aval: Aval) -> None:
    unknown = unknown_dtype(aval)
    if unknown:
        raise Refusal(unknown)
    if port.dtypes is not None and OF_DTYPE[aval.dtype].name not in port.dtypes:
        real = {data.name: str(dtype) for dtype, data in OF_DTYPE.items() if dtype.kind != "c"}
        known = sorted(real[name] for name in port.dtypes & set(real))
        raise Refusal(
            f"GE's {kind} takes no {aval.dtype} as {port.name}; cast to one of {', '.join(known)}"
        )


def _name_ports(op: OpDef, proto: Prototype, inputs: list[str]) -> None:
    for side, names in (("input", inputs), ("output", [port.name for port in proto.outputs])):
        if names:
            by_name = sorted(range(len(names)), key=names.__getitem__)
            op.attr[f"_{side}_name_key"].CopyFrom(names_list(names[i] for i in by_name))
            op.attr[f"_{side}_name_value"].CopyFrom(places_list(by_name))
    optional = [port.name for port in proto.inputs if port.kind == "opt"]
    if optional:
        op.attr["_opt_input"].CopyFrom(names_list(optional))
    if op.is_input_const:
        op.attr["is_input_const"].CopyFrom(PACK["ListBool"](tuple(op.is_input_const)))


def _count_dynamic(op: OpDef, proto: Prototype, connections: list[Connection]) -> None:
    for port in proto.inputs:
        if port.kind == "dyn":
            count = sum(each.port is port for each in connections)
            op.attr[f"__dynamic_input_{port.name}_cnt"].i = count


def _set_attribute(op: OpDef, proto: Prototype, key: str, value: Value) -> None:
    """Required ones always, others where they differ from the default."""
    attribute = proto.attribute(key)
    assert attribute is not None, (proto.name, key)
    packed = PACK[attribute.kind](value)
    if attribute.required or key in ALWAYS_WRITTEN or packed != _packed_default(attribute):
        op.attr[key].CopyFrom(packed)


def _packed_default(attribute: Attribute) -> AttrDef | None:
    default = attribute.default
    return PACK[attribute.kind](default) if default is not None else None
