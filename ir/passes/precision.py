"""Weights and compute of float32 in a narrower type, with what needs float32 kept in it.

A product of matrices, or a convolution, takes the narrower type and makes the bulk of a network
narrow; an operator of ``KEPT`` computes in float32 whatever it is given; every other one goes with
its inputs, in float32 as soon as one of them is, as JAX promotes. Casts stand where the two meet,
one for each value; a value that was widened is never rounded again.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from fnckpt.ir.graph import (
    HOLDS_GRAPHS,
    NOWHERE,
    Aval,
    CNode,
    Constant,
    FuncGraph,
    Node,
    Parameter,
    everywhere,
    inputs_of,
    rebuilt,
)
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.build import FLOAT32, cast_value, known, mapped
from fnckpt.ir.passes.reshape import value_of
from fnckpt.ir.passes.share import share

NARROW: Mapping[str, np.dtype] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})

# What loses digits or overflows: sums of many, powers and logarithms, poles, large arguments. The
# same operators as in "ops that autocast to float32" of PyTorch's amp documentation, and scans.
KEPT = frozenset(
    {
        "Acos", "Acosh", "Asin", "Asinh", "Atan2", "Atanh", "Attention", "AvgPool", "Cbrt", "Cos",
        "Cosh", *HOLDS_GRAPHS,  # what goes into a graph keeps its type; inside it is narrowed anew
        "CumLogSumExp", "CumMax", "CumMin", "CumProd", "CumSum", "Digamma", "ErfInv", "Erfc",
        "Exp", "Expm1", "Lgamma", "Log", "Log1p", "LogSoftmax", "NextAfter", "Pow", "Reciprocal",
        "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum", "Rem", "Rsqrt", "ScatterNd",
        "Sin", "Sinh", "Softmax", "Softplus", "Sqrt", "Square", "Standardize", "Tan",
    }
)  # fmt: skip

MOST_KEPT_BYTES = 16 << 10  # a larger weight of float32 compute is stored narrow, and widened
MOST_LOST = 0.01  # of a weight's norm


@dataclass(frozen=True)
class Narrowing:
    """What became of a graph's float32.

    Attributes:
      dtype: ``"float16"`` or ``"bfloat16"``.
      weights: how many weights are stored in it.
      kept_weights: the names of those that stayed float32, each with the reason.
      operators: how many operators compute in it.
      kept: how many stayed in float32, by operator.
      error: the greatest difference from the float32 graph on the sample input, relative to the
        greatest number of the output; None where it was not measured.
    """

    dtype: str
    weights: int
    kept_weights: Mapping[str, str]
    operators: int
    kept: Mapping[str, int]
    error: float | None = None

    def __str__(self) -> str:
        """Like ``float16: 8 weights and 12 operators, 4 weights and 3 operators in float32``."""
        kept = ", ".join(f"{count} {op}" for op, count in self.kept.items())
        text = f"{self.dtype}: {self.weights} weights, {self.operators} operators; in float32: "
        text += f"{len(self.kept_weights)} weights, {kept or 'no operator'}"
        return text if self.error is None else f"{text}; error {self.error:.1e}"


def narrowed(graph: FuncGraph, dtype: str) -> tuple[FuncGraph, Narrowing]:
    """``graph`` with the float32 inside as ``dtype``; its inputs and outputs keep their types.

    Args:
      graph: in which the larger operators are recognized: a norm in parts stays float32 too, but
        in more nodes.
      dtype: ``"float16"`` or ``"bfloat16"``.
    """
    plan = _planned(graph, NARROW[dtype])
    result = everywhere(graph, lambda each: share(_rebuilt(each, plan)))
    return result, _report(result, graph, plan)


@dataclass(frozen=True)
class _Plan:
    """Which nodes compute in float32, by id, and which known values do not fit, with the reason."""

    dtype: np.dtype
    wide: Mapping[int, str]
    misfits: Mapping[int, str]

    def type_of(self, node: CNode) -> np.dtype:
        """What ``node`` takes and gives in place of float32."""
        return FLOAT32 if id(node) in self.wide else self.dtype


def _planned(graph: FuncGraph, dtype: np.dtype) -> _Plan:
    every = graph.every_node()
    misfits = {id(n): why for n in every if (why := misfit(n, dtype)) is not None}
    wide = {id(n): "an input" for each in graph.every_graph() for n in each.inputs}
    for node in (n for n in every if isinstance(n, CNode)):
        reason = _needs_float32(node, wide, misfits)
        if reason is not None:
            wide[id(node)] = reason
    return _Plan(dtype, wide, misfits)


def _needs_float32(node: CNode, wide: Mapping[int, str], misfits: Mapping[int, str]) -> str | None:
    """Why ``node`` computes in float32, None where it does not."""
    if node.op in KEPT or node.op.endswith("Norm"):
        return f"{node.op} is computed in float32"
    if node.op == "Cast" and node.aval.dtype == FLOAT32:
        return "the network casts to float32"
    if node.op == "Mul" and node.inputs[0] is node.inputs[1]:
        return "Square is computed in float32"
    unfit = next((misfits[id(n)] for n in node.inputs if id(n) in misfits), None)
    if unfit is not None or node.op in PRODUCTS:
        return unfit
    widens = any(id(n) in wide and is_single(n) for n in node.inputs)
    return f"{node.op} has another input in float32" if widens else None


def results_of(node: Node) -> tuple[Aval, ...]:
    """What ``node`` gives, an operator with several results among them."""
    return node.results if isinstance(node, CNode) else (node.aval,)


def is_single(node: Node) -> bool:
    """Whether a result of ``node`` is float32."""
    return any(aval.dtype == FLOAT32 for aval in results_of(node))


def touches(node: CNode, dtype: np.dtype) -> bool:
    """Whether ``node`` takes or gives ``dtype``."""
    return any(aval.dtype == dtype for each in (node, *node.inputs) for aval in results_of(each))


def misfit(node: Node, dtype: np.dtype) -> str | None:
    """Why a known float32 value cannot be ``dtype``: it overflows, or most of it underflows."""
    value = known(node)
    if value is None or value.dtype != FLOAT32:
        return None
    finite = value[np.isfinite(value)]
    largest = float(np.max(np.abs(finite), initial=0.0))
    if not largest:
        return None
    with np.errstate(all="ignore"):
        back = finite.astype(dtype).astype(np.float32)
    if not np.isfinite(back).all():
        return f"{largest:.3g} overflows {dtype.name}"
    lost = np.linalg.norm((finite - back) / largest) / np.linalg.norm(finite / largest)
    return f"{largest:.3g} and less underflow in {dtype.name}" if lost > MOST_LOST else None


class _Rewriter:
    """What each node became so far, and the casts between the two types, each made once."""

    def __init__(self, graph: FuncGraph, plan: _Plan) -> None:
        self.plan, self.new = plan, dict[int, Node]()
        self.casts: dict[tuple[int, np.dtype], Node] = {}
        users = [node for node in graph.cnodes() if plan.type_of(node) == plan.dtype]
        self.used_narrow = {id(n) for node in users for n in node.inputs}

    def become(self, node: Node) -> Node:
        """``node`` as the plan wants it, on top of what its inputs became."""
        if not isinstance(node, CNode):
            return self._stored(node)
        if not touches(node, FLOAT32):
            return rebuilt(node, self.new)
        if node.op in ("Cast", "TupleGetItem"):  # of what there is; a type is not theirs to choose
            (source,) = (self.new[id(n)] for n in node.inputs)
            return apply(node.op, source, origin=node.origin, **node.attrs)
        dtype = self.plan.type_of(node)
        inputs = (self.typed(n, dtype) if is_single(n) else self.new[id(n)] for n in node.inputs)
        return apply(node.op, *inputs, origin=node.origin, **node.attrs)

    def _stored(self, node: Parameter | Constant) -> Node:
        """A known value in the type that the file holds."""
        if known(node) is None or not is_single(node) or id(node) in self.plan.misfits:
            return node
        large = node.aval.size * FLOAT32.itemsize > MOST_KEPT_BYTES
        if not large and id(node) not in self.used_narrow:
            return node
        found = mapped(node, lambda value: cast_value(value, self.plan.dtype))
        assert found is not None
        return found

    def typed(self, node: Node, dtype: np.dtype) -> Node:
        """What ``node`` became, as ``dtype``: where it was widened, what it was before."""
        found = self.new[id(node)]
        if found.aval.dtype == dtype:
            return found
        if isinstance(found, CNode) and found.op == "Cast" and found.inputs[0].aval.dtype == dtype:
            return found.inputs[0]
        key = id(node), dtype
        if key not in self.casts:
            origin = found.origin if isinstance(found, CNode) else NOWHERE
            self.casts[key] = apply("Cast", found, origin=origin, dtype=dtype)
        return self.casts[key]


def _rebuilt(graph: FuncGraph, plan: _Plan) -> FuncGraph:
    rewriter = _Rewriter(graph, plan)
    for node in graph.nodes():
        rewriter.new[id(node)] = rewriter.become(node)
    outputs = tuple(rewriter.typed(node, node.aval.dtype) for node in graph.outputs)
    return replace(graph, outputs=outputs)


def stored(graph: FuncGraph, dtype: str) -> FuncGraph:
    """``graph`` with each float32 weight that ``dtype`` holds exactly, stored so and cast.

    A target that computes a product in float32 alone has widened its weights by now, a copy for
    each use; runtimes do the same when they load the file.
    """
    new: dict[int, Node] = {}
    copies: dict[tuple[str, Aval], list[Parameter]] = {}
    for node in graph.nodes():
        new[id(node)] = rebuilt(node, new)
        if not isinstance(node, Parameter) or node.value is None or not is_single(node):
            continue
        equal = copies.setdefault((node.name, node.aval), [])
        first = next((p for p in equal if np.array_equal(value_of(p), node.value)), None)
        if first is None:
            equal.append(node)
            new[id(node)] = _stored(node, NARROW[dtype])
        else:
            new[id(node)] = new[id(first)]
    return replace(graph, outputs=tuple(new[id(node)] for node in graph.outputs))


def _stored(weight: Parameter, dtype: np.dtype) -> Node:
    """A large weight as ``dtype`` and widened, where that is exact."""
    value = value_of(weight)
    if value.nbytes <= MOST_KEPT_BYTES:
        return weight
    small = mapped(weight, lambda each: cast_value(each, dtype))
    assert small is not None
    exact = np.array_equal(cast_value(value_of(small), FLOAT32), value, equal_nan=True)
    return apply("Cast", small, dtype=FLOAT32) if exact else weight


def _report(graph: FuncGraph, old: FuncGraph, plan: _Plan) -> Narrowing:
    reasons: dict[str, str] = {}
    for node in old.every_node():
        for weight in inputs_of(node):
            if isinstance(weight, Parameter) and id(node) in plan.wide:
                reasons.setdefault(weight.name, plan.wide[id(node)])
    weights = graph.weights()
    own = ("Cast", "TupleGetItem", *HOLDS_GRAPHS)
    computing = [n for n in graph.every_node() if isinstance(n, CNode) and n.op not in own]
    kept = Counter(n.op for n in computing if touches(n, FLOAT32))
    narrow = [n for n in computing if touches(n, plan.dtype)]
    return Narrowing(
        dtype=plan.dtype.name,
        weights=sum(w.aval.dtype == plan.dtype for w in weights),
        kept_weights={w.name: reasons[w.name] for w in weights if is_single(w)},
        operators=len(narrow),
        kept=dict(kept.most_common()),
    )
