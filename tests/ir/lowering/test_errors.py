"""What cannot be lowered is named with the user's own line, all of it at once."""

import linecache
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.experimental import io_callback, pallas

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.lowering import NotLowered, Problem


def by_svd(x):
    return jnp.linalg.svd(jnp.tile(x, (65, 65)))[1][:2]


def by_eigh(x):
    return jnp.linalg.eigh(jnp.tile(x, (65, 65)))[0]


def by_schur(x):
    return jax.scipy.linalg.schur(x)[0]


def by_callback(x):
    return jax.pure_callback(np.sin, x, x)


def by_io_callback(x):
    return io_callback(np.sin, x, x)


def by_while(x):
    return lax.while_loop(lambda v: v.sum() < 9, lambda v: v + 1, x)


def by_long_scan(x):
    return lax.scan(lambda c, _: (c + 1, None), x, None, length=600)[0]


def by_pallas(x):
    def kernel(source, target):
        target[...] = source[...]

    return pallas.pallas_call(kernel, jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)


# The primitive, the text of the line that the message must show, and a part of the reason.
FUNCTIONS: dict[Callable[..., object], tuple[str, str, str]] = {
    by_svd: ("svd", "return jnp.linalg.svd(jnp.tile(x, (65, 65)))[1][:2]", "this one has 130"),
    by_eigh: ("eigh", "return jnp.linalg.eigh(jnp.tile(x, (65, 65)))[0]", "this one has 130"),
    by_schur: ("schur", "return jax.scipy.linalg.schur(x)[0]", "up to their sign"),
    by_callback: ("pure_callback", "return jax.pure_callback(np.sin, x, x)", "Python code"),
    by_io_callback: ("io_callback", "return io_callback(np.sin, x, x)", "Python code"),
    by_while: ("while", "return lax.while_loop(", "fori_loop"),
    by_long_scan: ("scan", "return lax.scan(", "max_unroll=512"),
    by_pallas: ("pallas_call", "return pallas.pallas_call(", "Pallas kernel"),
}


def problems_of(fn: Callable[..., object]) -> tuple[Problem, ...]:
    with pytest.raises(NotLowered) as caught:
        trace((), lambda _, x: fn(x), (jnp.eye(2),), name="net", loops=False)
    return caught.value.problems


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
def test_the_users_own_line_is_shown(fn: Callable[..., object]) -> None:
    primitive, text, reason = FUNCTIONS[fn]
    problem = next(p for p in problems_of(fn) if p.primitive.startswith(primitive))
    place, _, shown = problem.line.partition(f" in {fn.__name__}: ")
    file, _, number = place.rpartition(":")
    assert file == __file__
    assert shown.startswith(text)
    assert linecache.getline(file, int(number)).strip() == shown
    assert reason in problem.reason


def test_all_problems_are_named_at_once() -> None:
    def net(x):
        y = by_svd(x).sum() + by_callback(x)
        return by_while(y) + by_long_scan(y)

    found = {p.primitive for p in problems_of(net)}
    assert {"svd", "pure_callback", "while", "scan"} <= found


def test_the_same_problem_in_a_loop_is_named_once() -> None:
    def net(x):
        for _ in range(3):
            x = by_callback(x)
        return x

    assert len(problems_of(net)) == 1


def prints(x):
    jax.debug.print("{}", x)
    return x


def calls_back(x):
    jax.debug.callback(print, x)
    return x


def counts(x):
    io_callback(print, None, x, ordered=True)
    return x


def prints_in_a_loop(x):
    return lax.scan(lambda c, r: (c + r, jax.debug.print("{}", r)), x[0], x)[0]


LEFT_OUT: dict[Callable[..., object], tuple[str, str]] = {
    prints: ("debug_", 'jax.debug.print("{}", x)'),
    calls_back: ("debug_callback", "jax.debug.callback(print, x)"),
    counts: ("io_callback", "io_callback(print, None, x, ordered=True)"),
    prints_in_a_loop: ("debug_", "return lax.scan("),
}


@pytest.mark.parametrize("fn", LEFT_OUT, ids=lambda fn: fn.__name__)
def test_an_effect_that_no_output_depends_on_is_left_out_and_told(fn: Callable[..., Array]) -> None:
    primitive, text = LEFT_OUT[fn]
    graph = trace((), lambda _, x: fn(x), (jnp.eye(2),), name="net")
    (line,) = graph.left_out
    assert line.startswith(primitive)
    assert text in line
    np.testing.assert_array_equal(evaluate(graph, [np.eye(2, dtype=np.float32)])[0], fn(jnp.eye(2)))


def unused(fn: Callable[[Array], object]) -> Callable[[Array], Array]:
    def net(x: Array) -> Array:
        fn(x)
        return x + 1

    return net


def unused_part_of_a_loop(x: Array) -> Array:
    body = lambda c, r: ((c[0] + r, by_svd(c[1][None] * c[1][:, None])), None)  # noqa: E731
    return lax.scan(body, (x[0], x[0]), x)[0][0]


DEAD = [
    *map(unused, FUNCTIONS),
    *(unused(jax.jit(fn)) for fn in FUNCTIONS),
    unused_part_of_a_loop,
    lambda x: lax.cond(x.shape[0] == 2, lambda v: v, lambda v: by_svd(v) * v, x),
]


@pytest.mark.parametrize("fn", DEAD)
def test_what_no_output_depends_on_is_not_refused(fn: Callable[[Array], Array]) -> None:
    graph = trace((), lambda _, x: fn(x), (jnp.eye(2),), name="net")
    assert {node.op for node in graph.cnodes()} <= {"Add", "Slice", "Reshape", "Concat"}


def test_a_new_parameter_of_a_primitive_is_refused_by_name() -> None:
    from fnckpt.ir.lowering import Refusal
    from fnckpt.ir.lowering.registry import RULES, arguments

    with pytest.raises(Refusal, match="its parameter twist is not known"):
        arguments(RULES["transpose"], {"permutation": (0,), "twist": 3})
