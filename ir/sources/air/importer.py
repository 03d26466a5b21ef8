"""The graph of an AIR file as ours, operator by operator."""

from collections.abc import Mapping, Sequence

import numpy as np

from fnckpt.errors import FormatError
from fnckpt.ir.graph import Constant, FuncGraph, Node, Origin, Parameter, aval_of
from fnckpt.ir.sources.air.registry import RULES, Given, Site
from fnckpt.ir.sources.build import Builder
from fnckpt.ir.sources.faults import FAULTS, of_sizes
from fnckpt.ir.sources.source import Imported, Input, NotImported, Place, Refusal, Shape
from fnckpt.ir.targets.air.prototypes import prototype
from fnckpt.ir.targets.air.view import OpView

Values = Mapping[str, Node | None]
"""By ``operator:index``; None is what could not be imported."""


def imported(
    name: str,
    order: Sequence[OpView],
    links: Sequence[str],
    weights: Mapping[str, str],
    inputs: Sequence[Input],
    shapes: Sequence[Shape],
    given: Mapping[str, np.ndarray],
) -> Imported:
    """The graph of operators that stand behind what they use.

    Args:
      name: what errors call the file.
      order: the operators.
      links: the results, as ``operator:index``.
      weights: what weights are called, by the names of their operators.

    Raises:
      NotImported: naming every operator that a rule refuses.
      FormatError: an operator makes no sense.
    """
    build = Builder(given)
    places: list[Place] = []
    parameters = tuple(
        Parameter(each.name, each.aval(shape)) for each, shape in zip(inputs, shapes, strict=True)
    )
    values: dict[str, Node | None] = {
        f"{each.name}:0": node for each, node in zip(inputs, parameters, strict=True)
    }
    for op in order:
        if op.type != "Data":
            values |= results_of(name, op, build, values, weights, places)
    if places:
        raise NotImported(places)
    outputs = tuple(output for link in links if (output := value_of(name, link, values)))
    labels = tuple(f"output_{i}" for i in range(len(outputs))) if len(outputs) > 1 else ("output",)
    return Imported(FuncGraph("model", parameters, outputs, labels), frozenset(build.fixed))


def value_of(name: str, link: str, values: Values) -> Node | None:
    """The value that ``operator:index`` names."""
    if link not in values:
        raise FormatError(f"{name}: {link!r} is used, and nothing computes it")
    return values[link]


def results_of(
    name: str,
    op: OpView,
    build: Builder,
    values: Values,
    weights: Mapping[str, str],
    places: list[Place],
) -> dict[str, Node | None]:
    """The results of one operator; what it refuses is kept in ``places``."""
    if op.const is not None:
        return {f"{op.name}:0": held(op.const, weights.get(op.name))}
    check_ports(name, op)
    given = [ported(name, each, values) for each in op.inputs]
    missing = dict.fromkeys((f"{op.name}:{i}" for i in range(len(op.outputs))), None)
    if any(each is None for source in op.sources() for each in (values[source],)):
        return missing
    build.origin = Origin(
        op.name.rpartition("/")[0], lambda: f"{name}: the operator {op.name!r}: {op.type}"
    )
    try:
        found = RULES[op.type](Site(build, op), *given)
    except Refusal as refusal:
        places.append(Place(op.type, op.name, str(refusal)))
        return missing
    except FormatError:
        raise
    except FAULTS as error:
        reason = of_sizes(build, error, (values[each] for each in op.sources()))
        if reason is None:
            told = f"{op.name!r} ({op.type}): its attributes and inputs do not go together: {error}"
            raise FormatError(f"{name}: {told}") from None
        places.append(Place(op.type, op.name, reason))
        return missing
    nodes = found if isinstance(found, tuple) else (found,)
    return {f"{op.name}:{i}": node for i, node in enumerate(nodes)}


def check_ports(name: str, op: OpView) -> None:
    """What the prototype requires is connected."""
    proto = prototype(op.type)
    assert proto is not None
    for port, source in zip(proto.inputs, op.inputs, strict=True):
        if source is None and port.kind == "req":
            told = f"nothing is connected to its input {port.name}"
            raise FormatError(f"{name}: {op.name!r} ({op.type}): {told}")


def held(value: np.ndarray, weight: str | None) -> Node:
    """A Const: a weight by its name, or a number of the graph."""
    if weight is None:
        return Constant(value)
    return Parameter(weight, aval_of(value), value, path=weight)


def ported(name: str, source: str | tuple[str, ...] | None, values: Values) -> Given:
    """What stands at a port."""
    if isinstance(source, tuple):
        found = [value_of(name, each, values) for each in source]
        return [each for each in found if each is not None]
    return None if source is None else value_of(name, source, values)
