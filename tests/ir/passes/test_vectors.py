"""Many small products with vectors: element by element, and the same when they come back."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest

import fnckpt
from fnckpt.importing.load import load_graph

RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def of_einsum(text: str) -> Callable[..., jax.Array]:
    return lambda *arrays: jnp.einsum(text, *arrays)


# The function, its inputs, and whether it is a MatMul still.
CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...], bool]] = {
    "3 x 3": (of_einsum("bij,bj->bi"), (normal(128, 3, 3), normal(128, 3)), False),
    "turned": (of_einsum("bji,bj->bi"), (normal(128, 3, 3), normal(128, 3)), False),
    "2 x 4": (of_einsum("bij,bj->bi"), (normal(128, 2, 4), normal(128, 4)), False),
    "two batches": (of_einsum("abij,abj->abi"), (normal(8, 16, 3, 3), normal(8, 16, 3)), False),
    "dots": (of_einsum("bi,bi->b"), (normal(64, 50), normal(64, 50)), False),
    "bilinear": (of_einsum("bi,ij,bj->b"), (normal(64, 9), normal(9, 9), normal(64, 9)), False),
    "one dot": (lambda a, b: a @ b, (normal(50), normal(50)), False),
    "few": (of_einsum("bij,bj->bi"), (normal(8, 3, 3), normal(8, 3)), True),
    "8 x 8": (of_einsum("bij,bj->bi"), (normal(128, 8, 8), normal(128, 8)), False),
    "larger": (of_einsum("bij,bj->bi"), (normal(128, 9, 9), normal(128, 9)), True),
    "of matrices": (of_einsum("bij,bjk->bik"), (normal(128, 3, 3), normal(128, 3, 3)), False),
    "of turned ones": (of_einsum("bij,bkj->bik"), (normal(64, 2, 4), normal(64, 3, 4)), False),
    "both turned": (of_einsum("bji,bkj->bki"), (normal(64, 3, 2), normal(64, 4, 3)), False),
    "outer products": (of_einsum("bi,bj->bij"), (normal(64, 3), normal(64, 4)), False),
    "of larger matrices": (of_einsum("bij,bjk->bik"), (normal(99, 5, 5), normal(99, 5, 5)), True),
    "one vector": (of_einsum("bij,j->bi"), (normal(128, 3, 3), normal(3)), True),
}  # fmt: skip


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("name", CASES)
def test_a_product_with_vectors_is_as_in_jax(name: str, tmp_path: Path) -> None:
    call, inputs, stays = CASES[name]
    file = fnckpt.export(
        {}, lambda _, *args: call(*args), inputs, "ONNX", file_name=tmp_path / "net"
    )
    found = operators(file.path)
    assert (found["MatMul"] + found["Gemm"] > found["Mul"]) == stays
    session = onnxruntime.InferenceSession(str(file.path), providers=["CPUExecutionProvider"])
    feed = {each.name: x for each, x in zip(session.get_inputs(), inputs, strict=True)}
    (found_there,) = session.run(None, feed)
    wanted = call(*inputs)
    np.testing.assert_allclose(np.asarray(found_there), wanted, rtol=1e-4, atol=1e-5)
    params, again = load_graph(file)
    np.testing.assert_allclose(again(params, *inputs), wanted, rtol=1e-4, atol=1e-5)
    second = fnckpt.export(params, again, inputs, "ONNX", file_name=tmp_path / "again")
    assert not operators(second.path) - found
