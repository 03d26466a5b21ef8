"""Graphs to files and back: the same numbers, and no node more when they are written again."""

from collections import Counter
from datetime import date
from pathlib import Path

import jax
import numpy as np
import pytest

import fnckpt
from fnckpt.importing.load import load_graph
from fnckpt.ir.lowering import compat
from fnckpt.ir.targets import target
from tests.importing.test_load import X, net, weights
from tests.ir.conformance.case import Case, assert_close, expected
from tests.ir.conformance.files import LOWERED, inputs_of, written
from tests.ir.conformance.limits import DIFFERS, REFUSED, listed

FORMATS = ("ONNX", "MINDIR", "AIR")
STEP = 150  # days until every case had its turn
EDGES = "div: edges of float32"  # where compiled quotients differ from those of equal shapes
TURN = [c for i, c in enumerate(LOWERED)
        if i % STEP == date.today().toordinal() % STEP or c.name == EDGES]  # fmt: skip


def is_limited(case: Case, file_format: str) -> bool:
    tables = (REFUSED, DIFFERS)
    return file_format in case.cannot or any(listed(t, file_format, case.name) for t in tables)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("case", TURN, ids=lambda case: case.id)
def test_a_case_computes_the_same_when_it_comes_back(
    case: Case, file_format: str, tmp_path: Path
) -> None:
    if is_limited(case, file_format):
        return  # tested by the conformance of the format
    wanted = expected(case)
    path = written(case, file_format, tmp_path / f"net{target(file_format).suffix}")
    with compat.enable_x64():
        params, apply_fn = load_graph(path)
        found = apply_fn(params, *inputs_of(case))
    arrays = found if isinstance(found, tuple) else (found,)
    assert_close(case, [np.asarray(each) for each in arrays], wanted)


# Guards of ours: against JAX's division by 0, casts that saturate, places that are clamped.
GUARDED = {
    "ONNX": ("convert: float32 to int32 saturates", "convert: float16 to int64",
             "read take, wrap: inside", "write min: inside", "shift_right_logical: edges of int8",
             "write dynamic_update_index_in_dim: inside"),
    "MINDIR": ("shift_right_logical: edges of int8", "read take, wrap: inside", "lgamma: float64"),
    "AIR": ("logistic: float16", "div: edges of int16", "rem: uint8",
            "shift_right_arithmetic: edges of int32", "jnp.floor_divide: uint8"),
}  # fmt: skip


@pytest.mark.parametrize(("file_format", "name"), [(f, n) for f in FORMATS for n in GUARDED[f]])
def test_a_second_export_writes_the_same_operators(
    file_format: str, name: str, tmp_path: Path
) -> None:
    (case,) = (each for each in LOWERED if each.name == name)
    goal = target(file_format)
    path = written(case, file_format, tmp_path / f"net{goal.suffix}")
    with compat.enable_x64():
        params, apply_fn = load_graph(path)
        shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs_of(case))
        again = fnckpt.export(params, apply_fn, shapes, file_format, file_name=tmp_path / "again")
    first, second = (Counter(n.op for n in goal.summarize(p).nodes) for p in (path, again.path))
    assert second == first


@pytest.mark.parametrize("file_format", FORMATS)
def test_gradients_through_an_imported_network_are_those_of_the_original(
    file_format: str, tmp_path: Path
) -> None:
    file = fnckpt.export(weights(), net, X, file_format, file_name=tmp_path / "net")
    params, apply_fn = load_graph(file)
    found = jax.grad(lambda p: (apply_fn(p, X) ** 2).sum())(params)
    wanted = jax.grad(lambda p: (net(p, X) ** 2).sum())(weights())
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        own = a if a.shape == b.shape else a.T  # MindIR holds the weight of a product turned
        np.testing.assert_allclose(own, b, rtol=1e-4, atol=1e-5)
