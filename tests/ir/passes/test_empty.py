"""Parts without elements: ONNX Runtime repeats once what is to be repeated no times."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt

X = np.arange(12, dtype=np.float32).reshape(3, 4)
CASES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "an edge repeated no times": lambda x: jnp.pad(x, ((0, 0), (1, 2)), mode="edge"),
    "repeated no times": lambda x: jnp.broadcast_to(x[:1], (0, 4)).sum() + x,
    "joined with what is empty": lambda x: jnp.concatenate([x[:0], x, jnp.zeros((0, 4))]),
}


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_onnx_runtime_gives_jax_numbers_of_what_is_empty(
    name: str, optimize: bool, tmp_path: Path
) -> None:
    call = CASES[name]
    result = fnckpt.export(
        {}, lambda _, x: call(x), (X,), "ONNX", file_name=tmp_path / "empty", optimize=optimize
    )
    (found,) = fnckpt.run(result, [X])
    np.testing.assert_array_equal(found, np.asarray(call(jnp.asarray(X))))
