"""The attributes of an operator of a file, against its prototype."""

from collections.abc import Iterator
from dataclasses import dataclass

from fnckpt.ir.targets.air.codes import LISTS, OF_ENGINE_CODE, SINGLE
from fnckpt.ir.targets.air.prototypes import Attribute, Prototype
from fnckpt.ir.targets.air.view import members
from fnckpt.proto.ge_ir_pb2 import AttrDef, OpDef


@dataclass(frozen=True)
class Problem:
    """A fault of a file. ``op`` is the operator's name, empty for the file as a whole.

    With ``warning`` the file is good, but something in it is unusual or useless.
    """

    op: str
    fault: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.op}: {self.fault}" if self.op else self.fault


def attribute_problems(op: OpDef, proto: Prototype) -> Iterator[Problem]:
    known = {each.name: each for each in proto.attributes}
    for each in proto.attributes:
        if each.required and each.name not in op.attr:
            yield Problem(op.name, f"the attribute {each.name} of {op.type} is missing")
    for name, value in op.attr.items():
        if name in known:
            yield from value_problems(op, known[name], value)
        elif not name.startswith("_") and name != "is_input_const":
            fault = f"{op.type} has no attribute {name}: GE ignores it"
            yield Problem(op.name, fault, warning=True)


def value_problems(op: OpDef, expected: Attribute, value: AttrDef) -> Iterator[Problem]:
    """Whether the value is of the kind that the prototype says."""
    held = value.WhichOneof("value")
    if expected.kind not in LISTS:
        if held != SINGLE[expected.kind]:
            fault = f"the attribute {expected.name} is {expected.kind}, found the field {held!r}"
            yield Problem(op.name, fault)
        elif expected.kind == "Type" and value.dt not in OF_ENGINE_CODE:
            fault = f"the attribute {expected.name}: {value.dt} is not an engine code"
            yield Problem(op.name, fault)
        return
    if held != "list":
        fault = f"the attribute {expected.name} is {expected.kind}, found the field {held!r}"
        yield Problem(op.name, fault)
        return
    item_field, code = LISTS[expected.kind]
    filled = {descriptor.name for descriptor, _ in value.list.ListFields()} - {"val_type"}
    wrong = value.list.val_type not in (0, code)
    if filled - {item_field} or wrong:
        fault = (
            f"{expected.kind}, found a list of {sorted(filled)} with val_type {value.list.val_type}"
        )
        yield Problem(op.name, f"the attribute {expected.name} is {fault}")
    elif value.list.val_type == 0:
        yield Problem(op.name, f"the list {expected.name} has no val_type", warning=True)


def port_name_problems(op: OpDef, proto: Prototype) -> Iterator[Problem]:
    """The engine renames ports by position where their number is right; a swap goes unnoticed."""
    inputs = [name for name, _ in members(op, proto)][: len(op.input_desc)]
    outputs = [port.name for port in proto.outputs if port.kind != "dyn"]
    for side, names in (("input", inputs), ("output", outputs)):
        key, value = f"_{side}_name_key", f"_{side}_name_value"
        if not names or (side == "output" and len(outputs) < len(proto.outputs)):
            continue
        if key not in op.attr or value not in op.attr:
            yield Problem(op.name, f"the names of its {side}s are missing", warning=True)
            continue
        given = [name.decode(errors="replace") for name in op.attr[key].list.s]
        places = list(op.attr[value].list.i)
        if len(given) != len(places):
            yield Problem(op.name, f"{key} has {len(given)} items, {value} {len(places)}")
        elif dict(zip(given, places, strict=True)) != {name: i for i, name in enumerate(names)}:
            shown = dict(zip(given, places, strict=True))
            yield Problem(op.name, f"the names of its {side}s are {shown}, expected {names}")
