"""A short last axis in front where work repeats along it: what is left, and equal numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import preferred

IMAGE = np.random.default_rng(0).standard_normal((2, 48, 64, 3)).astype(np.float32)
IMAGE[0, 0, :3] = [np.nan, np.inf, -np.inf], [0, 0, 0], [1, np.nan, 1]
SMALL, WIDE = IMAGE[:1, :8, :8], np.repeat(IMAGE, 6, -1)
Function = Callable[[jax.Array], Any]
FORTH, BACK = "Reshape Transpose Reshape ", "Reshape Transpose Reshape"


def normalized(x: jax.Array) -> jax.Array:
    return (x - jnp.arange(x.shape[-1])) / jnp.arange(1.0, 1 + x.shape[-1])


def shaded(x: jax.Array) -> jax.Array:
    return x * jnp.linspace(0, 1, x.shape[1])[:, None, None] * jnp.ones(x.shape[1:3])[..., None]


def greyed(x: jax.Array) -> jax.Array:
    return normalized(x) * (x * jnp.arange(1.0, 4.0)).sum(-1, keepdims=True)


def span(x: jax.Array) -> jax.Array:
    greatest = x.max(-1, keepdims=True)
    return (x - x.min(-1, keepdims=True)) / jnp.where(greatest == 0, 1.0, greatest)


def planes(x: jax.Array) -> jax.Array:
    r, g, b = x[..., 0], x[..., 1], x[..., 2]
    return jnp.stack([r - g, jnp.where(r > b, g, r), b * g], -1)


def sums(x: jax.Array) -> jax.Array:
    return x * x.sum(-1, keepdims=True) + jnp.pad(x[:, 1:], ((0, 0), (0, 1), (0, 0), (0, 0)))


def scanned(x: jax.Array) -> jax.Array:
    far = jnp.cumsum(x * (jnp.arange(3.0) / 64), axis=1).reshape(2, -1, 3).transpose(1, 0, 2)
    return jnp.where(far.sum(-1, keepdims=True) > 0, far, jnp.arange(3.0))


def doubled(x: jax.Array) -> jax.Array:
    return x * 2 + x


def one_channel(x: jax.Array) -> jax.Array:
    return x[..., :1] * 2 + 1


def best(x: jax.Array) -> jax.Array:
    return jax.lax.top_k(x, 2)[0] * jnp.arange(1.0, 3.0)


TURNED: dict[str, tuple[Function, str]] = {
    "vectors": (greyed, f"{FORTH}Sub Div Mul Split Add Add Mul {BACK}"),
    "span": (
        span,
        f"{FORTH}Split Maximum Maximum Minimum Minimum Sub Equal Cast Add Div {BACK}",
    ),
    "scanned": (
        scanned,
        f"{FORTH}Mul CumSum Reshape Transpose Split Add Add Greater Select {BACK}",
    ),
    "sums": (sums, f"{FORTH}Split Add Add Mul Slice Pad Add {BACK}"),
}
LEFT_ALONE: dict[str, tuple[Function, np.ndarray]] = {
    "nothing is repeated": (doubled, IMAGE),
    "one channel of an image": (one_channel, IMAGE),
    "a small image": (normalized, SMALL),
    "a long last axis": (normalized, WIDE),
}


def traced(call: Function, x: np.ndarray) -> FuncGraph:
    return trace({}, lambda _, x: call(x), (x,), name="call")


def for_onnx(call: Function, x: np.ndarray) -> FuncGraph:
    return preferred(optimized(traced(call, x), debug=True), target("ONNX"))


def left_of(graph: FuncGraph) -> list[str]:
    return sorted(node.op for node in graph.cnodes() if node.op != "TupleGetItem")


@pytest.mark.parametrize("name", TURNED)
def test_a_region_that_repeats_along_colours_has_them_in_front(name: str) -> None:
    call, wanted = TURNED[name]
    assert left_of(for_onnx(call, IMAGE)) == sorted(wanted.split())


@pytest.mark.parametrize(("call", "wanted"), [(normalized, ["Div", "Sub"]), (shaded, ["Mul"])])
def test_a_constant_that_repeats_along_colours_is_written_in_full(
    call: Function, wanted: list[str]
) -> None:
    graph = for_onnx(call, IMAGE)
    assert left_of(graph) == wanted
    sizes = [each.aval.shape[-2:] for node in graph.cnodes() for each in node.inputs]
    assert set(sizes) <= {IMAGE.shape[-2:]}


@pytest.mark.parametrize("call", [normalized, shaded, greyed, planes, sums])
def test_a_batch_of_any_size_is_computed_with_colours_in_front(
    call: Function, tmp_path: Path
) -> None:
    file = fnckpt.export(
        {}, lambda _, x: call(x), ("b", 96, 64, 3), "ONNX", file_name=tmp_path / "any"
    )
    ops = [node.op for node in target("ONNX").summarize(file.path).nodes]
    assert ("Transpose" in ops) == (call not in (normalized, shaded))
    for count in (1, 3):
        x = np.random.default_rng(count).standard_normal((count, 96, 64, 3)).astype(np.float32)
        (found,) = fnckpt.run(file, x)
        np.testing.assert_allclose(found, np.asarray(call(jnp.asarray(x))), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_gains_nothing_is_not_turned(name: str) -> None:
    call, x = LEFT_ALONE[name]
    assert "Transpose" not in left_of(for_onnx(call, x))


@pytest.mark.parametrize(
    "call", [*(call for call, _ in TURNED.values()), normalized, shaded, planes, best]
)
def test_turned_regions_give_the_numbers_of_what_was_traced(call: Function) -> None:
    (found,) = evaluate(for_onnx(call, IMAGE), (IMAGE,))
    (wanted,) = evaluate(traced(call, IMAGE), (IMAGE,))
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    "call", [*(call for call, _ in TURNED.values()), normalized, shaded, planes, best]
)
def test_the_file_of_a_turned_region_gives_jax_numbers(call: Function, tmp_path: Path) -> None:
    x = np.nan_to_num(IMAGE, posinf=3, neginf=-2)
    result = fnckpt.export({}, lambda _, x: call(x), (x,), "ONNX", file_name=tmp_path / "turned")
    (found,) = fnckpt.run(result, [x])
    np.testing.assert_allclose(found, np.asarray(call(jnp.asarray(x))), rtol=2e-6, atol=2e-6)


def test_an_image_that_two_regions_need_is_turned_once() -> None:
    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return (x / x[..., 1:2]).sum((1, 2, 3)), (x * x[..., :1]).sum((1, 2, 3))

    ops = left_of(for_onnx(both, IMAGE))
    assert ops.count("Transpose") == 1
