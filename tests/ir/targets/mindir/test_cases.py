"""Every operator in every dtype gives the numbers of ir/evaluate.py in MindSpore."""

from collections.abc import Mapping
from functools import cache

import ml_dtypes
import numpy as np
import pytest

from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import HOLDS_GRAPHS
from fnckpt.ir.operators import OPERATORS
from fnckpt.ir.targets.mindir import TARGET
from fnckpt.ir.targets.target import Refused, legalized
from tests.ir.targets.cases import FAMILIES, OperatorCase
from tests.ir.targets.mindir.batch import Job, judge_groups
from tests.ir.targets.mindir.judge import Judged

CASES = {case.id: (name, case) for name, make in FAMILIES.items() for case in make()}

# What MindSpore's CPU kernels do not compute, whatever we do: operator, dtype, and the reason.
REFUSED: dict[tuple[str, str], str] = {
    ("Div", "uint64"): "does not compute uint64",
    ("Rem", "uint64"): "does not compute uint64",
    **{("NextAfter", name): "NextAfter" for name in ("float32", "float16", "float64", "bfloat16")},
}
TOLERANCE = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 1e-5, "float64": 1e-9}


def is_refused(case: OperatorCase) -> bool:
    """Whether the table of refusals names the case."""
    return (case.op, case.id.split(" ")[1]) in REFUSED


@cache
def results(family: str) -> Mapping[str, Judged]:
    """What MindSpore made of each case of a family, those of one operator together."""
    by_op: dict[str, list[Job]] = {}
    for name, case in CASES.values():
        if name == family and not is_refused(case):
            by_op.setdefault(case.op, []).append(Job(case.id, case.graph, case.inputs))
    return judge_groups(list(by_op.values()))


def assert_equal(found: np.ndarray, wanted: np.ndarray) -> None:
    """Shape and dtype; integers the same, floats near, what is not finite the same."""
    name = wanted.dtype.name
    if wanted.dtype == ml_dtypes.bfloat16:
        wanted = wanted.astype(np.float32)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(found, wanted)
        return
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(b)
    np.testing.assert_array_equal(a[~finite], b[~finite])
    a, b = a[finite], b[finite]
    assert np.isfinite(a).all()
    worst = float(np.abs(a - b).max(initial=0))
    assert worst <= TOLERANCE[name] * max(1.0, float(np.abs(b).max(initial=0)))


@pytest.mark.parametrize("id", [id for id, (_, case) in CASES.items() if not is_refused(case)])
def test_mindspore_computes_what_the_operator_means(id: str) -> None:
    family, case = CASES[id]
    judged = results(family)[id]
    assert not judged.error, judged.error
    with np.errstate(all="ignore"):
        meant = evaluate(case.graph, case.inputs)
    for found, wanted in zip(judged.outputs, meant, strict=True):
        assert_equal(found, wanted)


@pytest.mark.parametrize("id", [id for id, (_, case) in CASES.items() if is_refused(case)])
def test_what_has_no_kernel_is_refused_with_a_way_out(id: str) -> None:
    _, case = CASES[id]
    with pytest.raises(Refused, match=REFUSED[case.op, id.split(" ")[1]]) as caught:
        TARGET.encode(legalized(case.graph, TARGET))
    assert all("; " in reason for _, reason in caught.value.places)


def test_the_cases_have_every_operator() -> None:
    symbolic = {"Range", "Sizes"}  # tests/symbolic has them
    of_onnx = {
        "CachedAttention",
        "Gru",
        "Lstm",
        "ReduceL1",
        "ReduceSumSquare",
        "Rotary",
        "SkipRmsNorm",
    }  # tests/ir/passes has them
    assert {case.op for _, case in CASES.values()} == set(OPERATORS) - HOLDS_GRAPHS - {
        "TupleGetItem"
    } - symbolic - of_onnx


def test_every_operator_is_written_or_refused_or_replaced() -> None:
    removed = {rule.pattern.op for rule in TARGET.legalize}
    emitted, cannot = set(TARGET.emitters), set(TARGET.cannot)
    assert set(OPERATORS) - {"TupleGetItem"} <= emitted | cannot | removed
    assert not emitted & cannot


def test_what_no_emitter_writes_is_replaced_in_every_case() -> None:
    for _, case in CASES.values():
        if not is_refused(case):
            ops = {node.op for node in legalized(case.graph, TARGET).cnodes()}
            assert ops <= set(TARGET.emitters), case.id
