"""Random parameters of the primitives that have many: the graph computes what JAX computes."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jax import lax

from fnckpt.ir.evaluate import evaluate
from tests.ir.conformance.arrays import integers, normal
from tests.ir.conformance.case import Case, assert_close, expected, graph_of, optimized_graph

Function = Callable[..., object]
several = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def check(fn: Function, *args: np.ndarray, reference: Function | None = None) -> None:
    """The graph, before and after the passes, gives what ``fn`` gives, or ``reference`` of it."""
    case = Case("fuzz", fn, args)
    wanted = expected(case if reference is None else Case("fuzz", reference, args))
    assert_close(case, evaluate(graph_of(case), args), wanted)
    assert_close(case, evaluate(optimized_graph(case), args), wanted)


def subset(data: st.DataObject, items: Sequence[int], most: int | None = None) -> tuple[int, ...]:
    """Some of ``items`` in any order."""
    order = data.draw(st.permutations(list(items)))
    return tuple(order[: data.draw(st.integers(0, len(items) if most is None else most))])


def numbers(data: st.DataObject, count: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))


MODES = st.sampled_from(["clip", "fill", "promise_in_bounds"])


@several
@given(st.data())
def test_any_gather(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 4))
    shape = numbers(data, rank, 1, 4)
    axes = subset(data, range(rank))
    count = data.draw(st.integers(0, len(axes)))
    batching, mapped = tuple(sorted(axes[:count])), axes[count:]
    sizes = [
        1 if i in batching else data.draw(st.integers(0 if i not in mapped else 1, n))
        for i, n in enumerate(shape)
    ]
    collapsed = tuple(
        sorted(
            i
            for i in range(rank)
            if i not in batching and sizes[i] == 1 and data.draw(st.booleans())
        )
    )
    rows = [shape[i] for i in batching] + list(numbers(data, data.draw(st.integers(0, 2)), 1, 3))
    order = data.draw(st.permutations(range(len(rows))))
    rows = [rows[i] for i in order]
    indices_batching = tuple(order.index(i) for i in range(len(batching)))
    slices = rank - len(collapsed) - len(batching)
    offset = tuple(sorted(data.draw(st.permutations(range(len(rows) + slices)))[:slices]))
    mode = data.draw(MODES)
    far = 0 if mode == "promise_in_bounds" else 2
    limits = [shape[i] - sizes[i] for i in mapped]
    columns = [integers(-far, n + far + 1, *rows, 1, seed=i) for i, n in enumerate(limits)]
    places = np.concatenate(columns, -1) if columns else np.zeros((*rows, 0), np.int32)
    d = lax.GatherDimensionNumbers(offset, collapsed, mapped, batching, indices_batching)
    check(lambda x, i: lax.gather(x, i, d, sizes, mode=mode), normal(*shape), places)


WRITES = {
    "add": lax.scatter_add,
    "mul": lax.scatter_mul,
    "min": lax.scatter_min,
    "max": lax.scatter_max,
    "set": lax.scatter,
}


@several
@given(st.data())
def test_any_scatter(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 4))
    shape = numbers(data, rank, 1, 4)
    axes = subset(data, range(rank))
    count = data.draw(st.integers(0, len(axes)))
    batching, mapped = tuple(sorted(axes[:count])), axes[count:]
    inserted = tuple(
        sorted(i for i in range(rank) if i not in batching and data.draw(st.booleans()))
    )
    shown = [i for i in range(rank) if i not in (*inserted, *batching)]
    sizes = {i: data.draw(st.integers(1, shape[i])) for i in shown}
    rows = [shape[i] for i in batching] + list(numbers(data, data.draw(st.integers(0, 2)), 1, 3))
    order = data.draw(st.permutations(range(len(rows))))
    rows = [rows[i] for i in order]
    # XLA is wrong where the index vector is empty: JAX 0.10.2's keeps the last of several updates,
    # JAX 0.8.0's mixes up the batching axes.
    assume(mapped or all(n == 1 for n in rows))
    indices_batching = tuple(order.index(i) for i in range(len(batching)))
    window = tuple(sorted(data.draw(st.permutations(range(len(rows) + len(shown))))[: len(shown)]))
    window_sizes, row_sizes = iter([sizes[i] for i in shown]), iter(rows)
    updates = [
        next(window_sizes if i in window else row_sizes) for i in range(len(rows) + len(shown))
    ]
    name = data.draw(st.sampled_from(sorted(WRITES)))
    mode = data.draw(MODES)
    limits = [shape[i] - sizes.get(i, 1) for i in mapped]
    # Which of two writes to a place wins is not defined, so all write the same.
    values = np.full(updates, 7, np.float32) if name == "set" else normal(*updates, seed=1)
    far = 0 if mode == "promise_in_bounds" else 2
    columns = [integers(-far, n + far + 1, *rows, 1, seed=i) for i, n in enumerate(limits)]
    places = np.concatenate(columns, -1) if columns else np.zeros((*rows, 0), np.int32)
    d = lax.ScatterDimensionNumbers(window, inserted, mapped, batching, indices_batching)
    check(lambda x, i, u: WRITES[name](x, i, u, d, mode=mode), normal(*shape), places, values)


@several
@given(st.data())
def test_any_dot_general(data: st.DataObject) -> None:
    batch = numbers(data, data.draw(st.integers(0, 2)), 1, 3)
    summed = numbers(data, data.draw(st.integers(0, 2)), 0, 3)
    frees = [numbers(data, data.draw(st.integers(0, 2)), 1, 4) for _ in range(2)]
    shapes, places = [], []
    for free in frees:
        sizes = [*batch, *summed, *free]
        order = data.draw(st.permutations(range(len(sizes))))
        shapes.append([sizes[i] for i in order])
        places.append([order.index(i) for i in range(len(sizes))])
    b, s = len(batch), len(summed)
    contracting = places[0][b : b + s], places[1][b : b + s]
    batching = places[0][:b], places[1][:b]
    check(
        lambda x, y: lax.dot_general(x, y, (contracting, batching)),
        normal(*shapes[0]),
        normal(*shapes[1], seed=1),
    )


@several
@given(st.data())
def test_any_conv_general_dilated(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 3))
    kernel, strides = numbers(data, rank, 1, 3), numbers(data, rank, 1, 2)
    lhs, rhs = numbers(data, rank, 1, 3), numbers(data, rank, 1, 2)
    sizes = numbers(data, rank, 1, 5)
    pads = []
    for size, k, base, step in zip(sizes, kernel, lhs, rhs, strict=True):
        room = (size - 1) * base + 1 - (k - 1) * step - 1
        low, high = data.draw(st.integers(-1, 2)), data.draw(st.integers(-1, 2))
        pads.append((low, high) if room + low + high >= 0 else (max(0, -room), 0))
    groups = data.draw(st.integers(1, 2))
    batch_groups = data.draw(st.integers(1, 2)) if groups == 1 else 1
    inputs, outputs = data.draw(st.integers(1, 2)), 2
    x = (batch_groups * data.draw(st.integers(1, 2)), groups * inputs, *sizes)
    w = (groups * batch_groups * outputs, inputs, *kernel)
    orders = [tuple(data.draw(st.permutations(range(rank + 2)))) for _ in range(3)]
    d = lax.ConvDimensionNumbers(*orders)
    x_shape, w_shape = ([0] * (rank + 2) for _ in range(2))
    for i in range(rank + 2):
        x_shape[orders[0][i]], w_shape[orders[1][i]] = x[i], w[i]
    options = {
        "rhs_dilation": rhs,
        "dimension_numbers": d,
        "feature_group_count": groups,
        "batch_group_count": batch_groups,
    }

    def padded(v: jax.Array, k: jax.Array) -> jax.Array:
        """By lax.pad: XLA's CPU backend is wrong for an axis with a negative and a positive pad."""
        config = [(0, 0, 0)] * (rank + 2)
        for i, (pair, step) in enumerate(zip(pads, lhs, strict=True)):
            config[orders[0][2 + i]] = (*pair, step - 1)
        return lax.conv_general_dilated(
            lax.pad(v, np.float32(0), config), k, strides, "VALID", **options
        )

    check(
        lambda v, k: lax.conv_general_dilated(v, k, strides, pads, lhs_dilation=lhs, **options),
        normal(*x_shape),
        normal(*w_shape, seed=1),
        reference=padded,
    )


