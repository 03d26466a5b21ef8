"""What an AIR file holds, for people."""

import numpy as np

from fnckpt.ir.border import KEY, border_of
from fnckpt.ir.targets.air.codes import OF_FILE_CODE, Value
from fnckpt.ir.targets.air.prototypes import prototype
from fnckpt.ir.targets.air.read import read_model
from fnckpt.ir.targets.air.view import desc_of, links, output_names, split, unpack
from fnckpt.ir.targets.brief import MOST_ITEMS, brief
from fnckpt.ir.targets.foreign import AnyPath, refusing, sound
from fnckpt.ir.targets.target import NodeSummary, Summary, ValueSummary
from fnckpt.proto.ge_ir_pb2 import ModelDef, OpDef, TensorDescriptor

CONSTS = ("Const", "Constant")
WEIGHT = "_const"  # the end of a weight's name, as MindSpore writes it; literals have others


@refusing
def summarize(path: AnyPath) -> Summary:
    """The inputs, results, weights and operators of an AIR file.

    A result of an operator with several is called ``op:index``; the file keeps no other names.

    Raises:
      FormatError: the file is no ``ModelDef`` with a graph.
    """
    return summary_of(read_model(path), path)


def summary_of(model: ModelDef, path: AnyPath) -> Summary:
    """That of a message, which errors call ``path``."""
    graph = model.graph[0]
    ops = {op.name: op for op in graph.op}
    inputs = [op for op in graph.op if op.type == "Data"]
    inputs.sort(key=lambda op: op.attr["index"].i)
    weights = [op for op in graph.op if op.type in CONSTS and op.name.endswith(WEIGHT)]
    summary = Summary(
        producer="GE",
        inputs=tuple(_result(op, 0) for op in inputs),
        outputs=tuple(_linked(ops, link) for link in output_names(graph)),
        parameters=tuple(_result(op, 0) for op in weights),
        nodes=tuple(_node(op, ops) for op in graph.op if op.type not in (*CONSTS, "Data")),
        shapes={
            value.name: value.shape
            for op in graph.op
            for value in (_result(op, index) for index in range(len(op.output_desc)))
        },
    ).with_border(
        border_of(model.attr[KEY].s.decode(errors="replace") if KEY in model.attr else "")
    )
    return sound(path, summary)


def _linked(ops: dict[str, OpDef], link: str) -> ValueSummary:
    parts = split(link)
    if parts is None or parts[0] not in ops:
        return ValueSummary(link, "unknown", ())
    return _result(ops[parts[0]], parts[1])


def _result(op: OpDef, index: int) -> ValueSummary:
    name = _value_name(op, index)
    if not 0 <= index < len(op.output_desc):
        return ValueSummary(name, "unknown", ())
    return ValueSummary(name, _dtype(op.output_desc[index]), tuple(op.output_desc[index].shape.dim))


def _dtype(desc: TensorDescriptor) -> str:
    known = OF_FILE_CODE.get(desc.dtype)
    return str(known.dtype) if known and known.dtype is not None else desc_of(desc).dtype


def _value_name(op: OpDef, index: int) -> str:
    name = op.name.removesuffix(WEIGHT) if op.type in CONSTS else op.name
    return name if len(op.output_desc) == 1 else f"{name}:{index}"


def _node(op: OpDef, ops: dict[str, OpDef]) -> NodeSummary:
    results = tuple(_value_name(op, index) for index in range(len(op.output_desc)))
    inputs = tuple(_linked(ops, link).name for link in links(op) if link)
    return NodeSummary(op.name, op.type, inputs, results, _attributes(op))


def _attributes(op: OpDef) -> tuple[tuple[str, str], ...]:
    """Those of the operator's prototype that the file says."""
    proto = prototype(op.type)
    known = [each for each in (proto.attributes if proto else ()) if each.name in op.attr]
    values = [(each.name, unpack(each.kind, op.attr[each.name])) for each in known
              if each.kind != "Tensor"]  # fmt: skip
    return tuple((name, _text(value)) for name, value in values if value is not None)


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value[:MOST_ITEMS]))}]"
    return value.name if isinstance(value, np.dtype) else brief(value)
