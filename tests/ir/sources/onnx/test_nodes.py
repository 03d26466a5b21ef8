"""Each operator's own examples, in NumPy's evaluator and in JAX."""

from collections import Counter
from datetime import date

import jax
import numpy as np
import pytest

from fnckpt.importing.load import load_graph
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.lowering import compat
from tests.ir.sources.onnx.cases import Arrays, NodeCase, names, node_case, why_not

NAMES = [name for name in names() if why_not(name) is None]
IN_JAX = NAMES[date.today().toordinal() % 5 :: 5]  # each in turn, within five days


def test_97_of_100_cases_with_shapes_and_arrays_alone_are_right() -> None:
    beyond = ("texts", "sequence", "depends on data")
    reasons = [why_not(name) for name in names()]
    counted = [r for r in reasons if r is None or not any(word in r for word in beyond)]
    assert counted.count(None) / len(counted) >= 0.97, Counter(counted)


def assert_like(case: NodeCase, found: Arrays) -> None:
    assert len(found) == len(case.outputs)
    for a, b in zip(found, case.outputs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if b.dtype.kind in "biu":
            np.testing.assert_array_equal(a, b)
        else:
            wide = (a.astype(np.float64), b.astype(np.float64))
            np.testing.assert_allclose(*wide, rtol=case.rtol or 1e-3, atol=case.atol or 1e-7)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", NAMES)
def test_the_evaluator_computes_what_the_operator_means(name: str) -> None:
    case = node_case(name)
    with compat.enable_x64():
        source = load_graph(case.model.SerializeToString()).source
        given = {i.name: x for i, x in zip(source.inputs, case.inputs, strict=True)}
        graph = source.build([x.shape for x in case.inputs], given).graph
    assert_like(case, list(evaluate(graph, case.inputs)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", IN_JAX)
def test_jax_computes_what_the_operator_means(name: str) -> None:
    case = node_case(name)
    with compat.enable_x64():
        loaded = load_graph(case.model.SerializeToString())
        found = loaded.apply_fn(loaded.params, *case.inputs)
        assert_like(case, [np.asarray(x) for x in jax.tree.leaves(found)])