@several
@given(st.data())
def test_any_reduce_window(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 4))
    shape, window = numbers(data, rank, 1, 5), numbers(data, rank, 1, 3)
    strides, base, dilation = (numbers(data, rank, 1, 2) for _ in range(3))
    pads = list(zip(numbers(data, rank, -1, 2), numbers(data, rank, -1, 2), strict=True))
    for i in range(rank):
        room = (shape[i] - 1) * base[i] + 1 + sum(pads[i]) - (window[i] - 1) * dilation[i] - 1
        if room < 0:
            pads[i] = (pads[i][0] - room, pads[i][1])
    start, fn = data.draw(
        st.sampled_from([(-np.inf, lax.max), (np.inf, lax.min), (0.0, lax.add), (1.0, lax.mul)])
    )
    check(
        lambda x: lax.reduce_window(
            x,
            np.float32(start),
            fn,
            window,
            strides,
            pads,
            base_dilation=base,
            window_dilation=dilation,
        ),
        normal(*shape),
    )


@several
@given(st.data())
def test_any_pad(data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, 4))
    shape, inner = numbers(data, rank, 0, 4), numbers(data, rank, 0, 2)
    config = []
    for size, gap in zip(shape, inner, strict=True):
        whole = size + max(0, size - 1) * gap
        low = data.draw(st.integers(-whole - 1, 3))
        config.append((low, data.draw(st.integers(max(-whole - low, -3), 4)), gap))
    check(lambda x: lax.pad(x, np.float32(9), config), normal(*shape))


