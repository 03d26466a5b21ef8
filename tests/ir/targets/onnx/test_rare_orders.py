"""Orders of many numbers, with and without NaN: as JAX, from one file, and back again."""

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

import fnckpt
from fnckpt.importing.load import load_graph
from fnckpt.ir.lowering import compat
from fnckpt.ir.targets import target

ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 3.4028235e38, -3.4028235e38, 65504.0, -65504.0, 1.0]
RANDOM = np.random.default_rng(0)
Function = Callable[..., Any]


def drawn(*values: float) -> np.ndarray:
    """Normal numbers, rounded so that some are equal, and a third of them is one of ``values``."""
    x = np.round(RANDOM.standard_normal((5, 600)), 2)
    return np.where(RANDOM.random(x.shape) < 1 / 3, RANDOM.choice(values, x.shape), x)


INPUTS = {
    "numbers": drawn(0.5),
    "all that is odd": drawn(*ODD),
    "one NaN, the last": np.append(drawn(0.5)[:, :-1], np.full((5, 1), np.nan), axis=1),
    "NaN alone": np.full((5, 600), np.nan),
    "both zeros": drawn(0.0, -0.0),
    "negative zeros": -np.abs(np.round(drawn(-0.0), 1)),
    "both infinities": drawn(np.inf, -np.inf),
    "the greatest": drawn(3.4028235e38, np.inf),
}
ORDERS: dict[str, Function] = {
    "argmax": lambda x: jnp.argmax(x, 1),
    "argmin": lambda x: jnp.argmin(x, 0),
    "argmax of all": jnp.argmax,
    "top_k": lambda x: jax.lax.top_k(x, 7),
    "top_k of all": lambda x: jax.lax.top_k(x.reshape(-1), 700),
    "values of top_k": lambda x: jax.lax.top_k(x, 7)[0],
    "values of top_k of all": lambda x: jax.lax.top_k(x.reshape(-1), 7)[0],
    "values of top_k, with others at their places": lambda x: (
        (best := jax.lax.top_k(x.reshape(-1), 7))[0],
        jnp.floor(x).reshape(-1)[best[1]],
    ),
    "what is below the best 7": lambda x: jnp.where(x < jax.lax.top_k(x, 7)[0][:, -1:], 0, x),
    "the seventh": lambda x: jax.lax.top_k(x, 7)[0][:, -1],
    "the seventh of all": lambda x: jax.lax.top_k(x.reshape(-1), 7)[0][6],
    "the fifth row of five": lambda x: jax.lax.top_k(x, 5)[0][4],
    "columns at the places of all rows": lambda x: x[:, jax.lax.top_k(x, 2)[1]],
    "the sixth of seven": lambda x: jax.lax.top_k(x, 7)[0][:, 5],
    "the seventh of some rows": lambda x: jax.lax.top_k(x, 7)[0][:3, 6:],
    "sort": lambda x: jnp.sort(x, 1),
    "argsort along the first axis": lambda x: jnp.argsort(x, 0),
    "argsort, descending": lambda x: jnp.argsort(x, descending=True),
    "ranks": lambda x: jnp.argsort(jnp.argsort(x)),
    "median": lambda x: jnp.median(x, axis=1),
    "lexsort": lambda x: jnp.lexsort((x, jnp.round(x))),
    "in a loop": lambda x: jax.lax.map(lambda row: jnp.argmax(jnp.outer(row[:40], row), 1), x),
    "two of one": lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 1), jnp.sort(x, 1)),
}


def exported(function: Function, x: np.ndarray, path: Path, **options: Any) -> Any:
    return fnckpt.export({}, lambda _, x: function(x), x, "ONNX", file_name=path, **options)


