"""GE's operator prototypes: which ports and attributes each operator type has.

The data is ``prototypes.json.gz``, made by ``pack_prototypes.py``: 997 types of graphengine r1.1
(February 2021) and 1600 of the newer set for Ascend 910. We write for r1.1 and the checker judges
by r1.1, because the newer compilers read its types too.
"""

import gzip
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from fnckpt.ir.targets.air.codes import OF_NAME, Value

RELEASE = "r1.1"
NEWER = "910"


@dataclass(frozen=True)
class Port:
    """An input or output: ``dtypes`` are GE's names, None for any.

    ``kind``: ``req`` must be connected, ``opt`` may be, ``dyn`` stands for any number of them.
    """

    name: str
    kind: Literal["req", "opt", "dyn"]
    dtypes: frozenset[str] | None


@dataclass(frozen=True)
class Attribute:
    """An attribute; ``kind`` is GE's, ``Int`` or ``ListFloat``; required, or with a default.

    A default type is numpy's.
    """

    name: str
    kind: str
    required: bool
    default: Value | None = None


@dataclass(frozen=True)
class Prototype:
    """An operator type."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    attributes: tuple[Attribute, ...]
    has_subgraphs: bool = False

    def attribute(self, name: str) -> Attribute | None:
        """The attribute called ``name``, if there is one."""
        return next((each for each in self.attributes if each.name == name), None)

    def dtypes_of(self, name: str) -> frozenset[str] | None:
        """What the port called ``name`` takes."""
        ports = (*self.inputs, *self.outputs)
        return next(port.dtypes for port in ports if port.name == name)


@cache
def _data() -> dict:
    packed = files("fnckpt.ir.targets.air").joinpath("prototypes.json.gz").read_bytes()
    return json.loads(gzip.decompress(packed))


@cache
def types_of(release: str = RELEASE) -> frozenset[str]:
    """The names of all types of a release, ``r1.1`` or ``910``."""
    return frozenset(_data()["ops"][release])


@cache
def prototype(name: str, release: str = RELEASE) -> Prototype | None:
    """The prototype of the type ``name``, or None where the release has none.

    >>> [port.name for port in prototype("MatMulV2").inputs]
    ['x1', 'x2', 'bias', 'offset_w']
    """
    row = _data()["ops"][release].get(name)
    if row is None:
        return None
    return Prototype(
        name,
        tuple(_port(port, row) for port in row.get("in", ())),
        tuple(_port(port, row) for port in row.get("out", ())),
        tuple(_attribute(*each) for each in row.get("attr", ())),
        "graph" in row,
    )


def _port(port: list, row: dict) -> Port:
    """``dtypes`` is a number of a set, or ``@T``, a name that the row's ``types`` explain."""
    name, kind, dtypes = port
    known = row.get("types", {}).get(dtypes[1:]) if isinstance(dtypes, str) else dtypes
    if not isinstance(known, int):
        return Port(name, kind, None)
    return Port(name, kind, frozenset(_data()["dtype_sets"][known].split()))


def _attribute(name: str, kind: str, *default: object) -> Attribute:
    return Attribute(name, kind, not default, _frozen(kind, default[0]) if default else None)


def _frozen(kind: str, value: object) -> Value | None:
    if isinstance(value, list):
        items = (_frozen(kind.removeprefix("List"), each) for each in value)
        return tuple(each for each in items if each is not None)
    if kind == "Type" and isinstance(value, str):
        return OF_NAME[value.removeprefix("DT_")].dtype
    assert value is None or isinstance(value, bool | int | float | str)
    return value
