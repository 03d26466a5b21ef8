"""Rewrites: patterns that match a part of a graph, and the driver that walks and replaces.

A rule states an equation: it gets the node that its pattern matched and what the pattern's names
are bound to, and returns an equal node, or None to decline. It never walks and never mutates.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from fnckpt.ir.graph import (
    CNode,
    Constant,
    FuncGraph,
    Node,
    rebuilt,
    with_outputs,
)
from fnckpt.ir.operators import OPERATORS
from fnckpt.ir.sizes import InconclusiveDimensionOperation

Bindings = dict[str, object]
Uses = Mapping[int, int]

MOST_WALKS = 100
MOST_REWRITES = 100  # of one node in one walk
MOST_KINDS = 4  # inputs of a node whose rules are kept by the kinds of its inputs


@dataclass(frozen=True)
class Any_:
    """Matches every node and binds it to ``name``; a second time only that same node."""

    name: str


@dataclass(frozen=True)
class Scalar:
    """Matches a constant whose elements are all one number, and binds it as a float to ``name``.

    With ``value`` it matches that number alone, as the constant's dtype rounds it.
    """

    name: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Weight:
    """Matches a constant or a parameter that has a value, and binds the node to ``name``.

    ``users``: how many it has at most, so that no other one needs it as it is; 0 is any number.
    """

    name: str
    users: int = 0


class Op:
    """Matches an operator whose inputs match ``inputs``, in either order where it is commutative.

    Args:
      op: the operator's name.
      inputs: one pattern an input; none at all match any inputs.
      attrs: which attribute is bound to which name.
      name: what the node itself is bound to.
      users: how many users inside the pattern the node has; one more, and the pattern does not
        match, because the node would be computed twice. 0 allows any number: right only where
        that costs nothing.
    """

    def __init__(
        self,
        op: str,
        *inputs: "Pattern",
        attrs: Mapping[str, str] | None = None,
        name: str = "",
        users: int = 1,
    ) -> None:
        self.op, self.inputs, self.attrs = op, inputs, dict(attrs or {})
        self.name, self.users = name, users


Pattern = Any_ | Scalar | Weight | Op


@dataclass(frozen=True, eq=False)
class Rule:
    """A pattern with the function that states what equals it."""

    pattern: Op
    rewrite: Callable[..., Node | None]

    @property
    def name(self) -> str:
        """The function's name, as ``optimize=`` and reports show it."""
        return self.rewrite.__name__

    @cached_property
    def _matcher(self) -> "Matcher":
        return _matcher_of_op(self.pattern, root=True)

    def __call__(self, node: CNode, uses: Uses) -> Node | None:
        """The node that replaces ``node``, or None where the rule does not apply."""
        found = self._matcher(node, {}, uses)
        if found is None:
            return None
        try:
            return self.rewrite(node, **found)
        except InconclusiveDimensionOperation:  # it holds for some of the symbolic sizes only
            return None


def rewrites(pattern: Op | str) -> Callable[[Callable[..., Node | None]], Rule]:
    """Make the decorated function the rule of ``pattern``; a string is an operator's name."""
    wanted = Op(pattern) if isinstance(pattern, str) else pattern
    return lambda rewrite: Rule(wanted, rewrite)


def scalar_of(node: Node) -> float | None:
    """The one number that a constant holds everywhere, else None."""
    if not isinstance(node, Constant) or node.value.size == 0 or node.value.dtype.kind == "c":
        return None
    first = node.value.flat[0]
    if node.value.size > 1 and not np.all(node.value == first):
        return None
    return float(first)


def _is_rounded(number: float, value: float, dtype: np.dtype) -> bool:
    """Whether ``number`` is ``value`` in ``dtype``: the nearest there is, or computed in it.

    Only what ``dtype`` cannot hold, as the root of 2 / pi, may be computed with a few roundings.
    """
    if number == value or dtype.kind in "biu":
        return number == value
    nearest = float(np.asarray(value).astype(dtype))
    if number == nearest or nearest == value or dtype.itemsize <= 2:
        return number == nearest
    rounding = float(np.finfo(dtype).eps)
    return bool(np.isclose(number, value, rtol=4 * rounding, atol=0.0))


# What a pattern is made into once, since most nodes are no instance of most patterns: the bindings
# under which a node is one, beside those there are, or None.
Matcher = Callable[[Node, Bindings, Uses], Bindings | None]


def _matcher_of(pattern: Pattern) -> Matcher:
    match pattern:
        case Any_(name):
            return lambda node, bound, uses: _named(name, node, bound)
        case Scalar():
            return lambda node, bound, uses: _scalar(pattern, node, bound)
        case Weight():
            return lambda node, bound, uses: _weight(pattern, node, bound, uses)
        case Op():
            return _matcher_of_op(pattern)


def _named(name: str, node: Node, bound: Bindings) -> Bindings | None:
    if name in bound:
        return bound if bound[name] is node else None
    return bound | {name: node}


def _scalar(pattern: Scalar, node: Node, bound: Bindings) -> Bindings | None:
    number = scalar_of(node)
    if number is None:
        return None
    if pattern.value is not None:
        return bound if _is_rounded(number, pattern.value, node.aval.dtype) else None
    return bound | {pattern.name: number} if pattern.name else bound


