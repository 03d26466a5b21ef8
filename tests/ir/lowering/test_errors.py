"""What cannot be lowered is named with the user's own line, all of it at once."""

import linecache
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas

from fnckpt.exporting.export import trace
from fnckpt.ir.lowering import NotLowered, Problem


def by_svd(x):
    return jnp.linalg.svd(x)[1]


def by_eigh(x):
    return jnp.linalg.eigh(x)[0]


def by_callback(x):
    return jax.pure_callback(np.sin, x, x)


def by_print(x):
    jax.debug.print("{}", x)
    return x


def by_cond(x):
    return lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x)


def by_while(x):
    return lax.while_loop(lambda v: v.sum() < 9, lambda v: v + 1, x)


def by_long_scan(x):
    return lax.scan(lambda c, _: (c + 1, None), x, None, length=600)[0]


def by_key(x):
    return jax.random.normal(jax.random.key(x[0, 0].astype(np.int32)), (3,))


def by_pallas(x):
    def kernel(source, target):
        target[...] = source[...]

    return pallas.pallas_call(kernel, jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)


# The primitive, the text of the line that the message must show, and a part of the reason.
FUNCTIONS: dict[Callable[..., object], tuple[str, str, str]] = {
    by_svd: ("svd", "return jnp.linalg.svd(x)[1]", "up to their sign"),
    by_eigh: ("eigh", "return jnp.linalg.eigh(x)[0]", "up to their sign"),
    by_callback: ("pure_callback", "return jax.pure_callback(np.sin, x, x)", "Python code"),
    by_print: ("debug_", 'jax.debug.print("{}", x)', "Python code"),
    by_cond: ("cond", "return lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x)", "jnp.where"),
    by_while: ("while", "return lax.while_loop(", "fori_loop"),
    by_long_scan: ("scan", "return lax.scan(", "max_unroll=512"),
    by_key: ("random_seed", "return jax.random.normal(", "constant key"),
    by_pallas: ("pallas_call", "return pallas.pallas_call(", "Pallas kernel"),
}


def problems_of(fn: Callable[..., object]) -> tuple[Problem, ...]:
    with pytest.raises(NotLowered) as caught:
        trace((), lambda _, x: fn(x), (jnp.eye(2),), name="net")
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
        return by_while(y) + by_cond(y)

    found = {p.primitive for p in problems_of(net)}
    assert {"svd", "pure_callback", "while", "cond"} <= found


def test_the_same_problem_in_a_loop_is_named_once() -> None:
    def net(x):
        for _ in range(3):
            x = by_callback(x)
        return x

    assert len(problems_of(net)) == 1


def test_a_new_parameter_of_a_primitive_is_refused_by_name() -> None:
    from fnckpt.ir.lowering import Refusal
    from fnckpt.ir.lowering.registry import RULES, arguments

    with pytest.raises(Refusal, match="its parameter twist is not known"):
        arguments(RULES["transpose"], {"permutation": (0,), "twist": 3})
