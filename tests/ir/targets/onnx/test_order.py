"""What ONNX Runtime orders otherwise than JAX: NaN in a scatter, the signs of zeros."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from jax import lax

from tests.ir.conformance.case import Case, expected
from tests.ir.conformance.files import written
from tests.ir.targets.onnx.test_operators import computed

ROWS = np.array([[1, np.nan, -np.inf], [np.nan, 2, 3], [0, np.inf, np.nan], [4, 5, 6]], np.float32)
ZEROS = np.array([[0.0, -0.0, 1.0, -0.0, 0.0, -1.0, np.nan, 1e-45]], np.float32)

CASES = (
    Case("greatest of segments", lambda x: jax.ops.segment_max(x, jnp.array([1, 0, 1, 1]), 3),
         (ROWS,)),
    Case("least at places", lambda x: x.at[jnp.array([0, 1, 1])].min(x[1:]), (ROWS,)),
    Case("top_k of zeros", lambda x: lax.top_k(x, 8), (ZEROS,)),
    Case("top_k of narrow zeros", lambda x: lax.top_k(x, 7), (ZEROS[:, :7].astype(np.float16),)),
    Case("a choice of signs", jnp.copysign, (ZEROS[0, :6], ZEROS[0, 5::-1])),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_numbers_are_in_the_order_of_jax_and_zeros_keep_their_sign(
    case: Case, tmp_path: Path
) -> None:
    file = written(case, "ONNX", tmp_path / "case.onnx")
    for found, wanted in zip(computed(file, case.args), expected(case), strict=True):
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))


def test_a_scatter_of_numbers_has_no_guard(tmp_path: Path) -> None:
    numbers = lambda x: x.at[jnp.array([0, 1])].max(np.ones((2, 3), np.int32))  # noqa: E731
    case = Case("of integers", numbers, (np.arange(9, dtype=np.int32).reshape(3, 3),))
    file = written(case, "ONNX", tmp_path / "case.onnx")
    assert "IsNaN" not in [node.op_type for node in onnx.load(file).graph.node]
