"""The nodes, constants and primitives of a MindIR graph while it is written."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.graph import Aval, CNode, Constant, FuncGraph, Node, Parameter, aval_of
from fnckpt.ir.passes.rewrite import Rule
from fnckpt.ir.sizes import InconclusiveDimensionOperation, is_known
from fnckpt.ir.targets.external import raw
from fnckpt.ir.targets.mindir.codes import DATA_TYPES, TYPE_IDS, data_type
from fnckpt.ir.targets.mindir.kernels import KERNELS, OLDER_KERNELS, Kernels
from fnckpt.ir.targets.mindir.known import may_be_nan, may_be_negative_zero, may_be_special
from fnckpt.ir.targets.mindir.legalize_older import OLDER
from fnckpt.ir.targets.mindir.legalize_pad import NEWER
from fnckpt.ir.targets.mindir.primitives import CODES, form_of
from fnckpt.ir.targets.names import value_names
from fnckpt.ir.targets.target import Part
from fnckpt.proto import mind_ir_pb2 as mind_ir
from fnckpt.wire import field

Value = Node | str
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Computed:
    """An argument that is the result of a node, by its name."""

    name: str


Argument = bool | int | float | str | np.dtype | Computed | tuple["Argument", ...]

_Attribute = mind_ir.AttributeProto
_Primitive = mind_ir.PrimitiveProto

TENSOR_RAW_DATA, ATTRIBUTE_TENSORS, NODE_ATTRIBUTE, GRAPH_NODE = 9, 12, 5, 1
MOST_SHARED = 1024  # bytes of a constant that is written once however often it is used


@dataclass(frozen=True)
class Dialect:
    """Which MindSpore reads the file: since 2.3 the argument style, before the attribute style.

    Attributes:
      arguments: whether primitives take all but tensors as inputs.
      mind_ir_version: as it stands in the file.
      kernels: the dtypes that the readers compute.
      legalize: rewrites for what those readers lack or run slowly, after those of the target.
    """

    arguments: bool
    mind_ir_version: int
    kernels: Kernels
    legalize: Sequence[Rule]


DIALECTS: Mapping[str, Dialect] = {
    "2.3": Dialect(True, 3, KERNELS, NEWER),
    "2.0": Dialect(False, 0, OLDER_KERNELS, OLDER),
}


@dataclass(frozen=True)
class _Written:
    """A node: its name, its operator, what it reads and calls, its places among the parts."""

    name: str
    op: str
    inputs: tuple[str, ...]
    places: range


class Writer:
    """Collects what emitters write.

    Attributes:
      inputs: of the graph; symbolic sizes are read off them.
      dialect: how primitives take their arguments.
      parts: the nodes as fields of a ``GraphProto``, in order; constants stand in the main graph,
        where every function finds them.
      functions: the other graphs of the file, each as fields of a ``GraphProto``.
      count: how many operators they hold, constants not counted.
      primitives: what nodes refer to as ``REF::<name>``.
    """

    def __init__(self, graph: FuncGraph, dialect: Dialect) -> None:
        self.names, self.inputs, self.dialect = value_names(graph), graph.inputs, dialect
        self._alive: list[FuncGraph] = []  # an id is only good for as long as its node lives
        self._root = self
        self.learn(graph)
        self.parts: list[Part] = []
        self._written: list[_Written] = []
        self.functions: list[list[Part]] = []
        self.count = 0
        self.primitives: dict[bytes, _Primitive] = {}
        self._needed: set[str] = set()
        self._taken = set(self.names.values())
        self._shared: dict[bytes, str] = {}
        self._avals: dict[str, Aval] = {}  # of what is written, of several results the first

    def learn(self, graph: FuncGraph) -> None:
        """Look at what may be in the values of ``graph``, which is to be written."""
        self._alive.append(graph)
        nodes = graph.nodes()
        self._special = may_be_special(nodes)
        self._nan = may_be_nan(nodes, self._special)
        self._negative_zero = may_be_negative_zero(nodes)

    def inner(self, inputs: Sequence[Parameter]) -> "Writer":
        """The writer of a function with ``inputs``: nodes of its own, names of the whole file."""
        writer = copy(self)
        writer.inputs, writer.parts, writer.count = tuple(inputs), [], 0
        writer._written = []
        self._alive.append(FuncGraph("", tuple(inputs), (), ()))
        self.names.update((id(parameter), parameter.name) for parameter in inputs)
        self._avals.update((parameter.name, parameter.aval) for parameter in inputs)
        return writer

    def end(self, inner: "Writer", parts: list[Part]) -> None:
        """Add a function that ``inner`` wrote, as fields of a ``GraphProto``."""
        self.functions.append(parts)
        self._root.count += inner.count

    def control(self, op: str, name: str, *refs: str) -> str:
        """Write what makes or chooses a closure; its name."""
        name = self.unused(name)
        message = mind_ir.NodeProto(input=refs, output=[name], name=name, op_type=op)
        message.domain = f"Default/{op}-op{self.count}"
        if self.dialect.arguments:
            message.op_type = f"REF::{self.primitive(op, (), _Primitive.PRIMITIVE)}"
        self._append(message)
        return name

    def call(
        self, called: str, refs: Sequence[str], results: Sequence[Aval], name: str, scope: str
    ) -> None:
        """Write the call of a function or a closure as the node ``name``."""
        message = mind_ir.NodeProto(input=refs, output=[name], name=name, op_type=f"REF::{called}")
        message.domain = "/".join(filter(None, ("Default", scope, f"Call-op{self.count}")))
        message.attribute.append(type_attribute(results, is_tuple=len(results) > 1))
        self._append(message, called)
        self._avals[name] = results[0]

    def _append(self, message: mind_ir.NodeProto, called: str = "") -> None:
        start = len(self.parts)
        self.parts += field(GRAPH_NODE, [message.SerializeToString()])
        self._written.append(
            _Written(
                message.name,
                message.op_type,
                (*message.input, called),
                range(start, len(self.parts)),
            )
        )
        self.count += 1

    def needed(self) -> list[_Primitive]:
        """The primitives of what ``live`` gave, of all functions."""
        return [each for each in self.primitives.values() if f"REF::{each.name}" in self._needed]

    def live(self, output: str) -> list[Part]:
        """The parts that ``output`` needs: a step that nobody uses in the end is left out."""
        used, dropped = {output}, set[int]()
        for each in reversed(self._written):
            if each.name in used:
                used.update(each.inputs)
                self._root._needed.add(each.op)
            else:
                dropped.update(each.places)
                self.count -= 1
        return [part for place, part in enumerate(self.parts) if place not in dropped]

    def is_special(self, node: Node) -> bool:
        """Whether NaN or an infinity may be in a value of the graph."""
        return id(node) in self._special

    def is_nan(self, node: Node) -> bool:
        """Whether NaN may be in a value of the graph."""
        return id(node) in self._nan

    def is_negative_zero(self, node: Node) -> bool:
        """Whether -0.0 may be in a value of the graph."""
        return id(node) in self._negative_zero

    def ref(self, value: Value) -> str:
        """The name of a value; a constant is written at its first use."""
        if isinstance(value, str):
            return value
        if isinstance(value, Constant):
            return self.tensor(value.value, self.names[id(value)])
        return self.names[id(value)]

    def unused(self, name: str) -> str:
        """``name``, or with a number where it is taken."""
        candidate, number = name, 0
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate

    def node(self, op: str, node: CNode, *inputs: Value, **arguments: Argument) -> None:
        """Write the primitive ``op`` as what computes ``node``."""
        self.add(op, inputs, node.results, self.names[id(node)], node.origin.scope, **arguments)

    def step(
        self, op: str, node: CNode, result: Aval | Sequence[Aval], *inputs: Value,
        **arguments: Argument,
    ) -> str:  # fmt: skip
        """Write ``op`` as a step towards ``node``; its name. Several results are one tuple."""
        name = self.unused(f"{self.names[id(node)]}/{op}")
        results = (result,) if isinstance(result, Aval) else result
        self.add(op, inputs, results, name, node.origin.scope, **arguments)
        return name

    def item(self, node: CNode, source: Value, index: int, result: Aval) -> str:
        """The result number ``index`` of a step with several."""
        return self.step("TupleGetItem", node, result, source, self.value(index))

    def tuple(self, node: CNode, inputs: Sequence[Node]) -> str:
        """The inputs as one tuple."""
        return self.step("MakeTuple", node, [value.aval for value in inputs], *inputs)

    def add(
        self, op: str, inputs: Sequence[Value], results: Sequence[Aval], name: str, scope: str,
        **arguments: Argument,
    ) -> None:  # fmt: skip
        """Write a node called ``name``, its arguments as the dialect spells them."""
        form, new_style = form_of(op), self.dialect.arguments
        if form.alike and not new_style:
            inputs = [self.spread(value, results[0].shape, name, scope) for value in inputs]
        refs = [self.ref(value) for value in inputs]
        attributes: list[_Attribute] = []
        known = form.arguments or ()
        for argument in known if form.arguments is not None else arguments:
            content = arguments[argument]
            if isinstance(content, Computed):
                refs.append(content.name)
            elif form.arguments is not None and (new_style or argument in form.inputs):
                refs.append(self.value(_coded(op, argument, content) if new_style else content))
            elif argument not in form.new:
                attributes.append(attribute(argument, content))
        kind = type_attribute(results, is_tuple=op in SEVERAL)
        self._write(op, refs, attributes, kind, name, scope)
        self._avals[name] = results[0]

    def size(self, op: str, *inputs: str, items: int = 0) -> str:
        """``op`` of sizes, written once; it gives a size, or with ``items`` so many as a tuple."""
        key = "\0".join((op, *inputs)).encode()
        if key not in self._shared:
            name = self._shared[key] = self.unused(f"size/{op}")
            self._write(op, inputs, (), size_attribute(items), name, "")
        return self._shared[key]

    def _write(
        self, op: str, refs: Sequence[str], attributes: Sequence[_Attribute], result: _Attribute,
        name: str, scope: str,
    ) -> None:  # fmt: skip
        message = mind_ir.NodeProto(input=refs, output=[name], name=name)
        message.domain = "/".join(filter(None, ("Default", scope, f"{op}-op{self.count}")))
        if self.dialect.arguments:
            signature = form_of(op).arguments is not None
            kind = _Primitive.PRIMITIVE_FUNCTION if signature else _Primitive.PRIMITIVE
            message.op_type = f"REF::{self.primitive(op, attributes, kind)}"
        else:
            message.op_type = op
            message.attribute.extend(attributes)
        message.attribute.append(result)
        self._append(message)

    def spread(self, value: Value, shape: Shape, name: str, scope: str) -> Value:
        """``value`` repeated to ``shape``, in steps towards the node ``name``."""
        aval = self._avals[value] if isinstance(value, str) else value.aval
        if aval.shape == shape:
            return value
        ones = (1,) * (len(shape) - len(aval.shape)) + aval.shape
        if ones != aval.shape:
            whole = self.unused(f"{name}/Reshape")
            self.add("Reshape", [value], [Aval(ones, aval.dtype)], whole, scope, shape=ones)
            value = whole
        if ones == shape:
            return value
        times = tuple(1 if n == size else size for n, size in zip(ones, shape, strict=True))
        repeated = self.unused(f"{name}/Tile")
        self.add("Tile", [value], [Aval(shape, aval.dtype)], repeated, scope, multiples=times)
        return repeated

    def primitive(
        self, op: str, attributes: Sequence[_Attribute], kind: _Primitive.PrimType
    ) -> str:
        """The name of the ``PrimitiveProto`` of ``op`` with these attributes."""
        made = _Primitive(op_type=op, attribute=attributes, instance_name="", prim_type=kind)
        key = made.SerializeToString()
        if key not in self.primitives:
            made.name = f"{op}:{len(self.primitives) + 1}"
            self.primitives[key] = made
        return self.primitives[key].name

    def value(self, content: Argument) -> str:
        """A constant that is no tensor: a number, a tuple, a type."""
        message = attribute("value", content)
        key = message.SerializeToString()
        if key not in self._shared:
            name = self._shared[key] = self.unused("value")
            node = mind_ir.NodeProto(output=[name], name=name, op_type="Constant")
            node.attribute.append(message)
            self._root.parts += field(GRAPH_NODE, [node.SerializeToString()])
        return self._shared[key]

    def tensor(self, value: np.ndarray, name: str = "") -> str:
        """A constant tensor; small equal ones are one, called by the first ``name``."""
        small = value.nbytes <= MOST_SHARED
        key = f"{value.dtype}{value.shape}".encode() + (value.tobytes() if small else name.encode())
        if key not in self._shared:
            name = self._shared[key] = name or self.unused("constant")
            self._avals[name] = aval_of(value)
            self._constant(name, value)
        return self._shared[key]

    def scalar(self, value: float, dtype: np.dtype) -> str:
        """A tensor of rank 0."""
        return self.tensor(np.array(value, dtype))

    def _constant(self, name: str, value: np.ndarray) -> None:
        node = mind_ir.NodeProto(output=[name], name=name, op_type="Constant")
        held = _Attribute(name="value", type=_Attribute.TENSORS)
        tensor = tensor_parts(ATTRIBUTE_TENSORS, name, value)
        body = field(NODE_ATTRIBUTE, [held.SerializeToString(), *tensor])
        self._root.parts += field(GRAPH_NODE, [node.SerializeToString(), *body])


SEVERAL = frozenset({"BatchNorm", "Cummax", "Cummin", "LayerNorm", "MakeTuple", "Sort", "TopK"})


def _coded(op: str, argument: str, content: Argument) -> Argument:
    codes = CODES.get((op, argument))
    return (
        codes[str(content)]
        if codes
        else TYPE_IDS[content.name]
        if isinstance(content, np.dtype)
        else content
    )


def attribute(name: str, content: Argument) -> _Attribute:
    """A named value; a dtype as the attribute style has it."""
    message = _Attribute(name=name)
    match content:
        case bool():
            message.type, message.i = _Attribute.BOOL, int(content)
        case int():
            message.type, message.i = _Attribute.INT64, content
        case float():
            message.type, message.f = _Attribute.FLOAT, content
        case str():
            message.type, message.s = _Attribute.STRING, content.encode()
        case np.dtype():
            message.type = _Attribute.TENSORS
            message.tensors.add(data_type=DATA_TYPES[content.name])
        case tuple():
            message.type = _Attribute.TUPLE
            message.values.extend(map(_item, content))
        case _:
            raise InconclusiveDimensionOperation(f"{name} is {content}, not a number")
    return message


def _item(content: Argument) -> _Attribute:
    """A value inside a tuple: its number stands in the repeated field, without a name."""
    match content:
        case bool() | int():
            kind = _Attribute.BOOL if isinstance(content, bool) else _Attribute.INT64
            return _Attribute(type=kind, ints=[int(content)])
        case float():
            return _Attribute(type=_Attribute.FLOAT, floats=[content])
        case str():
            return _Attribute(type=_Attribute.STRING, strings=[content.encode()])
        case _:
            nested = attribute("", content)
            nested.ClearField("name")
            return nested


def tensor_type(aval: Aval) -> mind_ir.TensorProto:
    """Shape and dtype without data; a symbolic size is -1."""
    dims = [size if is_known(size) else -1 for size in aval.shape]
    return mind_ir.TensorProto(dims=dims, data_type=data_type(aval.dtype))


def size_attribute(items: int) -> _Attribute:
    """As ``type_attribute``, for a size or a tuple of so many: numbers that are no tensors."""
    one = _Attribute(type=_Attribute.SCALAR)
    one.tensors.add(dims=[0], data_type=data_type(np.dtype(np.int64)))
    held = one
    if items:
        held = _Attribute(type=_Attribute.TUPLE, values=[one] * items)
        held.seq_info.is_dyn_len = False
    held.name = "shape"
    return held


def type_attribute(results: Sequence[Aval], *, is_tuple: bool) -> _Attribute:
    """What a node gives, as MindSpore writes it: an attribute called ``shape``."""
    each = [_Attribute(type=_Attribute.TENSORS, tensors=[tensor_type(a)]) for a in results]
    if is_tuple:
        held = _Attribute(name="shape", type=_Attribute.TUPLE, values=each)
        held.seq_info.is_dyn_len = False
        return held
    each[0].name = "shape"
    return each[0]


def tensor_parts(number: int, name: str, value: np.ndarray) -> list[Part]:
    """A ``TensorProto`` in the field ``number``: its data as it lies in memory."""
    head = mind_ir.TensorProto(name=name, dims=value.shape, data_type=data_type(value.dtype))
    return field(number, [head.SerializeToString(), *field(TENSOR_RAW_DATA, [raw(value)])])
