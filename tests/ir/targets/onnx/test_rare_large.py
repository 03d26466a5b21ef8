"""Remainders of many numbers, very large ones among them or not: as JAX, and back again."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fnckpt
from fnckpt.importing.load import load_graph
from fnckpt.ir.targets import target

RANDOM = np.random.default_rng(0)
COUNT = 4096
Function = Callable[..., Any]


def around(divisor: float) -> np.ndarray:
    """Multiples of the divisor up to the limit, the numbers next to them, and halves."""
    whole = np.arange(-COUNT // 8, COUNT // 8) * np.float32(divisor)
    large = RANDOM.integers(-(2**20), 2**20, COUNT // 4) * np.float32(divisor)
    each = np.concatenate([whole, large / 64]).astype(np.float32)
    next_to = [np.nextafter(each, np.float32(end)) for end in (np.inf, -np.inf)]
    found = np.concatenate([each, *next_to, each / 2, each * np.float32(0.3)])[:COUNT]
    return np.where(np.abs(found) < 1e-37, 0, found)  # XLA has no subnormal numbers


ODD = {
    "numbers": (),
    "NaN": (np.nan,),
    "infinities": (np.inf, -np.inf),
    "very large": (3e38, -1e30, 1e9, -123456789.0),
    "NaN beside large": (np.nan, 1e30),
    "zeros": (0.0, -0.0, 1e-30, -1e-30),
}
BRANCHED, WHOLE = [6.0, 360.0, 0.75, 2.0, 4095.0], [2 * np.pi, 0.1, -6.0, 4097.0]


def exported(function: Function, x: np.ndarray, path: Path, **options: Any) -> Any:
    return fnckpt.export({}, lambda _, x: function(x), x, "ONNX", file_name=path, **options)


def operators(file: Any) -> Counter[str]:
    return Counter(node.op for node in target("ONNX").summarize(file.path).every_node())


@pytest.mark.parametrize("divisor", [*BRANCHED, *WHOLE])
def test_remainders_are_those_of_jax_bit_by_bit(divisor: float, tmp_path: Path) -> None:
    x = around(divisor)
    file = exported(lambda x: x % divisor, x, tmp_path / "net")
    assert (operators(file)["If"] == 1) == (divisor in BRANCHED)
    for odd in ODD.values():
        each = x.copy()
        each[RANDOM.permutation(COUNT)[: len(odd)]] = odd
        np.testing.assert_array_equal(fnckpt.run(file, each)[0], jnp.asarray(each) % divisor)


@pytest.mark.parametrize("divisor", BRANCHED)
def test_what_is_read_again_has_no_branch_and_the_second_file_the_same_operators(
    divisor: float, tmp_path: Path
) -> None:
    x = around(divisor)
    file = exported(lambda x: jnp.sin(x % divisor), x, tmp_path / "net")
    params, apply_fn = load_graph(file)
    assert "cond" not in str(jax.make_jaxpr(apply_fn)(params, x))
    np.testing.assert_allclose(apply_fn(params, x), jnp.sin(x % divisor), rtol=1e-6)
    again = fnckpt.export(params, apply_fn, x, "ONNX", file_name=tmp_path / "again")
    assert operators(again) == operators(file)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.fmod(x, 6),
        lambda x: x[:500] % 6,
        lambda x: (x % 6).astype(jnp.float16) % 6,
        lambda x: x.astype(int) % 6,
        lambda x: x % (x + 6),
        lambda x: jnp.where(jnp.fmod(x, 6) < 0, jnp.fmod(x, 6) + 5, jnp.fmod(x, 6)),
    ],
)
def test_other_remainders_are_as_in_jax(function: Function, tmp_path: Path) -> None:
    x = around(6.0)
    file = exported(function, x, tmp_path / "net")
    wanted = function(jnp.asarray(x))
    np.testing.assert_allclose(fnckpt.run(file, x)[0], wanted, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def of_six(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("six") / "net"
    return exported(lambda x: x % 6, np.zeros(COUNT, np.float32), path)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=32, allow_subnormal=False), min_size=1, max_size=40))
def test_any_floats_have_the_remainder_of_jax(of_six: Any, floats: list[float]) -> None:
    x = np.resize(np.asarray(floats, np.float32), COUNT)
    np.testing.assert_array_equal(fnckpt.run(of_six, x)[0], jnp.asarray(x) % 6)
