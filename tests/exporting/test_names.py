"""The names of inputs and outputs in the file."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

import fnckpt

X = np.ones((2, 3), np.float32)


@jax.tree_util.register_dataclass
@dataclass
class Answer:
    logits: jax.Array
    present: list[dict[str, jax.Array]]


class Pair(NamedTuple):
    mean: jax.Array
    scale: jax.Array


OUTPUTS = {
    "a dict": (lambda x: {"logits": x + 1, "n": x * 2}, ["logits", "n"]),
    "a dataclass": (
        lambda x: Answer(x + 1, [{"key": x * 2, "value": x * 3}]),
        ["logits", "present.0.key", "present.0.value"],
    ),
    "a named tuple": (lambda x: Pair(x + 1, x * 2), ["mean", "scale"]),
    "an array": (lambda x: x + 1, ["output"]),
    "a tuple": (lambda x: (x + 1, {"a": x * 2}), ["output.0", "output.1.a"]),
    "a key that is an input": (lambda x: {"x": x + 1, "y": x * 2}, ["output.x", "y"]),
    "a key that is a number": (lambda x: {0: x + 1}, ["output.0"]),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_outputs_are_called_by_their_keys(case: str, tmp_path: Path) -> None:
    function, names = OUTPUTS[case]
    result = fnckpt.export(function, X, "ONNX", file_name=tmp_path / "net", verify=True)
    assert [value.name for value in result.outputs] == names
    assert [value.name for value in onnx.load(str(result)).graph.output] == names


def test_an_output_keeps_its_name_where_a_weight_has_it_too(tmp_path: Path) -> None:
    weights = {"w": np.ones((3, 3), np.float32), "v": np.ones(3, np.float32)}
    result = fnckpt.export(
        weights,
        lambda p, x: {"w": x @ p["w"] + p["v"], "v": p["v"]},
        X,
        "ONNX",
        file_name=tmp_path / "net",
        verify=True,
    )
    graph = onnx.load(str(result)).graph
    assert [value.name for value in graph.output] == ["v", "w"]
    assert sorted(tensor.name for tensor in graph.initializer) == ["v_1", "w_1"]


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR", "AIR"])
def test_names_are_chosen_for_each_array(file_format: str, tmp_path: Path) -> None:
    result = fnckpt.export(
        lambda batch, y: (batch["a"] + y, batch["b"]),
        {"a": X, "b": X},
        X,
        file_format,
        file_name=tmp_path / "net",
        input_names=["one", "two", "three"],
        output_names=("sum", "same"),
        verify=True,
    )
    assert [value.name for value in result.inputs] == ["one", "two", "three"]
    assert [value.name for value in result.outputs] == ["sum", "same"]
    assert list(fnckpt.run(result, {"three": X, "one": X, "two": X})[0].shape) == [2, 3]


def test_names_are_chosen_for_each_input(tmp_path: Path) -> None:
    result = fnckpt.export(
        lambda batch, y: ({"s": batch["a"] + y, "d": y - 1}, batch["b"] * 2),
        ({"a": X, "b": X}, X),
        "ONNX",
        file_name=tmp_path / "net",
        input_names=["data", "y"],
        output_names=["both", "b"],
    )
    assert [value.name for value in result.inputs] == ["data.a", "data.b", "y"]
    assert [value.name for value in result.outputs] == ["both.d", "both.s", "b"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"input_names": ["a"]}, r"input_names: 1 names for 2 arrays \(x, y\)"),
        ({"input_names": ["a", "a"]}, "input_names: a is given twice"),
        ({"input_names": ["a", ""]}, "input_names: a name is a text that is not empty, got ''"),
        ({"output_names": ["a", "b"]}, r"output_names: 2 names for 1 arrays \(output\)"),
        ({"output_names": "x"}, "output_names: x is the name of an input"),
    ],
)
def test_names_that_do_not_fit_are_told(
    names: dict[str, str | list[str]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        fnckpt.export(
            {},
            lambda _, x, y: x + y,
            (X, X),
            file_format="ONNX",
            file_name=tmp_path / "net",
            input_names=names.get("input_names"),
            output_names=names.get("output_names"),
        )
    assert not list(tmp_path.iterdir())


def test_keys_in_another_order_are_told_before_names_are_swapped(tmp_path: Path) -> None:
    def apply(_: object, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"logits": batch["ids"] + batch["mask"], "cache": batch["ids"]}

    sample = {"ids": X, "mask": X}
    for names, said in (
        ({"input_names": ["mask", "ids"]}, r"input_names: mask, ids are the keys in another order"),
        ({"output_names": ["logits", "cache"]}, "sorts the keys of a dict, so give cache, logits"),
    ):
        with pytest.raises(ValueError, match=said):
            fnckpt.export(
                {}, apply, sample, "ONNX", file_name=tmp_path / "net",
                input_names=names.get("input_names"), output_names=names.get("output_names"),
            )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_int64_ids_stay_int64_in_the_file(tmp_path: Path) -> None:
    table = np.arange(20, dtype=np.float32).reshape(10, 2)
    ids = np.array([[1, 2, 9]], np.int64)
    for file_format in ("ONNX", "MINDIR", "AIR"):
        result = fnckpt.export(
            {"table": table},
            lambda p, ids: p["table"][ids],
            ids,
            file_format,
            file_name=tmp_path / "net",
            verify=True,
        )
        assert str(result.inputs[0]) == "ids: int64[1,3]"
        np.testing.assert_array_equal(fnckpt.run(result, ids)[0], table[ids])


def test_several_results_of_one_operator_have_the_names_of_the_outputs(tmp_path: Path) -> None:
    def halves(params: object, x: jax.Array) -> dict[str, jax.Array]:
        first, other = jnp.split(jnp.sin(x), 2)
        return {"low": first, "high": other, "again": first}

    result = fnckpt.export(
        {}, halves, np.ones((4, 3), np.float32), "ONNX", file_name=tmp_path / "net", verify=True
    )
    names = [value.name for value in onnx.load(str(result)).graph.output]
    assert names == [value.name for value in result.outputs] == ["again", "high", "low"]
