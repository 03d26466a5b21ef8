"""The table of imports: what each operator of ONNX becomes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnx

from fnckpt.ir.graph import FuncGraph, Node
from fnckpt.ir.sources.build import Builder
from fnckpt.ir.sources.source import Refusal

Value: TypeAlias = Node | tuple["Value", ...] | None
"""A node, a sequence of values, or an input that is left out."""

Rule = Callable[..., "Value | Sequence[Value]"]

# By domain and operator: the opset that a rule begins with, newest first, and the rule.
RULES: dict[tuple[str, str], list[tuple[int, Rule]]] = {}

# What has no rule, and why: by operator of ONNX's own domain.
CANNOT: dict[str, str] = {}

DATA = "the shape of its result depends on data, which JAX cannot compile"
RANDOM = "it makes random numbers; pass them as an input"
TEXT = "it computes with texts; do so outside the network"

for _op in ("Compress", "NonMaxSuppression", "NonZero", "Unique"):
    CANNOT[_op] = f"{DATA}; cut the graph before it"
for _op in ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
            "RandomUniformLike"):  # fmt: skip
    CANNOT[_op] = RANDOM
for _op in ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit",
            "TfIdfVectorizer"):  # fmt: skip
    CANNOT[_op] = TEXT
CANNOT["ImageDecoder"] = "it decodes a file; do so outside the network"


class Around(Protocol):
    """The graph that a node lies in."""

    def inline(self, body: onnx.GraphProto, given: Sequence[Value]) -> list[Value]:
        """The outputs of a graph that a node holds, computed in its place."""
        ...

    def closed(self, body: onnx.GraphProto, given: Sequence[Node]) -> tuple[FuncGraph, list[Node]]:
        """A graph that a node holds, what it captures first among its inputs, and the captured."""
        ...

    def array(self, tensor: onnx.TensorProto) -> np.ndarray:
        """The array of a tensor."""
        ...

    def dtype(self, element: int) -> np.dtype:
        """The dtype of an element type."""
        ...


@dataclass(frozen=True)
class Site:
    """The node that a rule imports.

    Attributes:
      build: makes nodes.
      around: the graph that it lies in.
      node: its message.
      attributes: by name.
      opset: the version of its domain.
      ours: whether the file was written by this package, so that each index is inside.
    """

    build: Builder
    around: Around
    node: onnx.NodeProto
    attributes: dict[str, onnx.AttributeProto]
    opset: int
    ours: bool

    @property
    def results(self) -> int:
        """How many results are asked for."""
        return len(self.node.output)

    def wants(self, index: int) -> bool:
        """Whether the result number ``index`` has a name."""
        return index < len(self.node.output) and bool(self.node.output[index])

    def has(self, name: str) -> bool:
        """Whether the attribute is there."""
        return name in self.attributes

    def integer(self, name: str, default: int | None = None) -> int:
        """An integer attribute."""
        return int(self._get(name, "i", default))

    def flag(self, name: str, default: bool = False) -> bool:
        """An integer attribute that says yes or no."""
        return bool(self._get(name, "i", default))

    def number(self, name: str, default: float | None = None) -> float:
        """A float attribute, which is a float32."""
        value = self._get(name, "f", default)
        return float(np.float32(value).astype(str)) if name in self.attributes else float(value)

    def text(self, name: str, default: str | None = None) -> str:
        """A text attribute."""
        value = self._get(name, "s", default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """An attribute of several integers."""
        return tuple(self._get(name, "ints", default))

    def numbers(self, name: str, default: Sequence[float] | None = None) -> tuple[float, ...]:
        """An attribute of several floats."""
        return tuple(self._get(name, "floats", default))

    def texts(self, name: str, default: Sequence[str]) -> tuple[str, ...]:
        """An attribute of several texts."""
        found = self._get(name, "strings", default)
        return tuple(each.decode() if isinstance(each, bytes) else each for each in found)

    def graph(self, name: str) -> onnx.GraphProto:
        """A graph attribute."""
        return self._get(name, "g", None)

    def tensor(self, name: str) -> np.ndarray:
        """A tensor attribute."""
        return self.around.array(self._get(name, "t", None))

    def _get(self, name: str, field: str, default: object) -> Any:
        if name in self.attributes:
            return getattr(self.attributes[name], field)
        if default is None:
            raise Refusal(f"its attribute {name} is missing; the file is not valid")
        return default


def imports(*ops: str, since: int = 1, domain: str = "") -> Callable[[Rule], Rule]:
    """Register the decorated function as what ``ops`` become from the opset ``since`` on.

    It gets a ``Site`` and the inputs, None for one that is left out; it gives the result, or a
    tuple of results. None declines, and the operator is expanded into the function that ONNX
    defines it by, if there is one.
    """

    def register(rule: Rule) -> Rule:
        for op in ops:
            rules = RULES.setdefault((domain, op), [])
            if since in [version for version, _ in rules]:
                raise ValueError(f"{op} of opset {since} has a rule already")
            rules.append((since, rule))
            rules.sort(key=lambda row: -row[0])
        return rule

    return register


def rule_of(domain: str, op: str, opset: int) -> Rule | None:
    """The rule of an operator in a version, or None."""
    rows = RULES.get((domain, op), [])
    return next((rule for since, rule in rows if since <= opset), None)