def operators(file: Any) -> Counter[str]:
    return Counter(node.op for node in target("ONNX").summarize(file.path).every_node())


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("name", ORDERS)
def test_orders_of_many_numbers_are_those_of_jax_whether_one_is_nan_or_not(
    name: str, dtype: str, tmp_path: Path
) -> None:
    function = ORDERS[name]
    with compat.enable_x64() if dtype == "float64" else nullcontext():
        file = exported(function, INPUTS["numbers"].astype(dtype), tmp_path / "net")
        assert operators(file)["If"] > 0
        for x in (each.astype(dtype) for each in INPUTS.values()):
            for found, wanted in zip(
                jax.tree.leaves(fnckpt.run(file, x)), jax.tree.leaves(function(x)), strict=True
            ):
                np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", ORDERS)
def test_what_is_read_again_has_no_branch_and_the_second_file_the_same_operators(
    name: str, tmp_path: Path
) -> None:
    x = INPUTS["all that is odd"].astype(np.float32)
    file = exported(ORDERS[name], x, tmp_path / "net")
    params, apply_fn = load_graph(file)
    assert "cond" not in str(jax.make_jaxpr(apply_fn)(params, x))
    for found, wanted in zip(
        jax.tree.leaves(apply_fn(params, x)), jax.tree.leaves(ORDERS[name](x)), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    again = fnckpt.export(params, apply_fn, x, "ONNX", file_name=tmp_path / "again")
    assert operators(again) == operators(file)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("values of top_k", ["TopK", "Cast"]),
        ("the seventh", ["TopK", "Cast", "ReduceMin"]),
        ("the seventh of all", ["TopK", "Cast", "ReduceMin"]),
        ("what is below the best 7", ["TopK", "Cast", "ReduceMin"]),
        ("the sixth of seven", ["TopK", "Cast"]),
        ("the seventh of some rows", ["TopK", "Cast"]),
    ],
)
def test_the_branch_without_nan_has_no_more_than_it_needs(
    name: str, wanted: list[str], tmp_path: Path
) -> None:
    file = exported(ORDERS[name], INPUTS["numbers"].astype(np.float32), tmp_path / "net")
    nodes = onnx.load(str(file.path)).graph.node
    (chosen,) = (node for node in nodes if node.op_type == "If")
    plain = min(([each.op_type for each in a.g.node] for a in chosen.attribute), key=len)
    assert plain == wanted


@pytest.mark.parametrize("name", ["argmax", "sort", "top_k"])
def test_few_numbers_and_fast_math_need_no_branch(name: str, tmp_path: Path) -> None:
    x = INPUTS["numbers"].astype(np.float32)
    few = exported(ORDERS[name], x[:, :200], tmp_path / "few")
    assert operators(few)["If"] == 0
    if name != "sort":  # whose key is no guard: integers have one too
        fast = exported(ORDERS[name], x, tmp_path / "fast", fast_math=True)
        assert operators(fast)["If"] == 0


def clipped(x: jax.Array, most: float) -> jax.Array:
    """What looks like a key, but has equal numbers where ``x`` has not."""
    return jnp.where(jnp.isnan(x), jnp.inf, jnp.minimum(x * 0.5, most))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.argmax(clipped(x, 0.25), 1),
        lambda x: jnp.argmax(jnp.where(jnp.isnan(x), jnp.inf, jnp.minimum(x + x[::-1], 3.4e38)), 1),
        lambda x: jnp.argmin(jnp.where(jnp.isnan(x), -jnp.inf, jnp.maximum(x * 0.5, -0.25)), 1),
        lambda x: jnp.argmax(jnp.where(jnp.isnan(x), -jnp.inf, x * 0.5), 1),
        lambda x: jnp.argmax(jnp.where(jnp.isnan(x), 0, jnp.floor(x).astype(jnp.int32))[:, :99], 1),
        lambda x: jnp.argmax(jnp.where(jnp.isnan(x), 0, jnp.minimum(x.astype(int), 7))[:, :99], 1),
    ],
)
def test_what_a_user_does_with_nan_is_no_key(function: Function, tmp_path: Path) -> None:
    x = INPUTS["numbers"].astype(np.float32)
    file = exported(function, x, tmp_path / "net")
    (found,) = fnckpt.run(file, x)
    np.testing.assert_array_equal(found, function(x))
