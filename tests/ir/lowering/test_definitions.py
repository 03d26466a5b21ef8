"""A primitive that has no rule is replaced by its own definition, or refused with the way out."""

from collections.abc import Callable

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, random
from jax.core import ShapedArray
from jax.experimental import sparse
from jax.extend.core import Primitive

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import CNode, ordered
from fnckpt.ir.lowering import NotLowered

X = np.arange(6, dtype=np.float32).reshape(2, 3)
PLACES = jnp.array([[0, 1], [1, 2], [2, 0]])


ROWS = sparse.BCSR.fromdense(np.eye(3, k=1, dtype=np.float32))


def matrix(values: Array) -> sparse.BCOO:
    return sparse.BCOO((values, PLACES), shape=(3, 3))


twice = Primitive("twice")
twice.def_impl(lambda x, *, factor: x * factor)
twice.def_abstract_eval(lambda x, *, factor: x)

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "a primitive of the user": lambda x: twice.bind(x, factor=2),
    "unvmap_any": lambda x: jnp.where(eqxi.unvmap_any(x > 3), x, -x),
    "unvmap_any under vmap": jax.vmap(lambda r: jnp.where(eqxi.unvmap_any(r > 3), r, -r)),
    "unvmap_max": lambda x: eqxi.unvmap_max(x.astype(np.int32)),
    "noinline": lambda x: eqxi.noinline(lambda y: jnp.sin(y) * 2)(x),
    "noinline under vmap": jax.vmap(eqxi.noinline(lambda y: jnp.sin(y) * 2)),
    "nontraceable": lambda x: eqxi.nontraceable(x) + 1,
    "nondifferentiable": lambda x: eqxi.nondifferentiable(x) + 1,
    "scan with buffers": lambda x: eqxi.scan(
        lambda c, r: (c + r, c * r), x[0], x, kind="checkpointed", checkpoints="all"
    )[1],
    "filter_checkpoint": eqx.filter_checkpoint(jnp.sin),
    "BCOO by a vector": lambda x: matrix(x[0]) @ x[1],
    "BCOO by a matrix": lambda x: matrix(x[0]) @ x.T,
    "BCOO and BCOO": lambda x: (matrix(x[0]) + matrix(x[1])).todense(),
    "BCOO by BCOO": lambda x: (matrix(x[0]) @ matrix(x[1])).todense(),
    "BCOO times a row": lambda x: (matrix(x[0]) * x[1]).todense(),
    "BCOO transposed": lambda x: sparse.bcoo_transpose(matrix(x[0]), permutation=(1, 0)).todense(),
    "BCOO summed": lambda x: sparse.bcoo_reduce_sum(matrix(x[0]), axes=(0,)).todense(),
    "sparsify": lambda x: sparse.sparsify(lambda a, b: a @ b + 1.0)(matrix(x[0]), x.T),
    "BCOO sorted": lambda x: matrix(x[0]).sort_indices().data,
    "BCSR by a vector": lambda x: ROWS @ x[0],
    "error_if": lambda x: eqx.error_if(x, x.sum() > 100, "too great"),
    "error_if under vmap": jax.vmap(lambda r: eqx.error_if(r, r > 100, "too great")),
    "branched_error_if": lambda x: eqx.branched_error_if(x, x[0, 0] > 9, 1, ["this", "that"]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_primitive_without_a_rule_is_computed_by_its_definition(name: str) -> None:
    function = FUNCTIONS[name]
    (found,) = evaluate(trace((), lambda _, x: function(x), (X,), name="net"), [X])
    np.testing.assert_allclose(found, function(jnp.asarray(X)), rtol=1e-6)


def test_an_error_that_a_file_cannot_raise_is_left_out_and_told() -> None:
    checked = lambda _, x: eqx.error_if(x, x.sum() > 100, "too great") * 2  # noqa: E731
    graph = trace((), checked, (X,), name="net")
    assert [line.partition(":")[0] for line in graph.left_out] == ["pure_callback"]
    assert "test_definitions.py" in graph.left_out[0]
    assert [node.op for node in ordered(graph.outputs) if isinstance(node, CNode)] == ["Mul"]


opaque = Primitive("opaque")
opaque.def_impl(lambda x: np.asarray(x) * 2)
opaque.def_abstract_eval(lambda x: x)


@pytest.mark.parametrize("name", ["nothing but shapes", "NumPy"])
def test_what_cannot_be_traced_is_refused_and_the_way_out_named(name: str) -> None:
    shapes_only = Primitive("opaque")
    shapes_only.def_abstract_eval(lambda x: x)
    primitive = opaque if name == "NumPy" else shapes_only
    with pytest.raises(NotLowered, match=r"JAX cannot trace its own definition.*docs/adding.md"):
        trace((), lambda _, x: primitive.bind(x), (X,), name="net")


def test_a_primitive_of_keys_is_computed_by_its_definition_too() -> None:
    drawn = Primitive("drawn")
    drawn.def_impl(lambda key: random.normal(key, (3,)))
    drawn.def_abstract_eval(lambda key: ShapedArray((3,), np.dtype(np.float32)))
    key = random.key(4)
    graph = trace((), lambda _, k: drawn.bind(k), (key,), name="net")
    (found,) = evaluate(graph, [np.asarray(random.key_data(key))])
    np.testing.assert_allclose(found, random.normal(key, (3,)), rtol=1e-6, atol=1e-6)
