"""Factorizations of many columns are loops where the format has them, and written out elsewhere."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
import pytest
from jax import lax

from fnckpt.exporting.export import trace
from fnckpt.ir.border import as_complex, as_real
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.lowering.linalg import MOST_COLUMNS

COLUMNS = MOST_COLUMNS + 4
RANDOM = np.random.default_rng(0)
REAL = RANDOM.standard_normal((COLUMNS + 3, COLUMNS)).astype(np.float32)
COMPLEX = (REAL + 1j * RANDOM.standard_normal(REAL.shape)).astype(np.complex64)
BATCH = np.stack([REAL, REAL[::-1]])
GRAM = np.swapaxes(BATCH, -1, -2) @ BATCH / COLUMNS + np.eye(COLUMNS, dtype=np.float32)
HERMITIAN = COMPLEX.conj().T @ COMPLEX / COLUMNS + np.eye(COLUMNS, dtype=np.complex64)


def triangular(**options: bool) -> Callable[[jax.Array], jax.Array]:
    """Solves for three right sides, from the left or the right."""

    def solve(a: jax.Array) -> jax.Array:
        b = a[..., :3] if options["left_side"] else a[..., :3, :]
        return lax.linalg.triangular_solve(a, b, **options)

    return solve


Functions = dict[str, tuple[Callable[[jax.Array], object], np.ndarray]]

FUNCTIONS: Functions = {
    "lu": (lax.linalg.lu, REAL),
    "lu of a batch": (lax.linalg.lu, BATCH),
    "lu of complex numbers": (lax.linalg.lu, COMPLEX),
    "qr": (jnp.linalg.qr, REAL),
    "qr of a batch": (jnp.linalg.qr, BATCH),
    "qr, complete": (lambda x: jnp.linalg.qr(x, mode="complete"), REAL),
    "qr, pivoted": (lambda x: lax.linalg.qr(x, pivoting=True), REAL),
    "qr of complex numbers, pivoted": (lambda x: lax.linalg.qr(x, pivoting=True), COMPLEX),
    "cholesky of a batch": (jnp.linalg.cholesky, GRAM),
    "cholesky of complex numbers": (jnp.linalg.cholesky, HERMITIAN),
    "triangular_solve": (triangular(left_side=True, lower=True), GRAM),
    "triangular_solve, upwards": (triangular(left_side=False, lower=True), HERMITIAN),
}
LOOPS: Functions = {
    **FUNCTIONS,
    "triangular_solve, transposed": (
        triangular(left_side=True, lower=True, transpose_a=True, conjugate_a=True), HERMITIAN
    ),
    "triangular_solve, transposed from the right": (
        triangular(left_side=False, lower=True, transpose_a=True), GRAM
    ),
    "triangular_solve, unit diagonal": (
        triangular(left_side=True, lower=False, unit_diagonal=True), GRAM
    ),
    "cholesky, upper": (lambda a: jnp.linalg.cholesky(a, upper=True), GRAM[0]),
    "cholesky of what is not positive": (jnp.linalg.cholesky, -GRAM),
    "cho_solve": (lambda a: jsl.cho_solve(jsl.cho_factor(a), a[:, :2]), GRAM[0]),
    "solve, positive": (lambda a: jsl.solve(a, a[:, 0], assume_a="pos"), GRAM[0]),
    "slogdet": (jnp.linalg.slogdet, GRAM[0]),
    "inv": (jnp.linalg.inv, GRAM[0]),
    "expm": (lambda a: jsl.expm(a / 9, max_squarings=2), GRAM[0]),
}  # fmt: skip


def judge(name: str, loops: bool) -> None:
    function, x = LOOPS[name]
    graph = trace((), lambda _, y: function(y), (x,), name="factored", loops=loops)
    nodes = [node for each in graph.every_graph() for node in each.cnodes()]
    assert any(node.op == "Scan" for node in nodes) == loops
    assert not loops or len(nodes) < 300
    found = evaluate(graph, [as_real(x)])
    wanted = [np.asarray(each) for each in jax.tree.leaves(function(jnp.asarray(x)))]
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        whole = as_complex(a) if i in graph.border.outputs else a
        np.testing.assert_allclose(whole, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LOOPS)
def test_many_columns_are_a_loop_with_the_numbers_of_jax(name: str) -> None:
    judge(name, loops=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_many_columns_are_written_out_where_there_are_no_loops(name: str) -> None:
    judge(name, loops=False)


@pytest.mark.parametrize("function", [jnp.linalg.cholesky, jnp.linalg.inv])
def test_128_columns_need_no_more_nodes_than_20(function: Callable[..., jax.Array]) -> None:
    sizes = (20, 128)
    few, many = (
        trace((), lambda _, y: function(y), (np.eye(n, dtype=np.float32),), name="factored")
        for n in sizes
    )
    assert len(many.every_node()) == len(few.every_node())


def test_few_columns_are_written_out() -> None:
    x = REAL[:, :MOST_COLUMNS]
    graph = trace((), lambda _, y: jnp.linalg.qr(y), (x,), name="factored")
    assert all(node.op != "Scan" for node in graph.cnodes())
