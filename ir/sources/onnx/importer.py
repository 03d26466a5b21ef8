"""An ONNX graph as ours, for inputs whose shapes are known, symbols among them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from google.protobuf.message import Message

from fnckpt.errors import FormatError
from fnckpt.ir.graph import CNode, Constant, FuncGraph, Node, Origin, Parameter, aval_of
from fnckpt.ir.sources.build import Builder
from fnckpt.ir.sources.faults import FAULTS, of_sizes
from fnckpt.ir.sources.onnx.choices import with_choices
from fnckpt.ir.sources.onnx.functions import Definitions
from fnckpt.ir.sources.onnx.guards import unguarded
from fnckpt.ir.sources.onnx.model import Model
from fnckpt.ir.sources.onnx.registry import CANNOT, Site, Value, rule_of
from fnckpt.ir.sources.source import Imported, Input, NotImported, Place, Refusal, Shape

MOST_NODES = 100_000  # of functions, which a small file can double again and again
MOST_CALLS = 64  # of functions inside each other

# What Python and NumPy raise where a node's attributes and inputs do not go together.


@dataclass(frozen=True)
class Refused:
    """In place of a value that could not be computed, so that its users are not blamed."""


@dataclass
class Scope:
    """The values of a graph by name, and those around it.

    ``captured``: what a closed graph takes from around it, as (outer value, inner parameter);
    None for a graph that stands in place of the node that holds it.
    """

    around: "Scope | None" = None
    captured: list[tuple[Node, Parameter]] | None = None
    values: dict[str, Value | Refused] = field(default_factory=dict[str, "Value | Refused"])


def imported(
    model: Model,
    arrays: Mapping[str, np.ndarray],
    trained: Sequence[str],
    inputs: Sequence[Input],
    shapes: Sequence[Shape],
    given: Mapping[str, np.ndarray],
) -> Imported:
    """The graph of a model.

    Args:
      model: the file.
      arrays: its initializers.
      trained: those that are weights; the others are constants.
      inputs: of the file, and
      shapes: those that they have.
      given: the values of inputs that a shape may ask for.

    Raises:
      NotImported: naming every node that has no rule, or that a rule refuses.
      FormatError: a node uses what nothing before it computes, or makes no sense.
    """
    build = Builder(given)
    walk = Walk(model, build, Definitions(model))
    parameters = tuple(
        Parameter(each.name, each.aval(shape)) for each, shape in zip(inputs, shapes, strict=True)
    )
    scope = Scope()
    weights = frozenset(trained)
    for name, value in arrays.items():
        weight = Parameter(name, aval_of(value), value, path=name)
        scope.values[name] = weight if name in weights else Constant(value)
    scope.values |= {parameter.name: parameter for parameter in parameters}
    graph = model.proto.graph
    found = walk.outputs(graph, scope)
    if walk.places:
        raise NotImported(walk.places)
    outputs = tuple(each for each in found if isinstance(each, Parameter | Constant | CNode))
    if len(outputs) < len(found):
        reason = "it is not an array but a sequence of arrays"
        raise NotImported([Place("output", graph.name, reason)])
    names = tuple(value.name for value in graph.output)
    whole = with_choices(FuncGraph(graph.name or "model", parameters, outputs, names))
    return Imported(unguarded(whole) if walk.ours else whole, frozenset(build.fixed))


class Walk:
    """Goes through the nodes of a model, graphs inside graphs and functions too."""

    def __init__(self, model: Model, build: Builder, definitions: "Definitions") -> None:
        self.model, self.build, self.definitions = model, build, definitions
        self.ours = model.proto.producer_name == "fnckpt"
        self.places: list[Place] = []
        self._count = 0
        self._calls: list[str] = []

    def outputs(self, graph: onnx.GraphProto, scope: Scope) -> list[Value | Refused]:
        """The outputs of a graph whose inputs are in ``scope``."""
        for tensor in graph.initializer:
            if tensor.name not in scope.values:
                scope.values[tensor.name] = Constant(self.model.array(tensor))
        if graph.sparse_initializer:
            raise NotImported([Place("sparse initializer", graph.name, "it is a sparse array")])
        versions = self.definitions.opsets
        for node in graph.node:
            self.step(node, scope, versions)
        return [self.look(value.name, scope, "the graph's output") for value in graph.output]

    def look(self, name: str, scope: Scope, user: str) -> Value | Refused:
        """The value of a name, in a graph or in those around it."""
        if name in scope.values:
            return scope.values[name]
        if scope.around is None:
            raise self.model.error(
                name, f"{user} uses it, and nothing before computes it; the graph has a cycle or a "
                "name that does not exist"
            )  # fmt: skip
        value = self.look(name, scope.around, user)
        if scope.captured is not None:
            value = self._capture(name, value, scope.captured)
        scope.values[name] = value
        return value

    def _capture(
        self, name: str, value: Value | Refused, captured: list[tuple[Node, Parameter]]
    ) -> Value | Refused:
        """A value from around a closed graph as one of its own inputs, where it has to be one."""
        if value is None or isinstance(value, Refused):
            return value
        if isinstance(value, tuple):
            return tuple(self._captured_part(name, each, captured) for each in value)
        if self.build.is_closed(value):
            return value
        inner = next((inner for outer, inner in captured if outer is value), None)
        if inner is None:
            inner = Parameter(name, value.aval)
            captured.append((value, inner))
        return inner

    def _captured_part(
        self, name: str, value: Value, captured: list[tuple[Node, Parameter]]
    ) -> Value:
        found = self._capture(name, value, captured)
        assert not isinstance(found, Refused)
        return found

    def step(self, node: onnx.NodeProto, scope: Scope, opsets: Mapping[str, int]) -> None:
        """Import one node; what it refuses is kept."""
        self._count += bool(self._calls)
        if self._count > MOST_NODES:
            raise FormatError(f"{self.model.name}: more than {MOST_NODES} nodes, in its functions")
        user = f"the node {node.name!r} ({node.op_type})"
        inputs = [self.look(name, scope, user) if name else None for name in node.input]
        given = [each for each in inputs if not isinstance(each, Refused)]
        results: Sequence[Value | Refused] = [Refused()] * len(node.output)
        self.build.origin = self._origin(node)
        if len(given) == len(inputs):
            try:
                results = self._results(node, given, scope, opsets)
            except Refusal as refusal:
                self.places.append(Place(kind_of(node), node.name, str(refusal)))
            except NotImported as inside:
                self.places += inside.places
            except FormatError:
                raise
            except FAULTS as error:
                reason = of_sizes(self.build, error, given)
                if reason is None:
                    told = f"{user}: its attributes and inputs do not go together: {error}"
                    raise FormatError(f"{self.model.name}: {told}") from None
                self.places.append(Place(kind_of(node), node.name, reason))
        for name, value in zip(node.output, results, strict=False):
            if name:
                scope.values[name] = value

    def _origin(self, node: onnx.NodeProto) -> Origin:
        scope, _, own = node.name.rpartition("/")
        name, file, kind = node.name or own, self.model.name, node.op_type
        return Origin(scope.strip("/"), lambda: f"{file}: the node {name!r}: {kind}")

    def _results(
        self,
        node: onnx.NodeProto,
        inputs: Sequence[Value],
        scope: Scope,
        opsets: Mapping[str, int],
    ) -> Sequence[Value | Refused]:
        domain = "" if node.domain == "ai.onnx" else node.domain
        key = (domain, node.op_type)
        function = self.definitions.of_file(domain, node.op_type)
        if function is not None:
            return self._called(function, node, inputs)
        if domain not in opsets:
            raise Refusal(f"the file does not give the version of its domain {domain!r}")
        opset = opsets[domain]
        rule = rule_of(*key, opset)
        attributes = {each.name: each for each in node.attribute}
        if rule is not None:
            around = Inside(self, scope)
            site = Site(self.build, around, node, attributes, opset, self.ours)
            found = rule(site, *inputs)
            if found is not None:
                return [found] if isinstance(found, Parameter | Constant | CNode) else list(found)
        if domain == "" and node.op_type in CANNOT:
            raise Refusal(CANNOT[node.op_type])
        function = self.definitions.of_onnx(node, opset, inputs)
        if function is None:
            raise Refusal(no_rule(domain, opset))
        return self._called(function, node, inputs)

    def _called(
        self, function: onnx.FunctionProto, node: onnx.NodeProto, inputs: Sequence[Value]
    ) -> Sequence[Value | Refused]:
        """The results of a function: its nodes in place of the call."""
        called = f"{function.domain}:{function.name}:{function.overload}"
        if called in self._calls or len(self._calls) >= MOST_CALLS:
            raise FormatError(f"{self.model.name}: the function {function.name} calls itself")
        given = {each.name: each for each in function.attribute_proto}
        given |= {each.name: each for each in node.attribute}
        inside = Scope()
        names = function.input
        if len(inputs) > len(names):
            raise FormatError(f"{self.model.name}: {node.name}: {len(inputs)} inputs")
        inside.values = dict(zip(names, [*inputs, *[None] * len(names)], strict=False))
        own = {each.domain: each.version for each in function.opset_import}
        opsets = {**self.definitions.opsets, **own}
        opsets.setdefault("", onnx.defs.onnx_opset_version())
        self._calls.append(called)
        origin = self.build.origin
        places = len(self.places)
        for each in function.node:
            self.step(with_attributes(each, given), inside, opsets)
        self._calls.pop()
        self.build.origin = origin
        self._rename(places, node)
        wanted = zip(function.output, node.output, strict=False)
        user = f"the function {function.name}"
        return [self.look(name, inside, user) if outer else None for name, outer in wanted]

    def _rename(self, places: int, node: onnx.NodeProto) -> None:
        """What is refused inside a function is told as of the node that calls it."""
        for index, place in enumerate(self.places[places:], places):
            name = node.name or place.name
            self.places[index] = Place(f"{kind_of(node)} ({place.op})", name, place.reason)


@dataclass(frozen=True)
class Inside:
    """What a rule sees of the graph around its node."""

    walk: Walk
    scope: Scope

    def inline(self, body: onnx.GraphProto, given: Sequence[Value]) -> list[Value]:
        """The outputs of ``body`` computed in place."""
        return self._outputs(body, Scope(self.scope), given)

    def closed(self, body: onnx.GraphProto, given: Sequence[Node]) -> tuple[FuncGraph, list[Node]]:
        """``body`` as a graph of its own whose inputs are like ``given``, and what it captures."""
        captured: list[tuple[Node, Parameter]] = []
        scope = Scope(self.scope, captured)
        names = [value.name for value in body.input]
        own = [Parameter(name, like.aval) for name, like in zip(names, given, strict=True)]
        outputs = self._outputs(body, scope, own)
        nodes = [each for each in outputs if isinstance(each, Node)]
        if len(nodes) < len(outputs):
            raise Refusal("a graph inside it returns a sequence, which a loop of JAX cannot carry")
        outer = [value for value, _ in captured]
        inputs = (*(inner for _, inner in captured), *own)
        labels = tuple(value.name for value in body.output)
        return FuncGraph(body.name or "inside", inputs, tuple(nodes), labels), outer

    def array(self, tensor: onnx.TensorProto) -> np.ndarray:
        """The array of a tensor."""
        return self.walk.model.array(tensor)

    def dtype(self, element: int) -> np.dtype:
        """The dtype of an element type."""
        return self.walk.model.dtype(element, "a node")

    def _outputs(self, body: onnx.GraphProto, scope: Scope, given: Sequence[Value]) -> list[Value]:
        walk = self.walk
        origin, before = walk.build.origin, len(walk.places)
        names = [value.name for value in body.input]
        scope.values |= dict(zip(names, given, strict=True))
        outputs = walk.outputs(body, scope)
        walk.build.origin = origin
        found = [each for each in outputs if not isinstance(each, Refused)]
        if len(found) < len(outputs):
            inside, walk.places[before:] = walk.places[before:], []
            raise NotImported(inside)
        return found


def kind_of(node: onnx.NodeProto) -> str:
    """The operator, with its domain where that is not ONNX's own."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def no_rule(domain: str, opset: int) -> str:
    """Why an operator is refused that nobody has written a rule for."""
    what = f"the domain {domain!r}" if domain else f"opset {opset}"
    return f"no rule for this operator of {what}; write one with @imports, or cut it off the graph"


def with_attributes(
    node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]
) -> onnx.NodeProto:
    """A node of a function's body, with what the call says in place of references to it."""
    if not any(_references(node)):
        return node
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    _resolve(copied, given)
    return copied


def _references(node: onnx.NodeProto) -> Iterator[bool]:
    for each in node.attribute:
        yield bool(each.ref_attr_name)
        graphs: list[Message] = [each.g] if each.HasField("g") else []
        for graph in (*graphs, *each.graphs):
            assert isinstance(graph, onnx.GraphProto)
            for inner in graph.node:
                yield from _references(inner)


def _resolve(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]) -> None:
    kept = []
    for each in node.attribute:
        if not each.ref_attr_name:
            if each.HasField("g"):
                for inner in each.g.node:
                    _resolve(inner, given)
            kept.append(each)
        elif each.ref_attr_name in given:
            value = onnx.AttributeProto()
            value.CopyFrom(given[each.ref_attr_name])
            value.name = each.name
            kept.append(value)
    del node.attribute[:]
    node.attribute.extend(kept)
