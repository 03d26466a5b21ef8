"""Graphs to files and back: the same numbers, and the same operators in a second export."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import flax.linen
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


# What a format lacks, and what is guarded: NaN, divisions by 0, casts that saturate, places.
SPELLED = {
    "ONNX": ("argmin: float64 with ties", "bitcast: uint32 to float32", "cond: of int64",
             "conv_transpose: (2, 2) VALID (4, 1)", "conv: 1 x 1, strides",
             "convert: float16 to int64",
             "convert: float32 to int32 saturates", "control: fori_loop with a counter as index",
             "det: [4, 4] float32", "eigh: 60 columns", "lgamma: float64",
             "logsumexp: over 0", "loop: a loop in a condition", "matmul: float16",
             "long scan: a carry that never changes", "long scan: fori_loop over rows",
             "long scan: fori_loop that writes",
             "read outer: also outside", "read take: of bool", "read take, wrap: inside",
             "read vmap twice: inside",
             "reduce max: [2, 3] over (1,)", "rfft and irfft: length 96",
             "library loop: backtracking line search",
             "while: a counter", "while: fori_loop that indexes", "while: tokens until the end",
             "window and: bool",
             "nn.standardize: float32", "shift_right_logical: edges of int8", "sort: over 1",
             "sort: two keys with NaN, float16", "write min: inside",
             "write dynamic_update_index_in_dim: inside"),
    "MINDIR": ("argmax: places as int8", "cond: a bool result, -1", "cond: by an integer, 1",
               "cond: of int64", "long scan: of uint64, reversed", "loop: map in batches",
               "long scan: two carries", "switch: 3, 0", "top_k: int8 with ties",
               "convert: bfloat16 to uint32",
               "cumlogsumexp: over 2, reverse=True", "div: float32",
               "dynamic_slice: by int16", "expm1: float32", "lgamma: float64", "log1p: bfloat16",
               "max: a long axis with NaN", "min: a long axis that stays, of no NaN",
               "long scan: integers", "long scan: of bfloat16", "long scan: of bool, reversed",
               "long scan: fori_loop over rows", "read take, scalar: inside",
               "nn.softmax: far from 0", "loop: hessian of scan", "nn.standardize: float64",
               "nextafter: float8_e4m3fn", "read take, wrap: inside",
               "reduce min: [2, 2, 1, 3] over (0, 1, 2)",
               "reduce_precision: (4, 3)", "rsqrt: float32", "shift_right_logical: edges of int8",
               "sort: partition", "svd: wide", "top_k: NaN is above infinity, float16",
               "top_k: over 1", "values of float8_e5m2: moved and added", "window max: int16"),
    "AIR": ("argmax: keepdims", "complex ifft: float64", "conv: float16",
            "div: edges of int16", "draw: choice", "draw: uniform", "keys: loop",
            "loop: map in batches",
            "logistic: float16",
            "nn.gelu: float16", "nn.silu: float16", "rem: uint8", "shape: transpose of bool",
            "jnp.floor_divide: uint8", "shift_left: edges of uint8",
            "solve_triangular: [2, 5, 5] float32 lower=True trans=1",
            "shift_right_arithmetic: edges of int32", "sort: over 1"),
}  # fmt: skip


@pytest.mark.parametrize(("file_format", "name"), [(f, n) for f in FORMATS for n in SPELLED[f]])
def test_a_second_export_writes_the_same_operators(
    file_format: str, name: str, tmp_path: Path
) -> None:
    (case,) = (each for each in LOWERED if each.name == name)
    path = written(case, file_format, tmp_path / f"net{target(file_format).suffix}")
    first, second = operators(path, file_format), operators(again(case, path), file_format)
    assert second == first


def test_what_a_loop_carries_may_need_a_reshape_in_the_first_file_alone(tmp_path: Path) -> None:
    (case,) = (each for each in LOWERED if each.name == "schur: a batch, float64")
    path = written(case, "ONNX", tmp_path / "net.onnx")
    first, second = operators(path, "ONNX"), operators(again(case, path), "ONNX")
    assert (first - second, second - first) == (Counter({"Reshape": 1}), Counter())


def smooth(x: Array) -> jax.Array:
    """The mean of 3 x 3 pixels, which ONNX has as a convolution with ones."""
    window = (1, 3, 3, 1)
    sums = jax.lax.reduce_window(jnp.asarray(x), 0.0, jax.lax.add, window, (1, 1, 1, 1), "VALID")
    return sums / 9 + np.linspace(0, 1, 3, dtype=np.float32)


def test_choices_written_as_reads_come_back_as_choices(tmp_path: Path) -> None:
    def chosen(_: object, x: Array) -> jax.Array:
        y = jnp.where(x > 0.5, x * 2, x - 1)
        return jnp.where(x < -0.5, jnp.sin(x), y)

    x = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    x[0, 0, 0] = np.nan
    file = fnckpt.export({}, chosen, x, "ONNX", file_name=tmp_path / "net")
    assert operators(file.path, "ONNX")["GatherElements"] > 0
    params, apply_fn = load_graph(file)
    assert "gather" not in str(jax.make_jaxpr(apply_fn)(params, x))
    np.testing.assert_allclose(apply_fn(params, x), chosen({}, x), rtol=1e-6)
    second = fnckpt.export(params, apply_fn, x, "ONNX", file_name=tmp_path / "again")
    assert operators(second.path, "ONNX") == operators(file.path, "ONNX")


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_constant_of_a_file_is_none_of_its_parameters_however_often_it_comes_back(
    file_format: str, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype(np.float32)
    file = fnckpt.export({}, lambda _, x: smooth(x), x, file_format, file_name=tmp_path / "net")
    for turn in range(2):
        params, apply_fn = load_graph(file)
        assert params == {}
        np.testing.assert_allclose(apply_fn(params, x), smooth(x), rtol=1e-5)
        name = tmp_path / f"again{turn}"
        file = fnckpt.export(params, apply_fn, x, file_format, file_name=name)


def test_states_that_are_given_come_back_without_the_guard_of_their_nan(tmp_path: Path) -> None:
    cell, x, state = flax.linen.LSTMCell(4), uniform(2, 9, 3), (uniform(2, 4), uniform(2, 4))
    layer = flax.linen.RNN(cell, return_carry=True)
    params = layer.init(jax.random.key(0), x)

    def network(params: Mapping[str, Any], x: Array, c: Array, h: Array) -> object:
        return layer.apply(params, x, initial_carry=(c, h))

    file = fnckpt.export(params, network, (x, *state), "ONNX", file_name=tmp_path / "net")
    own, loaded = load_graph(file)
    second = fnckpt.export(own, loaded, (x, *state), "ONNX", file_name=tmp_path / "again")
    assert operators(second.path, "ONNX") == operators(file.path, "ONNX")
    assert operators(file.path, "ONNX")["LSTM"] == 1
    broken = np.array(state[0])
    broken[0] = np.nan
    for found, wanted in zip(
        loaded(own, x, broken, state[1]),
        jax.tree.leaves(network(params, x, broken, state[1])), strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_over_rows_comes_back_from_mindir_as_one_that_can_be_derived(
    reverse: bool, tmp_path: Path
) -> None:
    def network(params: Tree, x: Array) -> tuple[jax.Array, jax.Array]:
        def step(carry: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
            after = jnp.tanh(carry * params["w"] + row)
            return after, after.sum()

        last, sums = jax.lax.scan(step, jnp.zeros(3), jnp.asarray(x), reverse=reverse)
        return sums, last

    params, x = {"w": uniform(3)}, uniform(3000, 3)
    file = fnckpt.export(params, network, x, "MINDIR", file_name=tmp_path / "net")
    assert operators(file.path, "MINDIR")["call"] > 0
    own, loaded = load_graph(file)

    def loss(apply: Callable[..., Any]) -> Callable[..., Any]:
        return lambda p, x: sum((each**2).sum() for each in apply(p, x))

    found = jax.jit(jax.grad(loss(loaded), (0, 1)))(own, x)
    wanted = jax.jit(jax.grad(loss(network), (0, 1)))(params, x)
    np.testing.assert_allclose(found[0]["w"], wanted[0]["w"], rtol=1e-4)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-4, atol=1e-6)


def again(case: Case, path: Path) -> Path:
    """What is in a file, exported once more."""
    file_format = path.suffix[1:].upper()
    with compat.enable_x64():
        params, apply_fn = load_graph(path)
        shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs_of(case))
        name = path.with_name("again")
        return fnckpt.export(params, apply_fn, shapes, file_format, file_name=name).path


def operators(path: Path, file_format: str) -> Counter[str]:
    """What a file holds, bodies of loops too; what calls a function of the file is one kind."""
    nodes = target(file_format).summarize(path).every_node()
    return Counter("call" if "/" in node.op else node.op for node in nodes)


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
