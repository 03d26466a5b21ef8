"""Padding in front of convolutions and pools: what is left, what is left alone, equal numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import Aval, CNode, FuncGraph, Parameter
from fnckpt.ir.operators import apply, constant
from fnckpt.ir.passes.pipeline import PASSES, run

RNG = np.random.default_rng(3)
INF = np.inf


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


IMAGE, GRAY, LONG = numbers(2, 5, 6, 3), numbers(2, 5, 6, 1), numbers(2, 7, 3)
KERNEL, GRAY_KERNEL, LONG_KERNEL = numbers(3, 3, 3, 4), numbers(3, 3, 1, 4), numbers(3, 3, 4)
AROUND = ((0, 0), (1, 2), (0, 1), (0, 0))


def conv(
    x: jax.Array,
    kernel: np.ndarray,
    pads: Sequence[tuple[int, int]] | str = "VALID",
    stride: int = 1,
) -> jax.Array:
    return lax.conv_general_dilated(
        x, jnp.asarray(kernel), (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def along(x: jax.Array, kernel: np.ndarray) -> jax.Array:
    return lax.conv_general_dilated(
        x, jnp.asarray(kernel), (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
    )


def zeros(x: jax.Array, pads: Sequence[tuple[int, int]] = AROUND, fill: float = 0.0) -> jax.Array:
    return jnp.pad(x, pads, constant_values=fill)


@dataclass(frozen=True)
class Padded:
    """A function of an image, the operators that are left, and the pads of the one that pads."""

    name: str
    function: Callable[[jax.Array], object]
    left: str
    pads: tuple[tuple[int, int], ...] | None = None
    input: np.ndarray = field(default_factory=lambda: IMAGE)


FOLDED = [
    Padded(
        "zeros around an image go into the convolution",
        lambda x: conv(zeros(x), KERNEL, stride=2),
        "Transpose Conv Transpose",
        ((1, 2), (0, 1)),
    ),
    Padded(
        "they are added to its own",
        lambda x: conv(zeros(x), KERNEL, [(1, 0), (2, 2)]),
        "Transpose Conv Transpose",
        ((2, 2), (2, 3)),
    ),
    Padded(
        "lax.pad is the same",
        lambda x: conv(lax.pad(x, 0.0, [(*pair, 0) for pair in AROUND]), KERNEL),
        "Transpose Conv Transpose",
        ((1, 2), (0, 1)),
    ),
    Padded(
        "behind an activation",
        lambda x: conv(zeros(jnp.sin(conv(x, KERNEL))), numbers(1, 1, 4, 2)),
        "Transpose Conv Sin Conv Transpose",
    ),
    Padded(
        "through a reshape, which a transpose of one channel is",
        lambda x: conv(zeros(x), GRAY_KERNEL),
        "Reshape Conv Transpose",
        ((1, 2), (0, 1)),
        GRAY,
    ),
    Padded(
        "before a convolution that only looks back",
        lambda x: along(jnp.pad(x, ((0, 0), (2, 0), (0, 0))), LONG_KERNEL),
        "Transpose Conv Transpose",
        ((2, 0),),
        LONG,
    ),
    Padded(
        "two pads are one",
        lambda x: conv(zeros(zeros(x)), KERNEL),
        "Transpose Conv Transpose",
        ((2, 4), (0, 2)),
    ),
    Padded(
        "a bias stays one",
        lambda x: conv(zeros(x), KERNEL) + numbers(4),
        "Transpose Conv Transpose",
        ((1, 2), (0, 1)),
    ),
    Padded(
        "-inf goes into the maximum",
        lambda x: nn.max_pool(zeros(x, fill=-INF), (3, 3), (2, 2)),
        "Transpose MaxPool Transpose",
        ((1, 2), (0, 1)),
    ),
    Padded(
        "zeros go into the maximum of what is never negative",
        lambda x: nn.max_pool(zeros(jax.nn.relu(x)), (3, 3), (2, 2)),
        "Relu Transpose MaxPool Transpose",
        ((1, 2), (0, 1)),
    ),
    Padded(
        "a negative number, too",
        lambda x: nn.max_pool(zeros(jnp.clip(x, 0, 6), fill=-1.0), (3, 3), (2, 2)),
        "Relu Minimum Transpose MaxPool Transpose",
        ((1, 2), (0, 1)),
    ),
    Padded(
        "zeros go into the mean",
        lambda x: nn.avg_pool(zeros(x, ((0, 0), (1, 1), (0, 1), (0, 0))), (3, 3), (1, 2), "SAME"),
        "Transpose AvgPool Transpose",
        ((2, 2), (1, 2)),
    ),
    Padded("pads of one constant merge", lambda x: zeros(zeros(x, fill=2), fill=2), "Pad"),
    Padded("a pad of nothing goes", lambda x: zeros(x, ((0, 0),) * 4), ""),
]

LEFT_ALONE = [
    Padded(
        "another number before a convolution",
        lambda x: conv(zeros(x, fill=1.0), KERNEL),
        "Pad Transpose Conv Transpose",
    ),
    Padded(
        "padded channels",
        lambda x: conv(zeros(x, ((0, 0), (1, 1), (0, 0), (1, 1))), numbers(3, 3, 5, 4)),
        "Pad Transpose Conv Transpose",
    ),
    Padded(
        "a padded batch",
        lambda x: conv(zeros(x, ((1, 0), (1, 1), (0, 0), (0, 0))), KERNEL),
        "Pad Transpose Conv Transpose",
    ),
    Padded(
        "what is cut",
        lambda x: conv(lax.pad(x, 0.0, [(0, 0, 0), (-1, 2, 0), (0, 0, 0), (0, 0, 0)]), KERNEL),
        "Slice Transpose Conv Transpose",
        ((0, 2), (0, 0)),
    ),
    Padded(
        "zeros between the elements",
        lambda x: conv(lax.pad(x, 0.0, [(0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0)]), KERNEL),
        "Reshape Pad Reshape Slice Transpose Conv Transpose",
    ),
    Padded(
        "zeros before the maximum of what may be negative",
        lambda x: nn.max_pool(zeros(x), (3, 3), (2, 2)),
        "Pad Transpose MaxPool Transpose",
    ),
    Padded(
        "a positive number before a maximum",
        lambda x: nn.max_pool(zeros(jax.nn.relu(x), fill=0.5), (3, 3), (2, 2)),
        "Relu Pad Transpose MaxPool Transpose",
    ),
    Padded(
        "windows that would see padding alone",
        lambda x: nn.max_pool(zeros(jax.nn.relu(x)), (2, 2), (1, 1)),
        "Relu Pad Transpose MaxPool Transpose",
    ),
    Padded(
        "nothing in the middle",
        lambda x: nn.max_pool(zeros(jax.nn.relu(x[:, :0])), (3, 3), (1, 1)),
        "",  # a constant
    ),
    Padded(
        "another number before a mean",
        lambda x: nn.avg_pool(zeros(x, fill=1.0), (3, 3), (1, 1)),
        "Pad Transpose AvgPool Transpose",
    ),
    Padded("pads of two constants", lambda x: zeros(zeros(x, fill=1.0), fill=2.0), "Pad Pad"),
    Padded("zeros of both signs", lambda x: zeros(zeros(x, fill=0.0), fill=-0.0), "Pad Pad"),
]


def traced(case: Padded) -> FuncGraph:
    return trace({}, lambda _, x: case.function(x), (case.input,), name="case")


def pads_of(graph: FuncGraph) -> list[object]:
    return [n.attrs["pads"] for n in graph.cnodes() if "pads" in n.attrs]


@pytest.mark.parametrize("case", FOLDED + LEFT_ALONE, ids=lambda case: case.name)
def test_padding_goes_where_it_is_read_or_stays(case: Padded) -> None:
    graph = traced(case)
    after = run(graph, tuple(PASSES), debug=True)
    assert " ".join(node.op for node in after.cnodes()) == case.left
    assert case.pads is None or pads_of(after) == [case.pads]
    special = case.input.copy()
    special[0, 0], special[1, 2] = np.nan, -INF
    for x in (case.input, special):
        with np.errstate(invalid="ignore"):
            (before,), (found,) = evaluate(graph, (x,)), evaluate(after, (x,))
        np.testing.assert_allclose(found, before, rtol=1e-5, atol=1e-5)
    again = run(after, tuple(PASSES), debug=True)
    assert [(n.op, n.attrs) for n in again.cnodes()] == [(n.op, n.attrs) for n in after.cnodes()]


def test_a_mean_that_does_not_count_its_padding_takes_no_more() -> None:
    x = Parameter("x", Aval((1, 2, 6, 6), np.dtype(np.float32)))

    def left(pads: tuple[tuple[int, int], ...]) -> CNode:
        around = (0, 0, 1, 1)
        padded = apply("Pad", x, constant(np.float32(0)), low=around, high=around)
        pool = apply(
            "AvgPool", padded, window=(3, 3), strides=(1, 1), pads=pads, count_padding=False
        )
        graph = FuncGraph("mean", (x,), (pool,), ("y",))
        after = run(graph, tuple(PASSES), debug=True)
        given = (numbers(1, 2, 6, 6),)
        np.testing.assert_allclose(evaluate(after, given), evaluate(graph, given), rtol=1e-5)
        (result,) = after.outputs
        assert isinstance(result, CNode)
        return result

    counted = left(((0, 0), (0, 0)))
    assert counted.inputs == (x,)
    assert counted.attrs["count_padding"]
    assert left(((1, 0), (0, 0))).inputs != (x,)


def test_a_pad_with_another_user_stays_for_it_alone() -> None:
    case = Padded("", lambda x: (conv(zeros(x), KERNEL), zeros(x) * 2), "")
    graph = traced(case)
    after = run(graph, tuple(PASSES), debug=True)
    assert sorted(n.op for n in after.cnodes()) == ["Conv", "Mul", "Pad", "Transpose", "Transpose"]
    for a, b in zip(evaluate(after, (IMAGE,)), evaluate(graph, (IMAGE,)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def before(x: jax.Array, fill: float = 0.0) -> jax.Array:
    """As much padding as there is image."""
    return zeros(x, ((0, 0), (x.shape[1], 0), (0, 0), (0, 0)), fill)


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (lambda x: conv(zeros(x), KERNEL), ["Conv"]),
        (lambda x: nn.max_pool(zeros(jax.nn.relu(x)), (3, 3), (2, 2)), ["MaxPool"]),
        (lambda x: conv(before(x), KERNEL), ["Conv", "Pad"]),
        (lambda x: nn.max_pool(before(x, -INF), (3, 3)), ["MaxPool", "Pad"]),
    ],
)
def test_sizes_may_be_open(function: Callable[[jax.Array], jax.Array], left: list[str]) -> None:
    b, h, w = jax.export.symbolic_shape("b, h, w", constraints=["h >= 3", "w >= 3"])
    sample = jax.ShapeDtypeStruct((b, h, w, 3), np.float32)
    graph = trace({}, lambda _, x: function(x), (sample,), name="open")
    after = run(graph, tuple(PASSES), debug=True)
    windows = [n.op for n in after.cnodes() if n.op in ("Conv", "MaxPool", "Pad")]
    assert sorted(windows) == left
    found = evaluate(after, (IMAGE,))
    np.testing.assert_allclose(found[0], function(jnp.asarray(IMAGE)), rtol=1e-4, atol=1e-4)


VOLUME, VOLUME_KERNEL = numbers(1, 3, 4, 4, 3), numbers(2, 3, 2, 3, 4)


def windows(
    image: jax.Array, row: jax.Array, volume: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """What a runtime is asked: unlike pads before and after, pads beyond the window."""
    far = ((0, 0), (5, 1), (0, 4), (0, 0))
    stem = nn.max_pool(
        zeros(jax.nn.relu(conv(zeros(image, far), KERNEL, stride=2))), (3, 3), (2, 2)
    )
    means = nn.avg_pool(zeros(image), (3, 4), (2, 1))
    most = nn.max_pool(zeros(image, fill=-INF), (3, 4), (2, 1))
    causal = along(jnp.pad(row, ((0, 0), (2, 0), (0, 0))), LONG_KERNEL)
    around = jnp.pad(volume, ((0, 0), (1, 0), (0, 1), (2, 1), (0, 0)))
    numbers = ("NDHWC", "DHWIO", "NDHWC")
    in_space = lax.conv_general_dilated(
        around, jnp.asarray(VOLUME_KERNEL), (1, 1, 1), "VALID", dimension_numbers=numbers
    )
    return stem, means + most, causal, in_space


@pytest.mark.parametrize("file_format", RUNTIMES)
def test_the_runtimes_pad_alike(file_format: str, tmp_path: Path) -> None:
    given = (IMAGE, LONG, VOLUME)
    file = fnckpt.export(
        {}, lambda _, *x: windows(*x), given, file_format, file_name=tmp_path / "net"
    )
    found = RUNTIMES[file_format][1](file.path, given)
    for ours, theirs in zip(found, windows(*map(jnp.asarray, given)), strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", [nn.max_pool, nn.avg_pool])
def test_a_window_beyond_the_limit_of_ge_may_see_all_of_a_padded_axis(
    op: Callable[..., jax.Array], tmp_path: Path
) -> None:
    def whole(x: jax.Array) -> jax.Array:
        return op(zeros(jax.nn.relu(x), ((0, 0), (1, 1), (0, 0))), (302,))

    x = numbers(2, 300, 3)
    file = fnckpt.export({}, lambda _, x: whole(x), x, "AIR", file_name=tmp_path / "net")
    (found,) = RUNTIMES["AIR"][1](file.path, (x,))
    np.testing.assert_allclose(found, np.asarray(whole(jnp.asarray(x))), rtol=1e-4, atol=1e-4)
