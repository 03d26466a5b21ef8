"""The nodes and initializers of an ONNX graph while it is written."""

import re
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TypeGuard

import numpy as np
import onnx
from onnx import helper

from fnckpt.ir.graph import NOWHERE, Aval, CNode, Constant, FuncGraph, Node, Origin, Parameter
from fnckpt.ir.sizes import is_known as is_number
from fnckpt.ir.targets.target import Refusal

Value = Node | str
Attribute = int | float | str | Sequence[int] | onnx.GraphProto

SOURCE = re.compile(r"(?P<file>.+?):(?P<place>\d+ in [^:]+):")
MOST_COMPARED = 1024  # bytes of an array that are looked at to find an equal one


def _is_item(node: Node) -> TypeGuard[CNode]:
    return isinstance(node, CNode) and node.op == "TupleGetItem"


def _index(item: CNode) -> int:
    return int(str(item.attrs["index"]))


def _items(item: CNode, names: dict[int, str]) -> tuple[tuple[int, int], str]:
    """Which result of which operator an output is, and what it is called."""
    return (id(item.inputs[0]), _index(item)), names[id(item)]


class Writer:
    """Collects what emitters write.

    Attributes:
      inputs: of the graph.
      measured: those that symbolic sizes are read off.
      opset: the version of ONNX's operators.
      metadata: whether nodes tell where they come from.
      nodes: what was written, in order.
      count: how many nodes the file has, those of the graphs inside too.
      infos: the shapes of what a graph inside computes.
      alive: the graphs inside that were written; an id is good for as long as its node lives.
      initializers: the arrays that are not the user's: shapes, axes, constants.
    """

    def __init__(
        self,
        names: dict[int, str],
        inputs: Sequence[Parameter],
        opset: int,
        *,
        metadata: bool = True,
        outputs: Sequence[Node] = (),
        measured: Sequence[Parameter] | None = None,
    ) -> None:
        self.names, self.inputs, self.opset, self.metadata = names, inputs, opset, metadata
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}
        self._taken = set(names.values())
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._once: dict[tuple[str, ...], str] = {}
        self._root = self
        self.measured = inputs if measured is None else measured
        self._given = dict(_items(each, names) for each in outputs[::-1] if _is_item(each))
        self.count = 0
        self.infos: list[onnx.ValueInfoProto] = []
        self.alive: list[FuncGraph] = []

    def inner(self) -> "Writer":
        """The writer of a graph inside: nodes of its own, names and initializers of the file."""
        writer = copy(self)
        writer.nodes, writer.infos = [], []
        return writer

    def ref(self, value: Value) -> str:
        """The name of a value."""
        if isinstance(value, str):
            return value
        if isinstance(value, Constant):
            return self.array(value.value, self.names[id(value)])
        if _is_item(value):
            return self.results(value.inputs[0])[_index(value)]
        return self.names[id(value)]

    def results(self, node: Node) -> list[str]:
        """The names of a node's results."""
        name = self.names[id(node)]
        if isinstance(node, CNode) and len(node.results) > 1:
            numbers = range(len(node.results))
            return [self._given.get((id(node), i), f"{name}:{i}") for i in numbers]
        return [name]

    def array(self, value: np.ndarray, name: str) -> str:
        """An initializer; small equal ones are one, called by the first ``name``."""
        content = value.tobytes() if value.nbytes <= MOST_COMPARED else name.encode()
        key = (value.dtype.name, value.shape, content)
        if key not in self._shared:
            self._shared[key] = name
            self.initializers[name] = value
        return self._shared[key]

    def ints(self, values: Sequence[int], name: str = "ints") -> str:
        """A vector of int64."""
        return self.array(np.array(values, np.int64), self.unused(name))

    def scalar(self, value: float, dtype: np.dtype, name: str = "scalar") -> str:
        """A number of rank 0."""
        return self.array(np.array(value, dtype), self.unused(name))

    def number(self, value: float, node: Node, dtype: np.dtype) -> str:
        """A number to combine with what has the shape of ``node``.

        It has the same rank if the last axis has one element: see ``passes.scalars``.
        """
        shape = node.aval.shape
        rank = len(shape) if shape and shape[-1] == 1 else 0
        return self.array(np.full((1,) * rank, value, dtype), self.unused("scalar"))

    def unused(self, name: str) -> str:
        """``name``, or with a number where it is taken."""
        candidate, number = name, 0
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate

    def node(self, op: str, node: CNode, *inputs: Value, **attrs: Attribute) -> None:
        """Write ``op`` as what computes ``node``, all its results."""
        self.add(op, inputs, self.results(node), self.names[id(node)], **attrs)
        self._tell(node.origin)

    def several(self, op: str, node: CNode, outputs: list[str], **attrs: Attribute) -> None:
        """Write ``op`` of the inputs of ``node``; ``""`` in ``outputs`` is a result of no use."""
        self.add(op, node.inputs, outputs, self.names[id(node)], **attrs)
        self._tell(node.origin)

    def step(self, op: str, node: CNode, *inputs: Value, **attrs: Attribute) -> str:
        """Write ``op`` as a step towards ``node``; its result's name."""
        name = self.unused(f"{self.names[id(node)]}/{op}")
        self.add(op, inputs, [name], name, **attrs)
        self._tell(node.origin)
        return name

    def once(self, op: str, *inputs: str, **attrs: Attribute) -> str:
        """Write ``op`` of named values, unless it is there already; its result's name.

        It stands in the outermost graph, where every graph inside sees it.
        """
        if (op, *inputs) not in self._once:
            name = self._once[(op, *inputs)] = self.unused(f"size/{op}")
            self._root.add(op, inputs, [name], name, **attrs)
        return self._once[(op, *inputs)]

    def add(
        self, op: str, inputs: Sequence[Value], outputs: list[str], name: str, **attrs: Attribute
    ) -> None:
        refs = [self.ref(value) for value in inputs]
        domain, _, kind = op.rpartition(".")  # of ONNX's own operators it is empty
        node = helper.make_node(kind, refs, outputs, name=name, domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attrs.items())
        self.nodes.append(node)
        self._root.count += 1

    def _tell(self, origin: Origin) -> None:
        """Note with the last node where it comes from."""
        if self.metadata:
            for key, value in origin_entries(origin):
                self.nodes[-1].metadata_props.add(key=key, value=value)


def origin_entries(origin: Origin) -> list[tuple[str, str]]:
    """What a node tells: ``module``, ``primitive`` and ``source``, where they are known.

    The source is the file's name without its folder, which differs between machines and is
    nobody's business, its line and its function; not the text of the line.
    """
    found = SOURCE.match(origin.line()) if origin is not NOWHERE else None
    source = "" if found is None else f"{Path(found['file']).name}:{found['place']}"
    entries = [("module", origin.scope), ("primitive", origin.primitive), ("source", source)]
    return [(key, value) for key, value in entries if value]


def element_type(dtype: np.dtype) -> int:
    """ONNX's number of a dtype.

    Raises:
      Refusal: ONNX has no such dtype.
    """
    try:
        return helper.np_dtype_to_tensor_dtype(dtype)
    except (KeyError, ValueError):
        raise Refusal(f"ONNX has no dtype {dtype}; cast to one that it has") from None


def value_info(name: str, aval: Aval) -> onnx.ValueInfoProto:
    """What a value is: its name, dtype and shape."""
    shape = [size if is_number(size) else str(size) for size in aval.shape]
    return helper.make_tensor_value_info(name, element_type(aval.dtype), shape)


def is_known(value: Node) -> bool:
    """Whether the value is an initializer."""
    return isinstance(value, Constant | Parameter) and value.value is not None
