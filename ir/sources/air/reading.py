"""An AIR file as a ``Source``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from fnckpt.errors import FormatError
from fnckpt.ir.sources.air.importer import imported
from fnckpt.ir.sources.air.registry import RULES
from fnckpt.ir.sources.source import Input, NotImported, Place, Source, Writer
from fnckpt.ir.sources.symbols import shapes_of
from fnckpt.ir.targets.air.codes import OF_NAME
from fnckpt.ir.targets.air.evaluate import ordered
from fnckpt.ir.targets.air.prototypes import prototype
from fnckpt.ir.targets.air.read import model_of
from fnckpt.ir.targets.air.summarize import CONSTS, WEIGHT, summary_of
from fnckpt.ir.targets.air.view import OpView, output_names
from fnckpt.ir.targets.foreign import MOST_BYTES, elements, refusing
from fnckpt.proto.ge_ir_pb2 import GraphDef, ModelDef

STRUCTURE = {*CONSTS, "Data", "NetOutput"}


def source(data: memoryview, name: str, folder: Path | None) -> Source:
    """What is in the bytes of an AIR file.

    Args:
      data: its bytes.
      name: what errors call it.
      folder: where it lies; an AIR file has no others beside it.

    Raises:
      FormatError: it is no AIR file, or damaged.
      NotImported: it has operators without a rule; all of them are named.
    """
    return refusing(_source)(name, data)


def _source(path: str | object, data: memoryview) -> Source:
    name = str(path)
    if len(data) > MOST_BYTES:
        raise FormatError(f"{name}: an AIR file holds at most {MOST_BYTES} bytes")
    model = model_of(bytes(data), name)
    graph = model.graph[0]
    check(graph, name)
    order = ordered(graph, name)
    consts = [op for op in order if op.type in CONSTS]
    empty = [op.name for op in consts if op.const is None]
    if empty:
        raise FormatError(f"{name}: {empty[0]!r}: a Const without the value that it declares")
    weights = names_of(consts)
    inputs = inputs_of(order, name)
    links = output_names(graph)
    if not links:
        raise FormatError(f"{name}: the graph has no output")
    return Source(
        summary=summary_of(model, name),
        metadata=_metadata(model),
        inputs=inputs,
        weights={weights[op.name]: op.const for op in consts
                 if op.name in weights and op.const is not None},
        build=partial(imported, name, order, links, weights, inputs),
        writer=Writer("AIR"),
    )  # fmt: skip


def check(graph: GraphDef, name: str) -> None:
    """Name every operator that has no rule.

    Raises:
      NotImported: there are some.
      FormatError: two have one name.
    """
    for each, count in Counter(op.name for op in graph.op).items():
        if count > 1 or not each:
            raise FormatError(f"{name}: {count} operators are called {each!r}")
    places: list[Place] = []
    for op in graph.op:
        if op.type not in RULES and op.type not in STRUCTURE:
            known = prototype(op.type) is not None
            reason = "no rule for this type; write one with @imports, or cut it off the graph"
            places.append(
                Place(op.type, op.name, reason if known else "GE r1.1 has no such type; compose it")
            )
    if places:
        raise NotImported(places)


def names_of(consts: Sequence[OpView]) -> Mapping[str, str]:
    """What the float weights are called, by their operators: those that end as MindSpore says.

    Two that would be one keep what the file calls them.
    """
    floats = [
        op.name for op in consts
        if op.name.endswith(WEIGHT) and op.const is not None and op.const.dtype.kind not in "biuc"
    ]  # fmt: skip
    return {each: each.removesuffix(WEIGHT) for each in floats}


def inputs_of(order: Sequence[OpView], name: str) -> Sequence[Input]:
    """What a caller gives, in order of ``index``; a size below 0 is open."""
    data = sorted((op for op in order if op.type == "Data"), key=lambda op: op.integer("index"))
    if any(len(op.outputs) != 1 for op in data):
        raise FormatError(f"{name}: a Data operator has one output")
    kinds = [OF_NAME.get(op.outputs[0].dtype) for op in data]
    shapes = {op.name: op.outputs[0].shape for op in data}
    for each, shape in shapes.items():
        if elements(shape) is None:
            raise FormatError(f"{name}: {each!r}: its shape is impossible")
    texts = {each: [n if n >= 0 else None for n in shape] for each, shape in shapes.items()}
    found = shapes_of(texts)
    inputs: list[Input] = []
    for op, kind in zip(data, kinds, strict=True):
        if kind is None or kind.dtype is None:
            raise FormatError(f"{name}: {op.name!r}: NumPy has no type {op.outputs[0].dtype}")
        inputs.append(Input(op.name, kind.dtype, found[op.name]))
    return inputs


def _metadata(model: ModelDef) -> dict[str, str]:
    said = {"producer": "GE", "version": model.custom_version}
    return {key: value for key, value in said.items() if value}
