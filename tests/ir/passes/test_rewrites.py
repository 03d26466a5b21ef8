"""Each rewrite: the graph that must be left, the graph it must leave alone, equal numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import Aval, FuncGraph, Node, Parameter
from fnckpt.ir.operators import apply, constant
from fnckpt.ir.passes import layout, reshape
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.rewrite import rewrite

RNG = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@dataclass(frozen=True)
class Rewritten:
    """A function of weights and inputs, and the operators that are left of it."""

    name: str
    function: Callable[..., jax.Array]
    inputs: tuple[np.ndarray, ...]
    left: str
    weights: tuple[np.ndarray, ...] = ()


X, Y, V = numbers(2, 3, 4), numbers(2, 3, 4), np.abs(numbers(4))

CASES = [
    Rewritten(
        "two transposes cancel", lambda w, x: x.transpose(1, 0, 2).transpose(1, 0, 2), (X,), ""
    ),
    Rewritten(
        "two transposes merge",
        lambda w, x: x.transpose(1, 0, 2).transpose(2, 0, 1),
        (X,),
        "Transpose",
    ),
    Rewritten(
        "a transpose of ones is a reshape",
        lambda w, x: x[:, None].transpose(1, 0, 2, 3),
        (X,),
        "Reshape",
    ),
    Rewritten(
        "a sum of integers in a wider type is one in their own",
        lambda w, x: x.astype(jnp.int32).sum(0).astype(jnp.int16),
        ((100 * X).astype(np.int16),),
        "ReduceSum",
    ),
    Rewritten(
        "what is moved in a wider type is moved in its own",
        lambda w, x: jnp.pad((x > 0).astype(jnp.int8), 1, constant_values=1).astype(bool),
        (X,),
        "Greater Pad",
    ),
    Rewritten(
        "what a pad adds may not fit into a narrower type",
        lambda w, x: jnp.pad((x > 0).astype(jnp.int8), 1, constant_values=2).astype(bool),
        (X,),
        "Greater Cast Pad Cast",
    ),
    Rewritten(
        "a choice between a boolean and false is both",
        lambda w, x, y: jnp.where(x > 0, y > 0, False),
        (X, Y),
        "Greater Greater LogicalAnd",
    ),
    Rewritten(
        "a choice between true and a boolean is either",
        lambda w, x, y: jnp.where(x > 0, True, y > 0),
        (X, Y),
        "Greater Greater LogicalOr",
    ),
    Rewritten(
        "nothing is equal to NaN",
        lambda w, x: jnp.where((x == np.nan) | (x > 1), x, jnp.sin(x)),
        (X,),
        "Greater Sin Select",
    ),
    Rewritten(
        "a slice that begins at a known place has known ends",
        lambda w, x: jax.lax.fori_loop(1, 2, lambda i, v: v + x[i], x[0]),
        (X,),
        "Slice Slice Add Reshape",
    ),
    Rewritten("reshapes merge", lambda w, x: x.reshape(6, 4).reshape(4, 6), (X,), "Reshape"),
    Rewritten(
        "a transposed weight is transposed at export",
        lambda w, x: x + w[0].T,
        (numbers(4, 2),),
        "Add",
        (numbers(2, 4),),
    ),
    Rewritten(
        "a transpose passes elementwise operators",
        lambda w, x, y: (jnp.sin(x.transpose(2, 0, 1)) + y.transpose(2, 0, 1)).transpose(1, 2, 0),
        (X, Y),
        "Sin Add",
    ),
    Rewritten(
        "a transpose passes a reduction",
        lambda w, x: x.transpose(2, 0, 1).sum(0),
        (X,),
        "ReduceSum",
    ),
    Rewritten(
        "a transpose stays before an unlike input",
        lambda w, x, y: x.transpose(0, 2, 1) + y,
        (X, numbers(2, 4, 3)),
        "Transpose Add",
    ),
    Rewritten(
        "a broadcast is left to the operator",
        lambda w, x, y: x + jnp.broadcast_to(y, x.shape),
        (X, V),
        "Add",
    ),
    Rewritten(
        "equal expressions are computed once", lambda w, x: jnp.sin(x) * jnp.sin(x), (X,), "Sin Mul"
    ),
    Rewritten("constants are folded", lambda w, x: x * jnp.sqrt(4.0), (X,), "Mul"),
    Rewritten("a quotient by a power of two is a product", lambda w, x: x / -0.25, (X,), "Mul"),
    Rewritten("a quotient by another number stays", lambda w, x: x / 3.0, (X,), "Div"),
    Rewritten(
        "a quotient whose factor is no normal number stays", lambda w, x: x / 2.0**127, (X,), "Div"
    ),
    Rewritten(
        "a product of nothing is nothing",
        lambda w, x: jnp.zeros((3, 5)) @ w[0] + x,
        (X,),
        "Add",
        (numbers(5, 4),),
    ),
    Rewritten(
        "a product of nothing with infinity stays",
        lambda w, x: jnp.sin(jnp.zeros((3, 5)) @ w[0] + x),
        (X,),
        "MatMul Add Sin",
        (np.full((5, 4), np.inf, np.float32),),
    ),
    Rewritten(
        "the sign in a remainder by a number is asked for once",
        lambda w, x: x % 6.0,
        (X,),
        "Rem Less Add Select",
    ),
    Rewritten(
        "products over one element are no matrices",
        lambda w, x, y: jnp.einsum("abc,abcd->abcd", x, y),
        (X, numbers(2, 3, 4, 5)),
        "Reshape Mul",
    ),
    Rewritten(
        "columns by rows are matrices",
        lambda w, x, y: x[..., None] @ y[..., None, :],
        (X, Y),
        "Reshape Reshape MatMul",
    ),
    Rewritten("a minus of a minus is nothing", lambda w, x: -jnp.negative(x), (X,), ""),
    Rewritten("a minus is added", lambda w, x, y: x - (-y), (X, Y), "Add"),
    Rewritten("a minus is subtracted", lambda w, x, y: -x + y, (X, Y), "Sub"),
    Rewritten("the minus of both factors", lambda w, x, y: -x * -y, (X, Y), "Mul"),
    Rewritten("the minus of both in a quotient", lambda w, x, y: -x / -y, (X, Y), "Div"),
    Rewritten("a minus goes into a factor", lambda w, x: -(3 * x), (X,), "Mul"),
    Rewritten("a minus goes into a divisor", lambda w, x: -x / 3, (X,), "Div"),
    Rewritten("a minus goes into what is divided", lambda w, x: -(3 / x), (X,), "Div"),
    Rewritten("a magnitude has no minus", lambda w, x: abs(-x), (X,), "Abs"),
    Rewritten("the minus of a difference stays", lambda w, x, y: -(x - y), (X, Y), "Sub Neg"),
    Rewritten(
        "the minus of an integer quotient stays",
        lambda w, x: jax.lax.div(-x, -(x * x)),
        (np.arange(1, 9, dtype=np.int32),),
        "Neg Mul Neg Div",
    ),
    Rewritten("softmax", lambda w, x: jax.nn.softmax(x, 1), (X,), "Softmax"),
    Rewritten("log_softmax", lambda w, x: jax.nn.log_softmax(x), (X,), "LogSoftmax"),
    Rewritten("silu", lambda w, x: jax.nn.silu(x), (X,), "Silu"),
    Rewritten("gelu by tanh", lambda w, x: jax.nn.gelu(x), (X,), "Gelu"),
    Rewritten("gelu by erfc", lambda w, x: jax.nn.gelu(x, approximate=False), (X,), "Gelu"),
    Rewritten("relu", lambda w, x: jax.nn.relu(x), (X,), "Relu"),
    Rewritten(
        "an integer maximum is no relu",
        lambda w, x: jnp.maximum(x, 0),
        (X.astype(np.int32),),
        "Maximum",
    ),
    Rewritten("mean", lambda w, x: x.mean(1), (X,), "ReduceMean"),
    Rewritten(
        "reductions that are joined have lost their axes",
        lambda w, x, y: 2 * x.mean() + y.sum(),
        (X, Y),
        "ReduceMean Mul ReduceSum Add",
    ),
    Rewritten(
        "a sum over another number is no mean", lambda w, x: x.sum(1) / 5, (X,), "ReduceSum Div"
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_operators_that_are_left_are_the_ones_meant(case: Rewritten) -> None:
    graph = trace(case.weights, case.function, case.inputs, name="case")
    after = optimized(graph, debug=True)
    assert " ".join(node.op for node in after.cnodes()) == case.left
    (before,), (found,) = evaluate(graph, case.inputs), evaluate(after, case.inputs)
    np.testing.assert_allclose(found, before, rtol=1e-5, atol=1e-5)
    again = optimized(after, debug=True)
    assert [(n.op, n.attrs) for n in again.cnodes()] == [(n.op, n.attrs) for n in after.cnodes()]


def test_a_node_with_other_users_is_not_computed_twice() -> None:
    def net(weights: list, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = jax.lax.conv(x, weights[0], (1, 1), "SAME")
        return y + weights[1], jnp.sin(y)

    weights = [numbers(5, 3, 3, 3), numbers(5, 1, 1)]
    graph = optimized(trace(weights, net, (numbers(1, 3, 4, 4),), name="net"))
    assert [node.op for node in graph.cnodes()].count("Conv") == 1


def test_rules_that_never_end_are_told_by_name() -> None:
    def swap(root: Node, a: Node, b: Node) -> Node:
        return apply("Add", b, a)

    from fnckpt.ir.passes.rewrite import Any_, Op, rewrites

    rule = rewrites(Op("Add", Any_("a"), Any_("b")))(swap)
    x = Parameter("x", Aval((2,), np.dtype(np.float32)))
    graph = FuncGraph("net", (x,), (apply("Add", x, constant(np.ones(2, np.float32))),), ("y",))
    with pytest.raises(AssertionError, match="rewrite a Add of net without end"):
        rewrite(graph, [rule])


@settings(deadline=None)
@given(st.permutations(range(4)), st.permutations(range(4)), st.tuples(*[st.integers(1, 3)] * 4))
def test_moving_elements_never_changes_them(
    first: list[int], second: list[int], shape: tuple[int, ...]
) -> None:
    value = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    x = Parameter("x", Aval(shape, value.dtype))
    moved = apply("Transpose", apply("Transpose", x, perm=tuple(first)), perm=tuple(second))
    graph = FuncGraph("net", (x,), (apply("Reshape", moved, shape=(value.size,)),), ("y",))
    after = rewrite(graph, reshape.RULES)
    np.testing.assert_array_equal(evaluate(after, [value])[0], evaluate(graph, [value])[0])
    assert len(after.cnodes()) <= 3


@settings(max_examples=50, deadline=None)
@given(
    st.permutations(range(4)),
    st.tuples(*[st.integers(0, 3)] * 4),
    st.sampled_from(["split", "join", "ones", "flat"]),
)
def test_a_reshape_passes_a_transpose_or_stays(
    perm: list[int], shape: tuple[int, ...], kind: str
) -> None:
    value = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    x = Parameter("x", Aval(shape, value.dtype))
    turned = apply("Transpose", x, perm=tuple(perm))
    a, b, c, d = turned.aval.shape
    target = {
        "split": (a, b, c, *((d, 1) if d % 2 else (d // 2, 2))),
        "join": (a, b * c, d),
        "ones": (a, 1, b, c, 1, d),
        "flat": (a * b * c * d,),
    }[kind]
    graph = FuncGraph("net", (x,), (apply("Reshape", turned, shape=target),), ("y",))
    after = rewrite(graph, (*reshape.RULES, *layout.RULES))
    np.testing.assert_array_equal(evaluate(after, [value])[0], evaluate(graph, [value])[0])
    assert len(after.cnodes()) <= 2