def _weight(pattern: Weight, node: Node, bound: Bindings, uses: Uses) -> Bindings | None:
    if isinstance(node, CNode) or node.value is None:
        return None
    few = not pattern.users or uses.get(id(node), 1) <= pattern.users
    return _named(pattern.name, node, bound) if few else None


def _matcher_of_op(pattern: Op, root: bool = False) -> Matcher:
    """``root``: whatever uses it."""
    op, attrs, most = pattern.op, tuple(pattern.attrs.items()), 0 if root else pattern.users
    commutative = op in OPERATORS and OPERATORS[op].commutative
    inside = [_matcher_of(each) for each in pattern.inputs]

    def matched(node: Node, bound: Bindings, uses: Uses) -> Bindings | None:
        if not isinstance(node, CNode) or node.op != op:
            return None
        if most and uses.get(id(node), 1) > most:
            return None
        start = bound | {name: node.attrs[attr] for attr, name in attrs} if attrs else bound
        if pattern.name:
            start = start | {pattern.name: node}
        if not inside:
            return start
        found = _all_of(inside, node.inputs, start, uses)
        if found is None and commutative:
            return _all_of(inside, node.inputs[::-1], start, uses)
        return found

    return matched


def _all_of(
    matchers: Sequence[Matcher], inputs: Sequence[Node], bound: Bindings, uses: Uses
) -> Bindings | None:
    if len(matchers) != len(inputs):
        return None
    found: Bindings | None = bound
    for matcher, node in zip(matchers, inputs, strict=True):
        found = matcher(node, found, uses)
        if found is None:
            return None
    return found


def rewrite(graph: FuncGraph, rules: Iterable[Rule]) -> FuncGraph:
    """``graph`` with every rule applied until none applies.

    Each walk goes from the inputs to the outputs, so that what a rule moves towards the outputs
    goes all the way in one walk. Names are kept by the graph: an output is only replaced by
    another node.
    """
    index = _indexed(tuple(rules))
    for _ in range(MOST_WALKS):
        if index.by_op.keys().isdisjoint(graph.ops):
            return graph
        walked = _walk(graph, index)
        if walked is graph:
            return graph
        graph = walked
    names = ", ".join(sorted(index.by_op))
    raise AssertionError(f"the rules of {names} rewrite {graph.name} without end")


Kind = str | type[Node]  # the name of an operator, or what else a node is


def _kind(node: Node) -> Kind:
    return node.op if isinstance(node, CNode) else type(node)


def _could_be(pattern: Pattern, kind: Kind) -> bool:
    """Whether a node of that kind may match."""
    match pattern:
        case Op():
            return kind == pattern.op
        case Scalar():
            return kind is Constant
        case Weight():
            return not isinstance(kind, str)
        case Any_():
            return True


def _could_match(pattern: Op, kinds: Sequence[Kind]) -> bool:
    """Whether an operator of ``pattern`` may match with inputs of those kinds."""
    if not pattern.inputs:
        return True
    if len(pattern.inputs) != len(kinds):
        return False
    commutative = pattern.op in OPERATORS and OPERATORS[pattern.op].commutative
    return any(
        all(_could_be(each, kind) for each, kind in zip(pattern.inputs, order, strict=True))
        for order in ((kinds, kinds[::-1]) if commutative else (kinds,))
    )


@dataclass(frozen=True)
class Index:
    """Rules by operator, and by the kinds of inputs that were met: few may match a node."""

    by_op: dict[str, list[Rule]]
    by_kinds: dict[tuple[Kind, ...], tuple[Rule, ...]]

    def candidates(self, node: CNode) -> Sequence[Rule]:
        """In their order, those that may match ``node``."""
        rules = self.by_op.get(node.op, ())
        if len(node.inputs) > MOST_KINDS or not rules:
            return rules
        key = (node.op, *map(_kind, node.inputs))
        found = self.by_kinds.get(key)
        if found is None:
            found = tuple(rule for rule in rules if _could_match(rule.pattern, key[1:]))
            self.by_kinds[key] = found
        return found


@lru_cache(maxsize=128)
def _indexed(rules: tuple[Rule, ...]) -> Index:
    by_op: dict[str, list[Rule]] = {}
    for rule in rules:
        by_op.setdefault(rule.pattern.op, []).append(rule)
    return Index(by_op, {})


def _walk(graph: FuncGraph, index: Index) -> FuncGraph:
    uses = graph.use_counts()
    new: dict[int, Node] = {}
    alive: list[Node] = []  # an id is only good for as long as its node lives
    for node in graph.nodes():
        result = rebuilt(node, new)
        uses[id(result)] = uses.get(id(node), 0)
        for _ in range(MOST_REWRITES):
            better = _better(index, result, uses)
            if better is None:
                break
            uses[id(better)] = uses.get(id(better), 0) + uses[id(result)]
            alive.append(result)
            result = better
        else:
            raise AssertionError(f"the rules rewrite a {op_of(node)} of {graph.name} without end")
        new[id(node)] = result
    return with_outputs(graph, new)


def _better(index: Index, node: Node, uses: Uses) -> Node | None:
    """What the first rule that applies makes of ``node``."""
    if not isinstance(node, CNode):
        return None
    for rule in index.candidates(node):
        better = rule(node, uses)
        if better is not None:
            return better
    return None


def op_of(node: Node) -> str:
    """The operator of a node, or what else it is."""
    return node.op if isinstance(node, CNode) else type(node).__name__
