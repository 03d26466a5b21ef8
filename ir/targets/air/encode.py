"""A legalized graph as the bytes of an AIR file: one ``ModelDef``, weights as views."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from fnckpt.ir.border import KEY, Border
from fnckpt.ir.graph import CNode, FuncGraph, Node, Parameter
from fnckpt.ir.operators import apply
from fnckpt.ir.targets.air.codes import descriptor
from fnckpt.ir.targets.air.emit import CANNOT
from fnckpt.ir.targets.air.emit_network import EMITTERS
from fnckpt.ir.targets.air.writer import Ref, Writer, Written, unknown_dtype
from fnckpt.ir.targets.names import value_names
from fnckpt.ir.targets.target import Encoded, Part, Refused, emit_all
from fnckpt.proto.ge_ir_pb2 import GraphDef, ModelDef
from fnckpt.wire import Part as WirePart
from fnckpt.wire import field, size, text

MOST_BYTES = 2147483647  # measured: the loader reads 1.9 GB and refuses 2147483800 bytes
COUNTERS = (
    "memory_size", "p2p_memory_size", "stream_num", "event_num", "label_num", "weight_size",
)  # fmt: skip
MODEL_GRAPH, GRAPH_OP, OP_ATTR, ENTRY_KEY, ENTRY_VALUE = 7, 6, 10, 1, 2
ATTR_TENSOR, TENSOR_DESC, TENSOR_DATA = 12, 1, 2


def encode(graph: FuncGraph, stem: str = "model") -> Encoded:
    """The file of ``graph``, which holds only what ``EMITTERS`` can write, and all its weights.

    Raises:
      Refused: an operator, or a type of one, has no prototype; all such places at once.
      ValueError: the file would be larger than GE can read.
    """
    biases = biased_products(graph)
    writer = Writer(value_names(graph), biases)
    check_inputs(graph)
    for index, parameter in enumerate(graph.inputs):
        writer.data(parameter, index)
    taken_up = {id(product) for product, _ in biases.values()}
    nodes = [n for n in graph.cnodes() if n.op != "TupleGetItem" and id(n) not in taken_up]
    emit_all(nodes, EMITTERS, CANNOT, writer)
    assert not writer.unwritten, writer.unwritten
    outputs = output_refs(graph, writer)
    parts = model_parts(graph.name, writer.written, outputs, graph.border)
    total = size(parts)  # before any array is copied
    if total > MOST_BYTES:
        raise ValueError(
            f"{graph.name}: an AIR file holds at most {MOST_BYTES} bytes, this one has {total}; "
            "export it in parts, or with float16 weights"
        )
    return Encoded(
        Contiguous(parts), sum(each.op.type not in ("Data", "Const") for each in writer.written)
    )


def check_inputs(graph: FuncGraph) -> None:
    """Refuse what has no emitter that would refuse its type: inputs, weights, plain results.

    Their users are named; where there is none, it is as if an Identity used them.
    """
    users = [
        *graph.cnodes(),
        *(apply("Identity", given) for given in (*graph.inputs, *graph.outputs)),
    ]
    places: list[tuple[CNode, str]] = []
    for node in users:
        for used in node.inputs:
            unknown = None if isinstance(used, CNode) else unknown_dtype(used.aval)
            if unknown:
                called = used.name if isinstance(used, Parameter) else "a constant"
                places.append((node, f"its input {called} is {used.aval}: {unknown}"))
    if places:
        raise Refused(places)


def biased_products(graph: FuncGraph) -> dict[int, tuple[CNode, Node]]:
    """The sums of a matrix product and a vector: MatMulV2 takes the vector as its bias."""
    uses = graph.use_counts()
    found: dict[int, tuple[CNode, Node]] = {}
    for node in graph.cnodes():
        if node.op != "Add":
            continue
        for product, bias in (node.inputs, node.inputs[::-1]):
            if (
                isinstance(product, CNode)
                and product.op == "MatMul"
                and uses[id(product)] == 1
                and len(product.aval.shape) == 2
                and bias.aval.shape == product.aval.shape[1:]
            ):
                found[id(node)] = (product, bias)
                break
    return found


def output_refs(graph: FuncGraph, writer: Writer) -> list[Ref]:
    """Where the results are; the loader drops a repeated one, so that it needs an Identity."""
    refs: list[Ref] = []
    for node, name in zip(graph.outputs, graph.output_names, strict=True):
        ref = writer.ref(node)
        if not isinstance(node, CNode) or ref in refs:
            copied = writer.unused(name)
            (ref,) = writer.op("Identity", copied, (ref,), (ref.aval,), "NCHW", {})
        refs.append(ref)
    return refs


def model_parts(
    name: str, written: list[Written], outputs: list[Ref], border: Border
) -> list[WirePart]:
    """The message in parts; fields of a message may stand in any order."""
    model = ModelDef()
    for key in COUNTERS:
        model.attr[key].i = 0
    model.attr["target_type"].s = b"MINI"
    if border:
        model.attr[KEY].s = border.text().encode()
    graph: list[WirePart] = [text(1, name)]
    for each in written:
        graph += field(GRAPH_OP, op_parts(each))
    graph.append(GraphDef(output=[str(ref) for ref in outputs]).SerializeToString())
    return [model.SerializeToString(deterministic=True), *field(MODEL_GRAPH, graph)]


def op_parts(written: Written) -> list[WirePart]:
    """An operator; a Const with its value as one more entry of the map of attributes."""
    parts: list[WirePart] = [written.op.SerializeToString(deterministic=True)]
    if written.value is None:
        return parts
    value = written.value
    described = descriptor(value.dtype, value.shape, "NCHW").SerializeToString(deterministic=True)
    tensor = [*field(TENSOR_DESC, [described]), *field(TENSOR_DATA, [raw(value)])]
    entry = [text(ENTRY_KEY, "value"), *field(ENTRY_VALUE, field(ATTR_TENSOR, tensor))]
    return parts + field(OP_ATTR, entry)


def raw(value: np.ndarray) -> memoryview:
    """The little-endian bytes of the items as a view; ``Contiguous`` copies one with gaps."""
    plain = value.byteswap() if sys.byteorder == "big" else value
    if not plain.flags.c_contiguous:
        return plain.data
    return plain.reshape(-1).view(np.uint8).data


@dataclass(frozen=True)
class Contiguous(Sequence[Part]):
    """``parts`` without gaps: a transposed weight is copied when it is asked for, and not kept."""

    parts: Sequence[WirePart]

    def __len__(self) -> int:
        return len(self.parts)

    @overload
    def __getitem__(self, index: int) -> Part: ...

    @overload
    def __getitem__(self, index: slice) -> list[Part]: ...

    def __getitem__(self, index: int | slice) -> Part | list[Part]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        part = self.parts[index]
        if isinstance(part, memoryview):
            return part if part.c_contiguous else part.tobytes()
        return bytes(part)
