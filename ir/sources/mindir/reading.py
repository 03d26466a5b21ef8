"""A MindIR file as a ``Source``."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from fnckpt.errors import FormatError
from fnckpt.ir.sources.mapping import beside
from fnckpt.ir.sources.mindir.importer import EFFECTS, PASSED_ON, imported
from fnckpt.ir.sources.mindir.registry import RULES
from fnckpt.ir.sources.mindir.values import array_of, dtype_of
from fnckpt.ir.sources.source import Input, NotImported, Place, Source, Writer
from fnckpt.ir.sources.symbols import shapes_of
from fnckpt.ir.targets.mindir.read import summary_of
from fnckpt.ir.targets.mindir.view import BY_SIGNATURE, REFERENCE, operator_of
from fnckpt.ir.targets.mindir.writer import DIALECTS
from fnckpt.proto.mind_ir_pb2 import ModelProto, TensorProto

STRUCTURE = {
    *PASSED_ON, *EFFECTS, "Constant", "MakeTuple", "make_list", "Partial", "Switch",
    "TupleGetItem", "switch_layer",
}  # fmt: skip
LITTLE_ENDIAN = 1


def source(data: memoryview, name: str, folder: Path | None) -> Source:
    """What is in the bytes of a MindIR file.

    Args:
      data: its bytes.
      name: what errors call it.
      folder: where the file of its weights lies; None where there is none.

    Raises:
      FormatError: it is no MindIR file, or damaged.
      NotImported: it has primitives without a rule; all of them are named.
    """
    model = _model(data, name)
    check(model)
    check_names(model, name)
    arrays = {each.name: _array(each, name, folder) for each in model.graph.parameter}
    names = names_of(model, arrays)
    inputs = inputs_of(model, name)
    return Source(
        summary=summary_of(model),
        metadata=_metadata(model),
        inputs=inputs,
        weights={names[key]: value for key, value in arrays.items() if key in names},
        build=partial(imported, name, model, arrays, names, inputs),
        writer=_writer(model),
    )


def _writer(model: ModelProto) -> Writer | None:
    """Ours, with the dialect of the file."""
    if model.producer_name != "fnckpt":
        return None
    versions = (n for n, d in DIALECTS.items() if d.mind_ir_version == model.mind_ir_version)
    return Writer("MINDIR", (("mindspore", next(versions, next(iter(DIALECTS)))),))


def _model(data: memoryview, name: str) -> ModelProto:
    try:
        model = ModelProto.FromString(bytes(data))
    except DecodeError:
        raise FormatError(f"{name}: not a MindIR file, its bytes are not a ModelProto") from None
    if not model.HasField("graph"):
        raise FormatError(f"{name}: not a MindIR file, its ModelProto holds no graph")
    return model


def check(model: ModelProto) -> None:
    """Name every primitive that has no rule.

    Raises:
      NotImported: there are some.
    """
    kinds = {f"{REFERENCE}{each.name}": each.op_type for each in model.primitives}
    functions = {each.name for each in model.functions}
    places: list[Place] = []
    for graph in (model.graph, *model.functions):
        made = {output for node in graph.node for output in node.output} | functions
        for node in graph.node:
            kind = kinds.get(node.op_type, node.op_type).removeprefix(BY_SIGNATURE)
            called = node.op_type.removeprefix(REFERENCE)
            if kind in RULES or kind in STRUCTURE or (node.op_type not in kinds and called in made):
                continue
            reason = "no rule for this primitive; write one with @imports, or cut it off the graph"
            places.append(Place(operator_of(kind), node.name or "".join(node.output[:1]), reason))
    if places:
        raise NotImported(places)


def check_names(model: ModelProto, name: str) -> None:
    """Each weight, and each function, has a name of its own.

    Raises:
      FormatError: two are called alike.
    """
    for what, named in (("weights", model.graph.parameter), ("functions", model.functions)):
        counted = Counter(each.name for each in named)
        twice = [each for each, count in counted.items() if count > 1]
        if twice:
            raise FormatError(f"{name}: two {what} are called {twice[0]!r}")


def names_of(model: ModelProto, arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """What the weights are called: MindSpore puts the graph before the name of its cell.

    Two that would be one keep what the file calls them. Integers are no weights.
    """
    floats = [key for key, value in arrays.items() if value.dtype.kind not in "biuc"]
    before = f"{model.graph.name}:"
    short = [key.removeprefix(before) for key in floats]
    names = short if len(set(short)) == len(short) else floats
    return dict(zip(floats, names, strict=True))


def _array(tensor: TensorProto, name: str, folder: Path | None) -> np.ndarray:
    if not tensor.HasField("external_data"):
        return array_of(tensor, name)
    place, who = tensor.external_data, f"{name}: {tensor.name!r}"
    file = beside(who, place.location, folder)
    told, end, size = f"{who}: its data is in", place.offset + place.length, file.size
    if place.offset < 0 or place.length < 0 or end > size or not size:
        raise FormatError(f"{told} {place.location!r} to byte {end}, which has {size}")
    if file.part(0, 1)[0] != LITTLE_ENDIAN:
        raise FormatError(f"{told} {place.location!r}, whose numbers are big-endian")
    return array_of(tensor, name, file.part(place.offset, end))


def inputs_of(model: ModelProto, name: str) -> Sequence[Input]:
    """What a caller gives; a size below 0 is open.

    Raises:
      NotImported: one is no tensor.
    """
    weights = {each.name for each in model.graph.parameter}
    infos = [each for each in model.graph.input if each.name not in weights]
    odd = [each for each in infos if len(each.tensor) != 1]
    if odd:
        reasons = {each.name: "it is not a tensor" if each.tensor or each.HasField("attr_info")
                   else "the file does not say its type" for each in odd}  # fmt: skip
        raise NotImported([Place("input", name, reason) for name, reason in reasons.items()])
    before = f"{model.graph.name}:"
    labels = [each.name.removeprefix(before) for each in infos]
    texts = {
        label: None if list(info.tensor[0].dims) == [-2]  # of any rank
        else [size if size >= 0 else None for size in info.tensor[0].dims]
        for label, info in zip(labels, infos, strict=True)
    }  # fmt: skip
    shapes = shapes_of(texts)
    return [
        Input(label, dtype_of(info.tensor[0], name), shapes[label])
        for label, info in zip(labels, infos, strict=True)
    ]


def _metadata(model: ModelProto) -> dict[str, str]:
    said = {
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "ir_version": model.ir_version,
        "model_version": model.model_version,
    }
    return {key: value for key, value in said.items() if value}
