"""Which array goes to which input of a file that is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

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
