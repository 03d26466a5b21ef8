"""Loops and branches in files: their size, their open axes, narrow types, older readers, checks."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnckpt
from fnckpt.ir.targets import target
from fnckpt.proto.mind_ir_pb2 import ModelProto

Array = jax.Array

X = np.random.default_rng(0).standard_normal((600, 2, 8)).astype(np.float32)
PARAMS = {"w": (np.random.default_rng(1).standard_normal((8, 8)) * 0.1).astype(np.float32)}


def rnn(params: Any, x: Any) -> tuple[Array, Array]:
    return lax.scan(lambda c, r: (jnp.tanh(c @ params["w"] + r), c), x[0], x)


def repeated(trips: int) -> Callable[[dict[str, Array], Array], Array]:
    return lambda params, x: lax.fori_loop(0, trips, lambda _, v: jnp.tanh(v @ params["w"]), x)


def greatest(found: list[np.ndarray], wanted: object) -> float:
    pairs = zip(found, map(np.asarray, jax.tree.leaves(wanted)), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR"])
def test_neither_the_file_nor_its_nodes_grow_with_the_trips(
    file_format: str, tmp_path: Path
) -> None:
    few, many = (
        fnckpt.export(PARAMS, repeated(n), X[0], file_format, file_name=tmp_path / str(n))
        for n in (1_000, 900_000)
    )
    assert few.nodes == many.nodes
    assert abs(few.bytes - many.bytes) < 16


def test_conditions_in_each_other_add_up_and_do_not_multiply(tmp_path: Path) -> None:
    def nested(depth: int) -> Callable[[object, Array], Array]:
        def net(params: object, x: Array) -> Array:
            step = jnp.sin
            for _ in range(depth):
                step = lambda v, f=step: lax.cond(v.sum() > 0, f, jnp.cos, v)  # noqa: E731
            return step(x)

        return net

    nodes = [
        fnckpt.export({}, nested(n), X[0], "ONNX", file_name=tmp_path / str(n)).nodes
        for n in (5, 10)
    ]
    assert nodes[1] <= 2 * nodes[0] + 2


def test_what_is_known_of_a_condition_before_the_first_trip_is_computed(tmp_path: Path) -> None:
    def net(_: object, x: Array) -> Array:
        return lax.while_loop(
            lambda s: (s[0] < 9) & (s[1].sum() < 50), lambda s: (s[0] + 1, s[1] * 2), (0, x)
        )[1]

    file = fnckpt.export({}, net, X[0], "ONNX", file_name=tmp_path / "net")
    outside = [node.op for node in target("ONNX").summarize(file.path).nodes]
    assert outside == ["ReduceSum", "Less", "Loop"]
    for x in (X[0], X[0] + 40):
        assert greatest(fnckpt.run(file, x), net({}, jnp.asarray(x))) < 1e-4


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR"])
def test_a_file_runs_over_any_number_of_steps(file_format: str, tmp_path: Path) -> None:
    (steps,) = jax.export.symbolic_shape("t")
    sample = jax.ShapeDtypeStruct((steps, 2, 8), jnp.float32)
    file = fnckpt.export(PARAMS, rnn, sample, file_format, file_name=tmp_path / "rnn")
    for count in (1, 3, 600):
        assert greatest(fnckpt.run(file, X[:count]), rnn(PARAMS, X[:count])) < 2e-4


@pytest.mark.parametrize(("dtype", "limit"), [("float16", 2e-3), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR"])
def test_what_a_loop_computes_is_narrowed_too(
    file_format: str, dtype: str, limit: float, tmp_path: Path
) -> None:
    file = fnckpt.export(PARAMS, rnn, X, file_format, file_name=tmp_path / "n", dtype=dtype)
    assert file.narrowing is not None
    assert (file.narrowing.weights, dict(file.narrowing.kept_weights)) == (1, {})
    assert greatest(fnckpt.run(file, X), rnn(PARAMS, X)) < limit


def test_a_weight_of_a_loop_that_does_not_fit_is_named(tmp_path: Path) -> None:
    large = {"w": PARAMS["w"] * 1e7}
    file = fnckpt.export(large, rnn, X, "ONNX", file_name=tmp_path / "n", dtype="float16")
    assert file.narrowing is not None
    assert "overflows float16" in file.narrowing.kept_weights["w"]


def test_inspect_counts_the_nodes_of_bodies_as_the_result_does(tmp_path: Path) -> None:
    file = fnckpt.export(PARAMS, rnn, X, "ONNX", file_name=tmp_path / "rnn")
    assert len(target("ONNX").summarize(file.path).every_node()) == file.nodes


def permuted(params: object, x: Any, n: Any) -> tuple[Array, Array, Array]:
    return lax.fori_loop(0, n, lambda _, c: (c[1], c[2] + 1, c[0]), (x, x + 1, x * 2))


def test_the_older_style_of_mindir_copies_what_is_handed_on_at_another_place(
    tmp_path: Path,
) -> None:
    given, name = (X[0], np.array(4, np.int32)), tmp_path / "p"
    file = fnckpt.export({}, permuted, given, "MINDIR", file_name=name, mindspore="2.0")
    model = ModelProto.FromString(file.path.read_bytes())
    copies = [n for graph in model.functions for n in graph.node if n.op_type == "Reshape"]
    assert len(copies) == 2
    assert greatest(fnckpt.run(file, list(given)), permuted({}, *given)) < 1e-6


def without_an_argument(model: ModelProto) -> None:
    names = {f"REF::{graph.name}" for graph in model.functions}
    call = next(node for node in model.graph.node if node.op_type in names)
    del call.input[-1]


def without_a_function(model: ModelProto) -> None:
    del model.functions[0]


def with_one_closure(model: ModelProto) -> None:
    switches = {f"REF::{p.name}" for p in model.primitives if p.op_type == "Switch"}
    switch = next(n for g in model.functions for n in g.node if n.op_type in switches)
    del switch.input[-1]


def with_a_value_of_another_function(model: ModelProto) -> None:
    model.functions[0].output[0].name = "nowhere"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (without_an_argument, "arguments, expected"),
        (without_a_function, "not a function of the file"),
        (with_one_closure, "a Switch has a condition and two closures"),
        (with_a_value_of_another_function, "its output nowhere is not a value of it"),
    ],
)
def test_functions_that_do_not_fit_together_are_found(
    change: Callable[[ModelProto], None], text: str, tmp_path: Path
) -> None:
    given = (X[0], np.array(4, np.int32))
    file = fnckpt.export({}, permuted, given, "MINDIR", file_name=tmp_path / "p")
    assert target("MINDIR").check(file.path) == []
    model = ModelProto.FromString(file.path.read_bytes())
    change(model)
    file.path.write_bytes(model.SerializeToString())
    assert text in "\n".join(target("MINDIR").check(file.path))


def in_conditions(depth: int, batched: bool) -> Callable[[object, Array], Array]:
    """Loops in conditions of loops."""

    def holds(left: int, x: Array) -> Array:
        if not left:
            return x.sum() < 3
        inner = lambda s: (s[0] < 2) & holds(left - 1, s[1])  # noqa: E731
        return lax.while_loop(inner, lambda s: (s[0] + 1, s[1] + 1.0), (0, x))[1].sum() < 9

    one = lambda x: lax.while_loop(partial(holds, depth), lambda v: v + 1.0, x)  # noqa: E731
    return lambda params, x: (jax.vmap(one) if batched else one)(x)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR"])
def test_loops_in_conditions_of_loops_add_up_and_do_not_multiply(
    file_format: str, batched: bool, tmp_path: Path
) -> None:
    nodes = {}
    x = X[0][:, :2] * 0.1
    for depth in (2, 4, 6):
        net = in_conditions(depth, batched)
        file = fnckpt.export({}, net, x, file_format, file_name=tmp_path / str(depth))
        nodes[depth] = file.nodes
        if depth == 4:
            assert greatest(fnckpt.run(file, x), net({}, x)) < 1e-5
    assert nodes[6] - nodes[4] <= nodes[4] - nodes[2] + 2


def inside_and_outside(params: Any, x: Any) -> tuple[Array, Array, Array]:
    w = params["w"]
    return lax.fori_loop(0, 900, lambda _, v: jnp.tanh(v @ w), x), x @ w, (w * 2).sum(0)


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", None])
@pytest.mark.parametrize("size", [8, 96])
def test_a_weight_that_a_loop_and_its_surroundings_use_is_stored_once(
    file_format: str, dtype: str | None, size: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    params = {"w": (rng.standard_normal((size, size)) / size).astype(np.float32)}
    x = rng.standard_normal((2, size)).astype(np.float32)
    name = tmp_path / "w"
    file = fnckpt.export(
        params, inside_and_outside, x, file_format, file_name=name, dtype=dtype, keep_params=True
    )
    assert file.parameters == size * size
    if file_format == "ONNX" or dtype == "bfloat16":
        assert greatest(fnckpt.run(file, x), inside_and_outside(params, x)) < 3e-2


def of_weights(params: Any, x: Any, n: Any) -> list[Array]:
    """A weight where MindSpore 2.10 cannot have one, in loops that are inside loops."""
    w = params["w"]

    def often(step: Callable[[Array], Array], start: Array = x) -> Array:
        return lax.fori_loop(0, n, lambda _, v: step(v), start)

    inner = partial(often, lambda v: jnp.tanh(v * 0.5))
    chosen = lambda v: lax.cond(v.sum() > 0, lambda: w, lambda: w * 2)  # noqa: E731
    rows = lambda v: lax.scan(lambda c, r: (jnp.tanh(c + r), None), v, w)[0]  # noqa: E731
    return [
        often(lambda v: v * 0.5 + inner(w)),
        often(lambda v: v * 0.5 + often(lambda u: u * 0.5 + inner(w), v)),
        often(lambda v: v * 0.5 + chosen(v)),
        often(lambda v: v * 0.5 + inner(chosen(v))),
        often(lambda v: w, x),
        often(rows, x[0]),
        often(lambda v: often(rows, v), x[0]),
    ]


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR"])
def test_a_weight_may_be_anything_in_loops_inside_loops(file_format: str, tmp_path: Path) -> None:
    x = np.random.default_rng(3).standard_normal((8, 8)).astype(np.float32)
    given, name = (x, np.array(3, np.int32)), tmp_path / "w"
    file = fnckpt.export(PARAMS, of_weights, given, file_format, file_name=name, max_unroll=0)
    assert greatest(fnckpt.run(file, list(given)), of_weights(PARAMS, *given)) < 1e-5


def flags(params: object, x: Any) -> tuple[Array, Array]:
    return lax.scan(lambda c, r: (c ^ (r > 0), c), jnp.zeros(8, bool), x[:, 0])


def test_the_older_style_of_mindir_stacks_booleans(tmp_path: Path) -> None:
    x = X[:5]
    file = fnckpt.export(
        {}, flags, x, "MINDIR", file_name=tmp_path / "f", mindspore="2.0", max_unroll=0
    )
    for found, wanted in zip(fnckpt.run(file, x), flags({}, x), strict=True):
        np.testing.assert_array_equal(found, wanted)
