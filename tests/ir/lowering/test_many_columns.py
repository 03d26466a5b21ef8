"""Factorizations of many columns are loops where the format has them, and written out elsewhere."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
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

FUNCTIONS: dict[str, tuple[Callable[[jax.Array], object], np.ndarray]] = {
    "lu": (lax.linalg.lu, REAL),
    "lu of a batch": (lax.linalg.lu, BATCH),
    "lu of complex numbers": (lax.linalg.lu, COMPLEX),
    "qr": (jnp.linalg.qr, REAL),
    "qr of a batch": (jnp.linalg.qr, BATCH),
    "qr, complete": (lambda x: jnp.linalg.qr(x, mode="complete"), REAL),
}


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_many_columns_are_factored_as_by_jax(name: str, loops: bool) -> None:
    function, x = FUNCTIONS[name]
    graph = trace((), lambda _, y: function(y), (x,), name="factored", loops=loops)
    assert any(node.op == "Scan" for node in graph.cnodes()) == loops
    assert (len(graph.cnodes()) < 300) == loops
    found = evaluate(graph, [as_real(x)])
    wanted = [np.asarray(each) for each in jax.tree.leaves(function(jnp.asarray(x)))]
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        whole = as_complex(a) if i in graph.border.outputs else a
        np.testing.assert_allclose(whole, b, rtol=1e-4, atol=1e-4)


def test_few_columns_are_written_out() -> None:
    x = REAL[:, :MOST_COLUMNS]
    graph = trace((), lambda _, y: jnp.linalg.qr(y), (x,), name="factored")
    assert all(node.op != "Scan" for node in graph.cnodes())