@several
@given(st.data())
def test_any_dynamic_slice(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 4))
    shape = numbers(data, rank, 0, 4)
    sizes = [data.draw(st.integers(0, n)) for n in shape]
    starts = np.array(numbers(data, rank, -6, 6), np.int32)
    check(lambda x, s: lax.dynamic_slice(x, tuple(s), sizes), normal(*shape), starts)
    check(
        lambda x, s, u: lax.dynamic_update_slice(x, u, tuple(s)),
        normal(*shape),
        starts,
        normal(*sizes, seed=1),
    )


@several
@given(st.data())
def test_any_slice_and_broadcast(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 4))
    shape = numbers(data, rank, 0, 5)
    starts = [data.draw(st.integers(0, n)) for n in shape]
    limits = [data.draw(st.integers(a, n)) for a, n in zip(starts, shape, strict=True)]
    steps = numbers(data, rank, 1, 3)
    target = sorted(data.draw(st.permutations(range(rank + 2)))[:rank])

    def fn(x: jax.Array) -> jax.Array:
        cut = lax.slice(x, starts, limits, steps)
        sizes = [dict(zip(target, cut.shape, strict=True)).get(i, 2) for i in range(rank + 2)]
        return jnp.sin(lax.broadcast_in_dim(cut, sizes, target))

    check(fn, normal(*shape))


@several
@given(st.data())
def test_any_sort(data: st.DataObject) -> None:
    shape = numbers(data, data.draw(st.integers(1, 3)), 1, 6)
    axis = data.draw(st.integers(0, len(shape) - 1))
    keys = data.draw(st.integers(1, 2))
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 2.0], np.float32)
    x = special[integers(0, 7, *shape, seed=data.draw(st.integers(0, 999)))]
    y = integers(0, 3, *shape, seed=1)
    check(lambda a, b: lax.sort((a, b, a), dimension=axis, num_keys=keys), x, y)
