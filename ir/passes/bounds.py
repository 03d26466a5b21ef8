"""How large numbers can be whatever the inputs are, to know what cannot overflow."""

from collections.abc import Sequence
from math import ceil, inf, sqrt

import numpy as np

from fnckpt.ir.attributes import integer, number
from fnckpt.ir.graph import CNode, Node, ordered
from fnckpt.ir.operators import moves_elements
from fnckpt.ir.passes.build import VALUES, known
from fnckpt.ir.sizes import is_known

SAFE = 1e37  # well below the greatest float32, 3.4e38, for the rounding of sums

AT_MOST_ONE = frozenset({"Cos", "Erf", "Sigmoid", "Sign", "Sin", "Softmax", "Tanh"})
NOT_GREATER = frozenset({"Abs", "AvgPool", "Gelu", "Neg", "ReduceMean", "Relu", "Silu"})
ROUNDED = frozenset({"Ceil", "Floor", "Round"})
LARGEST = frozenset({"Maximum", "Minimum", "Select"})
NORMS = frozenset({"LayerNorm", "RmsNorm"})
SUMS = frozenset({"Add", "Sub"})
PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
NEVER_NEGATIVE = frozenset(
    {"Abs", "Exp", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt", "Square"}
)
KEEPS_SIGN = ROUNDED | {"Add", "AvgPool", "Cast", "Minimum", "Mul", "ReduceMean", "ReduceSum"}


def bound(node: Node) -> float:
    """The greatest magnitude that an element can have if it is no NaN; infinity where not known.

    >>> from fnckpt.ir.graph import Aval, Parameter
    >>> from fnckpt.ir.operators import apply
    >>> x = Parameter("x", Aval((2,), np.dtype(np.float32)))
    >>> bound(x), bound(apply("Tanh", x))
    (inf, 1.0)
    """
    found: dict[int, float] = {}
    waiting = [node]
    while waiting:
        each = waiting[-1]
        missing = [n for n in _deciding(each) if id(n) not in found]
        if missing:
            waiting += missing
            continue
        inputs = each.inputs if isinstance(each, CNode) else ()
        found[id(each)] = _bound(each, [found.get(id(n), inf) for n in inputs])
        waiting.pop()
    return found[id(node)]


def _deciding(node: Node) -> Sequence[Node]:
    """The inputs that decide how large a result can be; not what a norm is of."""
    if not isinstance(node, CNode) or node.op in AT_MOST_ONE or node.op == "Clip":
        return ()
    return node.inputs[1:] if node.op in NORMS else node.inputs


def stays_finite(product: CNode, factor: np.ndarray) -> bool:
    """Whether neither ``product`` nor it times ``factor`` can overflow, whatever the input is."""
    return bool(bound(product) * max(1.0, float(np.max(np.abs(factor), initial=0.0))) < SAFE)


def _bound(node: Node, inputs: Sequence[float]) -> float:
    value = known(node)
    if value is not None:
        return float(np.max(np.abs(value.astype(np.float64)), initial=0.0))
    if isinstance(node, CNode) and len(node.results) > 1:
        return inf
    if node.aval.dtype.kind in "biu":
        return 2.0 ** (8 * node.aval.dtype.itemsize)
    return _computed(node, inputs) if isinstance(node, CNode) else inf


def _computed(node: CNode, inputs: Sequence[float]) -> float:
    """Of an operator of floats whose inputs are bounded by ``inputs``."""
    if node.op in AT_MOST_ONE:
        return 1.0
    if node.op in NOT_GREATER:
        return inputs[0]
    if node.op in ROUNDED:
        return float(ceil(inputs[0])) if inputs[0] < inf else inf
    if node.op in SUMS:
        return sum(inputs)
    if node.op == "Mul":
        return inputs[0] * inputs[1] if 0.0 not in inputs else inf if inf in inputs else 0.0
    if node.op == "Div":
        least = _least(node.inputs[1])
        return inputs[0] / least if least else inf
    if node.op == "Attention":  # a mean of its values
        return inputs[2]
    if node.op == "Clip":
        return max(abs(number(node, "low")), abs(number(node, "high")))
    if node.op == "LayerNorm":  # one of n numbers is at most sqrt(n) of their deviations away
        return sqrt(node.aval.shape[-1]) * inputs[1] + inputs[2]
    if node.op == "RmsNorm":
        return sqrt(node.aval.shape[integer(node, "axis")]) * inputs[1]
    if node.op in PRODUCTS:
        return inputs[0] * _row_sums(node, inputs[1]) + sum(inputs[2:])
    if node.op in LARGEST or node.op == "Cast" or moves_elements(node):
        floats = zip(inputs, node.inputs, strict=True)
        of_values = [b for b, n in floats if n.aval.dtype.kind not in "biu" or node.op == "Cast"]
        return max(of_values, default=inf)
    return inf


def never_negative(node: Node) -> bool:
    """Whether no element can be below 0, whatever the inputs are; it may be NaN."""
    found: dict[int, bool] = {}
    for each in ordered([node]):
        inputs = each.inputs if isinstance(each, CNode) else ()
        found[id(each)] = _never_negative(each, [found[id(n)] for n in inputs])
    return found[id(node)]


def _never_negative(node: Node, inputs: Sequence[bool]) -> bool:
    if not isinstance(node, CNode):
        value = known(node)
        return value is not None and value.dtype.kind != "c" and not bool(np.any(value < 0))
    if len(node.results) > 1 or node.aval.dtype.kind in "biu":
        return len(node.results) == 1 and node.aval.dtype.kind != "i"  # which wraps around
    if node.op in NEVER_NEGATIVE:
        return True
    if node.op == "Maximum":
        return any(inputs)
    if node.op == "Clip":
        return number(node, "low") >= 0
    if node.op in KEEPS_SIGN or node.op == "Select" or moves_elements(node):
        return all(inputs[place] for place in VALUES.get(node.op, range(len(inputs))))
    return False


def _least(divisor: Node) -> float:
    """The least magnitude of a known divisor, 0 of another."""
    value = known(divisor)
    return 0.0 if value is None else float(np.min(np.abs(value.astype(np.float64)), initial=inf))


def _row_sums(product: CNode, largest: float) -> float:
    """By how much a product with known weights can enlarge the greatest number."""
    value = known(product.inputs[1])
    if value is None:
        inner = product.inputs[0].aval.shape[-2 if product.attrs.get("transpose_a") else -1]
        return largest * inner if product.op == "MatMul" and is_known(inner) else inf
    sizes = np.abs(value.astype(np.float64))
    if product.op == "Conv":
        sums = sizes.sum(tuple(range(1, sizes.ndim)))
    else:
        sums = sizes.sum(-1 if product.attrs["transpose_b"] else -2)
    return float(np.max(sums, initial=0.0))
