"""A MindIR graph as ours: functions are written in place of their calls, loops found in them.

The format has no loop: a function that reaches itself through the closures that it chooses among
is one. What it takes is carried; the choice that leads out of it is taken after the loop.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fnckpt.errors import FormatError
from fnckpt.ir.graph import Constant, FuncGraph, Node, Origin, Parameter, aval_of
from fnckpt.ir.sources.build import BOOL, INT32, Builder
from fnckpt.ir.sources.faults import FAULTS, of_sizes
from fnckpt.ir.sources.mindir.registry import RULES, Site
from fnckpt.ir.sources.mindir.scans import with_scans
from fnckpt.ir.sources.mindir.values import decoded
from fnckpt.ir.sources.source import Imported, Input, NotImported, Place, Refusal, Shape
from fnckpt.ir.targets.mindir.view import BY_SIGNATURE, MOST_DEPTH, REFERENCE
from fnckpt.proto.mind_ir_pb2 import GraphProto, ModelProto, NodeProto

MOST_CALLS = 200  # of functions inside each other
MOST_NODES = 100_000
MOST_LEAVES = 10_000  # of a tuple
PASSED_ON = ("Load", "Depend")  # whose first input is their value
EFFECTS = ("UpdateState",)


@dataclass(frozen=True)
class Closure:
    """A function with its first arguments."""

    name: str
    given: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Choice:
    """One of several closures: by a bool or by an index, the last being ``True``."""

    condition: Node
    closures: tuple[Closure, ...]


@dataclass(frozen=True)
class Again:
    """The last thing that a loop's body does: to begin the loop again with these arguments."""

    values: tuple[Any, ...]


class Refused:
    """In place of a value that could not be computed."""


REFUSED = Refused()


def imported(
    name: str,
    model: ModelProto,
    arrays: Mapping[str, np.ndarray],
    names: Mapping[str, str],
    inputs: Sequence[Input],
    shapes: Sequence[Shape],
    given: Mapping[str, np.ndarray],
) -> Imported:
    """The graph of a model; ``names`` are what weights are called, by their names in the file.

    Raises:
      NotImported: naming every primitive that has no rule, or that a rule refuses.
      FormatError: a node uses what nothing computes, or makes no sense.
    """
    build = Builder(given)
    walk = Walk(name, model, build)
    for key, value in arrays.items():
        if key in names:
            walk.shared[key] = Parameter(names[key], aval_of(value), value, path=names[key])
        else:
            walk.shared[key] = Constant(value)
    parameters = tuple(
        Parameter(each.name, each.aval(shape)) for each, shape in zip(inputs, shapes, strict=True)
    )
    found = walk.outputs(model.graph, parameters)
    if walk.places:
        raise NotImported(walk.places)
    outputs = tuple(walk.node(each) for each in flat(found))
    labels = tuple(f"output_{i}" for i in range(len(outputs))) if len(outputs) > 1 else ("output",)
    graph = FuncGraph(model.graph.name or "model", parameters, outputs, labels)
    return Imported(with_scans(graph), frozenset(build.fixed))


def flat(value: Any) -> list[Any]:
    """The leaves of tuples in tuples."""
    return [leaf for each in value for leaf in flat(each)] if isinstance(value, tuple) else [value]


def check_tuple(value: tuple[Any, ...], name: str) -> None:
    """Tuples in tuples hold few values, and are not deep: a file may double one again and again.

    Raises:
      FormatError: they hold too many, or are too deep.
    """
    stack, count = [(each, 1) for each in value], 0
    while stack:
        each, depth = stack.pop()
        count += 1
        if count > MOST_LEAVES or depth > MOST_DEPTH:
            raise FormatError(f"{name}: tuples in tuples, too many or too deep")
        if isinstance(each, tuple):
            stack += [(inner, depth + 1) for inner in each]


def unflat(like: Any, leaves: list[Any]) -> Any:
    """The same tuples with other leaves, which are taken from the front."""
    if isinstance(like, tuple):
        return tuple(unflat(each, leaves) for each in like)
    return leaves.pop(0)


