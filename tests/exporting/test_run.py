"""Which array goes to which input of a file that is run."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.errors import UnsupportedError
from fnckpt.exporting.export import export
from fnckpt.exporting.run import run

ONE, TWO = np.full(2, 1, np.float32), np.full(2, 2, np.float32)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``image - mask``, two inputs that could be swapped."""

    def apply(params: object, image: jax.Array, mask: jax.Array) -> jax.Array:
        return image - mask

    return export({}, apply, (ONE, TWO), "AIR", file_name=tmp_path_factory.mktemp("a") / "net").path


@pytest.mark.parametrize(
    "inputs",
    [
        {"image": ONE, "mask": TWO},
        {"mask": TWO, "image": ONE},
        {"arr_0": ONE, "arr_1": TWO},
        {"arr_1": TWO, "arr_0": ONE},
        {"0": ONE, "1": TWO},
        [ONE, TWO],
        (ONE, TWO),
    ],
)
def test_arrays_are_taken_by_name_or_by_position(file: Path, inputs: Mapping[str, np.ndarray]):
    (found,) = run(file, inputs)
    assert found.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("mask", "imge"), "  image: not given; close: imge\n  imge: given, not an input"),
        (("mask", "x"), "  image: not given\n  x: given, not an input"),
        (("mask", "arr_0"), "  image: not given\n  arr_0: given, not an input"),
        (("Mask", "Image"), "  image: not given; close: Image\n  mask: not given; close: Mask"),
        (("b", "a"), "  image: not given\n  mask: not given\n  b: given, not an input\n  a: "),
        (("arr_1", "arr_2"), "  image: not given\n"),
        (("arr_0", "0"), "  image: not given\n"),
    ],
)
def test_other_names_are_refused_with_both_sides(file: Path, names: tuple[str, str], told: str):
    with pytest.raises(ValueError, match="are not those of the inputs") as error:
        run(file, {names[0]: TWO, names[1]: ONE})
    assert told in str(error.value)


def test_the_only_input_takes_the_only_array(tmp_path: Path):
    path = export({}, lambda params, x: x + 1, ONE, "AIR", file_name=tmp_path / "net").path
    assert run(path, {"anything": ONE})[0].tolist() == [2, 2]


@pytest.mark.parametrize("number", [np.float32(1), np.array(1, np.float32), [np.float32(1)]])
def test_a_number_of_numpy_is_an_array_without_axes(tmp_path: Path, number: Any):
    path = export({}, lambda params, x: x + 1, np.float32(2), "AIR", file_name=tmp_path / "n").path
    assert run(path, number)[0].tolist() == 2


@pytest.mark.parametrize(
    ("file_format", "dtype"),
    [("ONNX", "bfloat16"), ("ONNX", "float8_e4m3fn"), ("ONNX", "float8_e5m2"),
     ("MINDIR", "bfloat16")],
)  # fmt: skip
def test_dtypes_that_numpy_lacks_go_in_and_come_out(file_format: str, dtype: str, tmp_path: Path):
    x, y = np.array([[1, -2, 0.5]], jnp.dtype(dtype)), np.ones(3, np.float32)
    path = export(
        {}, lambda _, x, y: (x, x.astype(jnp.float32) + y, x[:, :0]), (x, y), file_format,
        file_name=tmp_path / "net",
    ).path  # fmt: skip
    same, wide, empty = run(path, [x, y])
    assert (same.dtype, empty.dtype) == (x.dtype, x.dtype)
    assert same.tobytes() == x.tobytes()
    assert wide.tolist() == [[2, -1, 1.5]]
    assert empty.shape == (1, 0)


EIGHT = np.ones(2, jnp.float8_e5m2)


@pytest.mark.parametrize(
    ("function", "x", "told"),
    [(lambda _, x: x.astype(jnp.float32), EIGHT, "x is float8_e5m2[2]: MindIR has no dtype float8"),
     (lambda _, x: (x, jnp.ones(2)), EIGHT, "x is float8_e5m2[2]: MindIR has no dtype float8_e5m2"),
     (lambda _, x: x.astype(jnp.int4), ONE, "MindIR has no dtype int4"),
     (lambda _, x: (x, jnp.ones(2, jnp.int4)), ONE, "MindIR has no dtype int4")],
)  # fmt: skip
def test_dtypes_that_mindir_lacks_are_refused_by_name(
    function: Callable[..., object], x: np.ndarray, told: str, tmp_path: Path
):
    with pytest.raises(UnsupportedError, match=re.escape(told)):
        export({}, function, x, "MINDIR", file_name=tmp_path / "net")
