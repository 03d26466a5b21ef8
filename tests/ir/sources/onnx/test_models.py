"""The models in the onnx wheel: loaded, exported again to ONNX and MindIR, and run there."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import jax
import numpy as np
import pytest

import fnckpt
from fnckpt.importing.load import LoadedGraph, load_graph
from fnckpt.ir.lowering import compat
from tests.ir.sources.onnx.cases import Arrays, Folder, folders
from tests.ir.targets.mindir.judge import judge

# What is not loaded, and why: patterns of names in order.
REFUSED = {
    "strnorm": "it computes with texts",
    "gradient_of": "no rule for this operator of the domain 'ai.onnx.preview.training'",
    "expand_shape": "the shape of its result depends on data",
    "sequence_model8": "the sizes of its parts depends on data",
}
DAYS = 20  # until each had its turn
MODELS = [
    each for kind in ("simple", "pytorch-operator", "pytorch-converted") for each in folders(kind)
]


def reason(model: Folder) -> str | None:
    return next((why for part, why in REFUSED.items() if part in model.name), None)


TURN = [m for m in MODELS if reason(m) is None][date.today().toordinal() % DAYS :: DAYS]


def applied(loaded: LoadedGraph, inputs: Arrays) -> list[np.ndarray]:
    results = jax.jit(loaded.apply_fn)(loaded.params, *inputs)
    return [np.asarray(each) for each in jax.tree.leaves(results)]


def computed(model: Folder) -> list[np.ndarray]:
    loaded = load_graph(model.path / "model.onnx")
    ((inputs, _), *_) = model.sets()
    return applied(loaded, inputs)


def assert_equal_numbers(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> None:
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*64 bits are not enabled")
def test_it_is_known_which_models_are_loaded_and_why_the_others_are_not() -> None:
    refused = [each for each in MODELS if reason(each)]
    assert len(MODELS) - len(refused) >= 107
    for model in refused:
        with pytest.raises(fnckpt.UnsupportedError, match=str(reason(model))):
            computed(model)


def test_a_model_that_is_exported_again_runs_with_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("mindspore")
    wanted: dict[str, list[np.ndarray]] = {}
    given: dict[str, Arrays] = {}
    for model in TURN:
        ((inputs, outputs), *_) = model.sets()
        with compat.enable_x64():
            loaded = load_graph(model.path / "model.onnx")
            found = applied(loaded, inputs)
            assert_equal_numbers(found, outputs)
            again = [
                fnckpt.export(*loaded, tuple(inputs), f, file_name=tmp_path / model.name)
                for f in ("ONNX", "MINDIR")
            ]
        assert_equal_numbers(fnckpt.run(again[0], tuple(inputs)), found)
        given[model.name], wanted[model.name] = inputs, found
    for name, judged in judge(tmp_path, given).items():
        assert not judged.error, f"{name}: {judged.error}"
        assert_equal_numbers(judged.outputs, wanted[name])
