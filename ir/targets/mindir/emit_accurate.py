"""Functions whose kernels are coarse, right to 1e-6: computed wider, or in parts.

Measured with MindSpore 2.10.0 on the CPU over the whole domain, against JAX; docs/benchmarks.md has
the table. The older readers get the primitive itself: they have other kernels, and few of float64.
"""

import numpy as np

from fnckpt.ir.graph import Aval, CNode
from fnckpt.ir.passes.build import BOOL, FLOAT32, FLOAT64
from fnckpt.ir.targets.mindir.registry import emits
from fnckpt.ir.targets.mindir.writer import Value, Writer

NEAR_ZERO = 1e-4  # below it two terms of a series are exact to 2e-9


def of_shape(node: CNode, dtype: np.dtype) -> Aval:
    return Aval(node.aval.shape, dtype)


def is_less(node: CNode, w: Writer, x: Value, limit: float, dtype: np.dtype) -> str:
    """Where the magnitude of ``x`` is below ``limit``."""
    size = w.step("Abs", node, of_shape(node, dtype), x)
    return w.step("Less", node, of_shape(node, BOOL), size, w.scalar(limit, dtype))


@emits("Tanh")
def emit_tanh(node: CNode, w: Writer) -> None:
    """``2 * t / (1 + t * t)`` with ``t = tanh(x / 2)``: the kernel of float32 is off by up to 1e-4
    around 5, and beyond 1; there t hardly counts any more.
    """
    (x,), aval = node.inputs, node.aval
    if aval.dtype != FLOAT32 or not w.dialect.arguments:
        w.node("Tanh", node, x)
        return
    half, one = (w.scalar(number, FLOAT32) for number in (0.5, 1))
    t = w.step("Tanh", node, aval, w.step("Mul", node, aval, x, half))
    below = w.step("Add", node, aval, w.step("Square", node, aval, t), one)
    w.node("RealDiv", node, w.step("Add", node, aval, t, t), below)


@emits("Exp", "Log")
def emit_wide(node: CNode, w: Writer) -> None:
    """In double: those of float32 are off by 2e-5 and 3e-6 of the value."""
    (x,) = node.inputs
    if node.aval.dtype != FLOAT32 or not w.dialect.arguments:
        w.node(node.op, node, x)
        return
    wide = w.step("Cast", node, of_shape(node, FLOAT64), x, dst_type=FLOAT64)
    found = w.step(node.op, node, of_shape(node, FLOAT64), wide)
    w.node("Cast", node, found, dst_type=FLOAT32)


@emits("Expm1", "Log1p")
def emit_near_zero(node: CNode, w: Writer) -> None:
    """The kernels compute ``exp(x) - 1`` and ``log(1 + x)``, of which nothing is left near 0."""
    if not w.dialect.arguments:
        w.node(node.op, node, *node.inputs)
    elif node.aval.dtype == FLOAT64:
        {"Expm1": _expm1_of_double, "Log1p": _log1p_of_double}[node.op](node, w)
    else:
        _by_series(node, w)


def _by_series(node: CNode, w: Writer) -> None:
    """In double, and near 0 ``x * (1 + x / 2)`` or ``x * (1 - x / 2)``."""
    (x,), aval, dtype = node.inputs, node.aval, node.aval.dtype
    wide = w.step("Cast", node, of_shape(node, FLOAT64), x, dst_type=FLOAT64)
    found = w.step(node.op, node, of_shape(node, FLOAT64), wide)
    far = w.step("Cast", node, aval, found, dst_type=dtype)
    half = w.scalar(0.5 if node.op == "Expm1" else -0.5, dtype)
    slope = w.step("Add", node, aval, w.scalar(1, dtype), w.step("Mul", node, aval, x, half))
    near = is_less(node, w, x, NEAR_ZERO, dtype)
    w.node("Select", node, near, w.step("Mul", node, aval, x, slope), far)


def _expm1_of_double(node: CNode, w: Writer) -> None:
    """``tanh(x / 2) * (exp(x) + 1)`` for small ones."""
    (x,), aval = node.inputs, node.aval
    one, half = (w.scalar(number, FLOAT64) for number in (1, 0.5))
    power = w.step("Exp", node, aval, x)
    bent = w.step("Tanh", node, aval, w.step("Mul", node, aval, x, half))
    product = w.step("Mul", node, aval, bent, w.step("Add", node, aval, power, one))
    far = w.step("Sub", node, aval, power, one)
    w.node("Select", node, is_less(node, w, x, 1, FLOAT64), product, far)


def _log1p_of_double(node: CNode, w: Writer) -> None:
    """``log(u) * x / (u - 1)`` with ``u = 1 + x``: the rounding of ``u`` cancels in the quotient.

    Higham, Accuracy and Stability of Numerical Algorithms, section 1.14.1.
    """
    (x,), aval = node.inputs, node.aval
    one, zero = (w.scalar(number, FLOAT64) for number in (1, 0))
    u = w.step("Add", node, aval, x, one)
    rest, log = w.step("Sub", node, aval, u, one), w.step("Log", node, aval, u)
    vanishes = w.step("Equal", node, of_shape(node, BOOL), rest, zero)
    below = w.step("Select", node, aval, vanishes, one, rest)
    ratio = w.step("RealDiv", node, aval, x, below)
    product = w.step("Mul", node, aval, log, ratio)
    near = w.step("Select", node, aval, is_less(node, w, x, 1, FLOAT64), product, log)
    w.node("Select", node, vanishes, x, near)