class Walk:
    """Computes functions; ``shared`` is what all of them see: weights and constants."""

    def __init__(self, name: str, model: ModelProto, build: Builder) -> None:
        self.name, self.model, self.build = name, model, build
        self.functions = {graph.name: graph for graph in model.functions}
        self.primitives = {f"{REFERENCE}{p.name}": p for p in model.primitives}
        self.shared: dict[str, Any] = {}
        self.places: list[Place] = []
        self._calls: list[str] = []
        self._loops: list[str] = []
        self._count = 0
        for graph in (model.graph, *model.functions):
            for node in graph.node:
                if node.op_type == "Constant" and node.output:
                    value = [a for a in node.attribute if a.name == "value"]
                    self.shared[node.output[0]] = decoded(value[0], name) if value else None
        self.named = {name: self._names_in(graph) for name, graph in self.functions.items()}
        self.reach = {each: self._reached(each) for each in self.functions}

    def _names_in(self, graph: GraphProto) -> list[str]:
        """The functions that one names itself."""
        names = (name for node in graph.node
                 for name in (node.op_type.removeprefix(REFERENCE), *node.input))  # fmt: skip
        return list(dict.fromkeys(name for name in names if name in self.functions))

    def _reached(self, start: str, without: Collection[str] = ()) -> set[str]:
        """The functions that a function names, and those that these do, not by way of some."""
        found: set[str] = set()
        stack = [start]
        while stack:
            new = [n for n in self.named[stack.pop()] if n not in found and n not in without]
            found.update(new)
            stack += new
        return found

    def node(self, value: Any) -> Node:
        """A value as a node: numbers are tensors of rank 0."""
        if isinstance(value, Node):
            return value
        if isinstance(value, bool | int | float | np.ndarray):
            dtype = np.float32 if isinstance(value, float) else None
            return Constant(np.asarray(value, dtype))
        raise Refusal(f"expected a tensor, found {value!r}")

    def outputs(self, graph: GraphProto, given: Sequence[Any], force: str = "") -> Any:
        """What a function gives for its arguments; of a choice that leads on or out, ``force``."""
        if len(given) != len(graph.input):
            raise FormatError(f"{self.name}: {graph.name} takes {len(graph.input)} arguments")
        values = dict(zip((each.name for each in graph.input), given, strict=True))
        for node in graph.node:
            if node.op_type != "Constant":
                self._step(node, values, force)
        (last,) = graph.output if len(graph.output) == 1 else (None,)
        if last is None:
            return tuple(self._look(each.name, values, graph.name) for each in graph.output)
        return self._look(last.name, values, graph.name)

    def _look(self, name: str, values: Mapping[str, Any], user: str) -> Any:
        if name in values:
            return values[name]
        if name in self.shared:
            value = self.shared[name]
            return Constant(value) if isinstance(value, np.ndarray) else value
        if name in self.functions:
            return Closure(name)
        raise FormatError(f"{self.name}: {user}: {name!r} is used before it is computed")

    def _step(self, node: NodeProto, values: dict[str, Any], force: str) -> None:
        self._count += 1
        if self._count > MOST_NODES:
            raise FormatError(f"{self.name}: more than {MOST_NODES} nodes, in its functions")
        inputs = [self._look(each, values, node.name) for each in node.input]
        result: Any = REFUSED
        kind = self._kind(node)
        name = node.name or (node.output[0] if node.output else "")
        self.build.origin = Origin(
            node.domain if "/" in node.domain else "",
            lambda: f"{self.name}: the node {name!r}: {kind}",
        )
        if not any(each is REFUSED for value in inputs for each in flat(value)):
            try:
                result = self._result(node, kind, inputs, values, force)
            except Refusal as refusal:
                self.places.append(Place(kind, name, str(refusal)))
            except FormatError:
                raise
            except FAULTS as error:
                reason = of_sizes(self.build, error, flat(tuple(inputs)))
                if reason is None:
                    told = f"{name!r} ({kind}): its attributes and inputs do not go together"
                    raise FormatError(f"{self.name}: {told}: {error}") from None
                self.places.append(Place(kind, name, reason))
        for output in node.output:
            values[output] = result

    def _kind(self, node: NodeProto) -> str:
        primitive = self.primitives.get(node.op_type)
        if primitive is None:
            return node.op_type.removeprefix(REFERENCE)
        return primitive.op_type.removeprefix(BY_SIGNATURE)

    def _result(
        self, node: NodeProto, kind: str, inputs: list[Any], values: dict[str, Any], force: str
    ) -> Any:
        if kind in PASSED_ON:
            return inputs[0]
        if kind in EFFECTS:
            return None
        if kind in ("MakeTuple", "make_list"):
            check_tuple(tuple(inputs), self.name)
            return tuple(inputs)
        if kind == "TupleGetItem":
            return inputs[0][int(inputs[1])]
        if kind == "Partial":
            return Closure(inputs[0].name, (*inputs[0].given, *inputs[1:]))
        if kind == "Switch":
            return Choice(inputs[0], (inputs[2], inputs[1]))
        if kind == "switch_layer":
            return Choice(inputs[0], tuple(inputs[1]))
        called = node.op_type.removeprefix(REFERENCE)
        if node.op_type not in self.primitives and called in self.functions:
            return self._call(Closure(called), tuple(inputs))
        if node.op_type not in self.primitives and called in values:
            return self._called(values[called], tuple(inputs), force)
        if kind not in RULES:
            raise Refusal("no rule for this primitive; write one with @imports")
        primitive = self.primitives.get(node.op_type)
        held = () if primitive is None else primitive.attribute
        attributes = {a.name: decoded(a, self.name) for a in (*held, *node.attribute)}
        site = Site(self.build, kind, attributes, tuple(inputs))
        return RULES[kind](site, *inputs)

    # ------------------------------------------------------------------------------------- calls

    def _called(self, called: Any, given: tuple[Any, ...], force: str) -> Any:
        if isinstance(called, Closure):
            return self._call(called, given)
        if not isinstance(called, Choice):
            raise FormatError(f"{self.name}: a number or an array is called as a function")
        if force:
            chosen = next(each for each in called.closures if leads(self, each, force))
            return self._call(chosen, given)
        known = self.build.known(self.node(called.condition))
        if known is not None:
            place = min(max(int(known.reshape(())), 0), len(called.closures) - 1)
            return self._call(called.closures[place], given)
        return self._branches(called, given)

    def _call(self, closure: Closure, given: tuple[Any, ...]) -> Any:
        arguments = (*closure.given, *given)
        if self._loops and closure.name == self._loops[-1]:
            return Again(arguments)
        if len(self._calls) >= MOST_CALLS:
            raise FormatError(f"{self.name}: more than {MOST_CALLS} functions inside each other")
        if closure.name in self._loops:
            raise FormatError(f"{self.name}: {closure.name} is called from inside itself")
        if closure.name in self._reached(closure.name, self._loops):
            return self._loop(closure.name, arguments)
        self._calls.append(closure.name)
        found = self.outputs(self.functions[closure.name], arguments)
        self._calls.pop()
        return found

    def _branches(self, choice: Choice, given: tuple[Any, ...]) -> Any:
        """A Cond: the operands are all that the closures hold."""
        b = self.build
        leaves = [leaf for each in choice.closures for leaf in flat((*each.given, *given))]
        nodes = {id(n): n for n in leaves if isinstance(n, Node) and not b.is_closed(n)}
        operands = list(nodes.values())
        graphs: list[FuncGraph] = []
        likes: list[Any] = []
        for closure in choice.closures:
            own = {id(n): Parameter(f"operand{i}", n.aval) for i, n in enumerate(operands)}
            arguments = swapped((*closure.given, *given), own)
            found = self._call(Closure(closure.name), arguments)
            likes.append(found)
            held = found.values if isinstance(found, Again) else found
            outputs = tuple(self.node(each) for each in flat(held))
            labels = tuple(f"out{i}" for i in range(len(outputs)))
            graphs.append(FuncGraph(closure.name, tuple(own.values()), outputs, labels))
        again = [isinstance(each, Again) for each in likes]
        if len(set(again)) > 1:
            raise Refusal("a loop ends in the middle of its body, which a loop of JAX cannot do")
        index = b.cast(b.reshape(self.node(choice.condition), ()), INT32)
        results = list(b.items("Cond", index, *operands, branches=tuple(graphs)))
        if again[0]:
            return Again(unflat(likes[0].values, results))
        return unflat(likes[0], results)

    def _loop(self, name: str, given: tuple[Any, ...]) -> Any:
        """A While whose state is what the function takes, and what the way out of it gives."""
        b = self.build
        header = self.functions[name]
        start = [self.node(each) for each in flat(given)]
        choice = self._choice(header)
        inner = [tuple(Parameter(f"state{i}", n.aval) for i, n in enumerate(start)) for _ in "cb"]
        taken, self._loops = self._loops, [*self._loops, name]
        condition = self._condition(header, choice, unflat(given, list(inner[0])))
        found = self.outputs(header, unflat(given, list(inner[1])), force=name)
        self._loops = taken
        if not isinstance(found, Again):
            raise Refusal("a loop that JAX cannot express: its body does not end by calling it")
        following = [self.node(each) for each in flat(found.values)]
        labels = tuple(f"state{i}" for i in range(len(following)))
        cond = FuncGraph(f"{name}/cond", inner[0], (condition,), ("goes_on",))
        body = FuncGraph(f"{name}/body", inner[1], tuple(following), labels)
        last = list(b.items("While", *start, cond=cond, body=body, captured=0))
        return self.outputs(header, unflat(given, last), force=f"!{name}")

    def _choice(self, header: GraphProto) -> NodeProto:
        found = [node for node in header.node if self._kind(node) == "Switch"]
        if len(found) != 1:
            raise Refusal(f"a loop with {len(found)} choices at its head")
        return found[0]

    def _condition(self, header: GraphProto, choice: NodeProto, given: tuple[Any, ...]) -> Node:
        """Whether the loop goes on: what the choice is by, true where ``True`` leads on."""
        values = dict(zip((each.name for each in header.input), given, strict=True))
        for node in header.node:
            if node is choice:
                break
            if node.op_type != "Constant":
                self._step(node, values, "")
        b = self.build
        found = b.reshape(self.node(self._look(choice.input[0], values, header.name)), ())
        found = b.cast(found, BOOL)
        first = self._look(choice.input[1], values, header.name)
        goes_on = isinstance(first, Closure) and leads(self, first, header.name)
        return found if goes_on else b("LogicalNot", found)


def leads(walk: Walk, closure: Closure, force: str) -> bool:
    """Whether a closure reaches a function; with ``!`` before its name, whether it does not."""
    name = force.removeprefix("!")
    reached = closure.name == name or name in walk.reach[closure.name]
    return reached != force.startswith("!")


def swapped(value: Any, new: Mapping[int, Node]) -> Any:
    """Tuples in tuples with other nodes in place of some."""
    if isinstance(value, tuple):
        return tuple(swapped(each, new) for each in value)
    return new.get(id(value), value)
