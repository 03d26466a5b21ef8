"""Complex numbers at the border of a file: real arrays there, complex ones for ``fnckpt.run``."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

import fnckpt
from fnckpt.ir.border import KEY, Border, border_of
from fnckpt.ir.lowering import compat
from fnckpt.ir.targets import target

FORMATS = ("ONNX", "MINDIR", "AIR")
every_format = pytest.mark.parametrize("file_format", FORMATS)


def numbers(*shape: int, dtype: type = np.complex64, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape), dtype)


def mixed(params: dict, z: jax.typing.ArrayLike, x: jax.typing.ArrayLike) -> dict:
    z, x = jnp.asarray(z), jnp.asarray(x)
    return {"same": z, "size": jnp.abs(z), "sum": z @ params["w"] + params["b"] * x}


PARAMS = {"w": numbers(4, 2, seed=1), "b": np.ones(2, np.float32)}
GIVEN = (numbers(3, 4), np.full((3, 2), 2, np.float32))


def assert_equal(found: list[np.ndarray], wanted: object) -> None:
    for a, b in zip(found, map(np.asarray, jax.tree.leaves(wanted)), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@every_format
def test_run_takes_and_gives_complex_arrays(file_format: str, tmp_path: Path) -> None:
    file = fnckpt.export(PARAMS, mixed, GIVEN, file_format, file_name=tmp_path / "net")
    assert_equal(fnckpt.run(file, GIVEN), mixed(PARAMS, *GIVEN))


@pytest.mark.parametrize("file_format", ["ONNX", "AIR"])
def test_a_file_without_its_result_is_run_alike_by_names_and_with_real_arrays(
    file_format: str, tmp_path: Path
) -> None:
    path = fnckpt.export(PARAMS, mixed, GIVEN, file_format, file_name=tmp_path / "net").path
    z, x = GIVEN
    parts = np.stack([np.real(z), np.imag(z)], -1)
    for given in ({"x": x, "z": z}, (parts, x)):
        assert_equal(fnckpt.run(path, given), mixed(PARAMS, *GIVEN))


@every_format
def test_the_result_and_the_file_say_which_values_are_complex(
    file_format: str, tmp_path: Path
) -> None:
    file = fnckpt.export(PARAMS, mixed, GIVEN, file_format, file_name=tmp_path / "net")
    assert list(map(str, file.inputs)) == [
        "z: float32[3,4,2] for complex64[3,4]",
        "x: float32[3,2]",
    ]
    assert [value.is_complex for value in file.outputs] == [True, False, True]
    summary = target(file_format).summarize(file.path)
    assert [value.is_complex for value in summary.inputs] == [True, False]
    assert [value.shape for value in summary.outputs] == [(3, 4, 2), (3, 4), (3, 2, 2)]
    assert {v.name: v.shape for v in summary.parameters if v.is_complex} == {"w": (4, 2, 2)}


@every_format
def test_complex128_is_float64(file_format: str, tmp_path: Path) -> None:
    with compat.enable_x64():
        z = numbers(5, dtype=np.complex128)
        net = lambda params, z: (z * z, jnp.angle(z))  # noqa: E731
        file = fnckpt.export({}, net, z, file_format, file_name=tmp_path / "net")
        assert file.inputs[0].dtype == "float64"
        for a, b in zip(fnckpt.run(file, z), map(np.asarray, net({}, z)), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-14)


@every_format
def test_scalars_and_empty_arrays_are_complex_too(file_format: str, tmp_path: Path) -> None:
    given = (numbers(), numbers(0), numbers(1), numbers(2, 0, 3))
    net = lambda params, *zs: [(z, 2j * z) for z in zs]  # noqa: E731
    file = fnckpt.export({}, net, given, file_format, file_name=tmp_path / "net")
    assert [value.shape for value in file.inputs] == [(2,), (0, 2), (1, 2), (2, 0, 3, 2)]
    assert_equal(fnckpt.run(file, given), net({}, *given))


def test_a_lone_complex_array_as_parameters_and_a_complex_constant(tmp_path: Path) -> None:
    weight, net = numbers(3), lambda w, x: (w * x, np.array([1j], np.complex64))
    file = fnckpt.export(weight, net, np.float32(2), "ONNX", file_name=tmp_path / "net")
    assert_equal(fnckpt.run(file, [np.asarray(2, np.float32)]), net(weight, np.float32(2)))


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR"])
def test_sizes_of_complex_arrays_may_stay_open(file_format: str, tmp_path: Path) -> None:
    (size,) = jax.export.symbolic_shape("b")
    sample = jax.ShapeDtypeStruct((size, 3), jnp.complex64)
    net = lambda params, z: jnp.fft.fft(z) + 1j  # noqa: E731
    file = fnckpt.export({}, net, sample, file_format, file_name=tmp_path / "net")
    z = numbers(5, 3)
    assert_equal(fnckpt.run(file, z), net({}, z))


@pytest.mark.parametrize("optimize", [False, True])
def test_a_complex_weight_keeps_its_numbers(optimize: bool, tmp_path: Path) -> None:
    file = fnckpt.export(
        {"w": numbers(4, 4)}, lambda p, z: jnp.einsum("ba,bc->ac", p["w"], z), numbers(4, 2),
        "ONNX", file_name=tmp_path / "net", optimize=optimize, keep_params=optimize,
    )  # fmt: skip
    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(file).graph.initializer}
    np.testing.assert_array_equal(held["w"][..., 0] + 1j * held["w"][..., 1], numbers(4, 4))


def test_half_precision_is_measured_with_complex_samples(tmp_path: Path) -> None:
    net, given = lambda p, z: z @ p["w"], {"w": numbers(64, 64)}
    file = fnckpt.export(
        given, net, numbers(2, 64), "ONNX", file_name=tmp_path / "n", dtype="float16"
    )
    assert file.narrowing is not None
    assert file.narrowing.error is not None
    assert 0 < file.narrowing.error < 1e-2


def test_a_real_array_where_the_file_takes_a_complex_one_must_have_its_parts(
    tmp_path: Path,
) -> None:
    file = fnckpt.export({}, lambda p, z: z * 1j, numbers(3), "AIR", file_name=tmp_path / "net")
    with pytest.raises(ValueError, match=r"the input z: float32\[3,2\] for complex64\[3\], given"):
        fnckpt.run(file, np.ones(3, np.float32))


def test_what_another_wrote_under_the_key_is_no_border() -> None:
    for text in ("", "{", "[1]", '{"inputs": 1}', '{"inputs": ["a"]}'):
        assert not border_of(text), text
    border = Border((0,), (1, 2), ("params.w",))
    assert border_of(border.text()) == border
    assert KEY == "fnckpt.complex"
