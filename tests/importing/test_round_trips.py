"""Graphs to files and back: the same numbers, and no node more when they are written again."""

from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.importing.load import load_graph
from fnckpt.ir.lowering import compat
from fnckpt.ir.targets import target
from tests.importing.test_load import X, net, weights
from tests.ir.conformance.case import Case, assert_close, expected
from tests.ir.conformance.files import LOWERED, inputs_of, written
from tests.ir.conformance.limits import DIFFERS, REFUSED, listed

Tree = dict[str, np.ndarray]
Array = np.ndarray | jax.Array

FORMATS = ("ONNX", "MINDIR", "AIR")
STEP = 150  # days until every case had its turn
EDGES = "div: edges of float32"  # where compiled quotients differ from those of equal shapes
TURN = [c for i, c in enumerate(LOWERED)
        if i % STEP == date.today().toordinal() % STEP or c.name == EDGES]  # fmt: skip


def is_limited(case: Case, file_format: str) -> bool:
    tables = (REFUSED, DIFFERS)
    return file_format in case.cannot or any(listed(t, file_format, case.name) for t in tables)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("case", TURN, ids=lambda case: case.id)
def test_a_case_computes_the_same_when_it_comes_back(
    case: Case, file_format: str, tmp_path: Path
) -> None:
    if is_limited(case, file_format):
        return  # tested by the conformance of the format
    wanted = expected(case)
    path = written(case, file_format, tmp_path / f"net{target(file_format).suffix}")
    with compat.enable_x64():
        params, apply_fn = load_graph(path)
        found = apply_fn(params, *inputs_of(case))
    arrays = found if isinstance(found, tuple) else (found,)
    assert_close(case, [np.asarray(each) for each in arrays], wanted)


# Guards of ours: against JAX's division by 0, casts that saturate, places that are clamped.
GUARDED = {
    "ONNX": ("convert: float32 to int32 saturates", "convert: float16 to int64",
             "read take, wrap: inside", "shift_right_logical: edges of int8",
             "write dynamic_update_index_in_dim: inside"),
    "MINDIR": ("shift_right_logical: edges of int8", "read take, wrap: inside", "lgamma: float64"),
    "AIR": ("logistic: float16", "div: edges of int16", "rem: uint8",
            "shift_right_arithmetic: edges of int32", "jnp.floor_divide: uint8"),
}  # fmt: skip


@pytest.mark.parametrize(("file_format", "name"), [(f, n) for f in FORMATS for n in GUARDED[f]])
def test_a_second_export_writes_the_same_operators(
    file_format: str, name: str, tmp_path: Path
) -> None:
    (case,) = (each for each in LOWERED if each.name == name)
    goal = target(file_format)
    path = written(case, file_format, tmp_path / f"net{goal.suffix}")
    with compat.enable_x64():
        params, apply_fn = load_graph(path)
        shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs_of(case))
        again = fnckpt.export(params, apply_fn, shapes, file_format, file_name=tmp_path / "again")
    first, second = (Counter(n.op for n in goal.summarize(p).nodes) for p in (path, again.path))
    assert second == first


def images(params: Tree, x: Array) -> jax.Array:
    """A convolution, a norm over channels, a pool and a head."""
    y = jax.lax.conv_general_dilated(
        jnp.asarray(x),
        jnp.asarray(params["kernel"]),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y = jax.nn.relu((y - y.mean(-1, keepdims=True)) * params["scale"])
    y = jax.lax.reduce_window(y, -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return y.mean((1, 2)) @ params["head"]


def attention(params: Tree, x: Array) -> jax.Array:
    """One head over a sequence, and what comes behind it."""
    q, k, v = (x @ params[name] for name in ("q", "k", "v"))
    y = jax.nn.softmax(q @ k.T / 2, axis=-1) @ v
    return jax.nn.gelu(y @ params["out"]) + x


def uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape[-1]).uniform(-1, 1, shape).astype(np.float32)


NETWORKS: dict[str, tuple[Callable[..., jax.Array], object, np.ndarray]] = {
    "dense layers": (net, weights(), X),
    "images": (
        images, {"kernel": uniform(3, 3, 2, 4), "scale": uniform(4), "head": uniform(4, 3)},
        uniform(1, 6, 6, 2)),
    "attention": (
        attention, {name: uniform(4, 4) for name in ("q", "k", "v", "out")}, uniform(5, 4)),
}  # fmt: skip


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_through_an_imported_network_are_those_of_the_original(
    name: str, file_format: str, tmp_path: Path
) -> None:
    network, own, x = NETWORKS[name]
    file = fnckpt.export(own, network, x, file_format, file_name=tmp_path / "net")
    params, apply_fn = load_graph(file)
    found = jax.jit(jax.grad(lambda p, x: (apply_fn(p, x) ** 2).sum(), (0, 1)))(params, x)
    wanted = jax.jit(jax.grad(lambda p, x: (network(p, x) ** 2).sum(), (0, 1)))(own, x)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-4, atol=1e-5)
    for a, b in zip(jax.tree.leaves(found[0]), jax.tree.leaves(wanted[0]), strict=True):
        turned = (b.transpose(order) for order in ORDERS[b.ndim])
        assert any(
            np.allclose(np.reshape(a, each.shape), each, rtol=1e-4, atol=1e-5) for each in turned
        )


# How the files hold a weight: as it is, turned for MindIR, channels first.
ORDERS = {1: [(0,)], 2: [(0, 1), (1, 0)], 4: [(0, 1, 2, 3), (3, 2, 0, 1)]}
