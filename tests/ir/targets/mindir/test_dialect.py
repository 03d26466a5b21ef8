"""The attribute style of MindSpore up to 2.2, which MindSpore 2.10 reads too, but for types."""

from collections.abc import Iterator

import numpy as np
import pytest

from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import Aval, FuncGraph, Parameter
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.targets.mindir import TARGET
from fnckpt.ir.targets.mindir.legalize_older import OLDER
from fnckpt.ir.targets.mindir.view import types_of
from fnckpt.ir.targets.target import Refused, legalized
from fnckpt.proto import mind_ir_pb2 as mind_ir
from tests.ir.targets.cases import FAMILIES, OperatorCase
from tests.ir.targets.mindir.judge import Judged, judge

# MindSpore 2.10 reads their types in the argument style alone, and wants a window of two axes of
# AvgPool, where 2.0 wants four.
NOT_READ = {"Argmax", "Argmin", "AvgPool", "Cast"}
F32 = np.dtype(np.float32)
DTYPES = ("float32", "int32", "bool")


def encoded(graph: FuncGraph) -> bytes:
    """The file of a graph in the attribute style."""
    return b"".join(map(bytes, TARGET.encode(legalized(graph, TARGET), mindspore="2.0").parts))


def written(case: OperatorCase) -> bytes:
    """The file of a case."""
    return encoded(case.graph)


def primitives(data: bytes) -> set[str]:
    """The operators of a file."""
    return {node.op_type for node in mind_ir.ModelProto.FromString(data).graph.node}


def cases() -> Iterator[tuple[str, OperatorCase]]:
    """One case for each operator and each of the main dtypes that MindSpore 2.10 can judge."""
    seen: set[tuple[str, str]] = set()
    for case in (case for family in FAMILIES.values() for case in family()):
        key = (case.op, case.id.split(" ")[1])
        cannot = case.op in TARGET.cannot or "bfloat16" in case.id
        if key[1] not in DTYPES or key in seen or cannot:
            continue
        if not primitives(written(case)) & NOT_READ:
            seen.add(key)
            yield case.id, case


CASES = dict(cases())


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Judged]:
    """What MindSpore makes of every case, in one process."""
    folder = tmp_path_factory.mktemp("attributes")
    names = {id: f"{number:04}" for number, id in enumerate(CASES)}
    for id, case in CASES.items():
        (folder / f"{names[id]}.mindir").write_bytes(written(case))
    found = judge(folder, {names[id]: case.inputs for id, case in CASES.items()})
    return {id: found[name] for id, name in names.items()}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of NaN in the expected numbers
@pytest.mark.parametrize("id", CASES)
def test_the_attribute_style_means_the_same(id: str, judged: dict[str, Judged]) -> None:
    case = CASES[id]
    assert judged[id].error == ""
    for found, wanted in zip(judged[id].outputs, evaluate(case.graph, case.inputs), strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_most_operators_are_judged() -> None:
    assert len({case.op for case in CASES.values()}) >= 90


def test_the_attribute_style_has_no_primitives_of_its_own() -> None:
    for case in CASES.values():
        model = mind_ir.ModelProto.FromString(written(case))
        assert not model.primitives
        assert model.mind_ir_version == 0


def test_what_lite_lacks_or_computes_roughly_is_not_written() -> None:
    lacking = {"GeLU", "IsNan", "PadV3", "Rsqrt", "SiLU"}
    assert not {op for case in CASES.values() for op in primitives(written(case))} & lacking


LIMITS = {"float32": 1e-6, "float16": 1e-3, "float64": 1e-12}


@pytest.mark.parametrize("dtype", LIMITS)
def test_a_sine_is_written_out_for_2_0_which_leaves_old_values(dtype: str) -> None:
    limit = LIMITS[dtype]
    far = np.concatenate([np.linspace(-30, 30, 6001), np.logspace(-30, 4.3, 2000)])
    x = np.concatenate([far, -far]).astype(dtype)
    given = Parameter("x", Aval(x.shape, np.dtype(dtype)))
    graph = FuncGraph("net", (given,), (apply("Sin", given),), ("y",))
    assert "Sin" not in primitives(encoded(graph))
    (found,) = evaluate(rewrite(legalized(graph, TARGET), OLDER), [x])
    wanted = np.sin(x.astype(np.float64))
    finite = np.isfinite(x)
    assert found.dtype == dtype
    assert np.abs(found - wanted)[finite].max() <= limit
    near = (np.abs(x) < 1) & (np.abs(x) > np.finfo(dtype).tiny)
    assert (np.abs(found - wanted)[near] / np.abs(wanted[near])).max() <= limit


def test_a_choice_is_between_tensors_of_its_own_shape() -> None:
    """The kernel of MindSpore 2.0 reads beyond the smaller one."""
    x, y = Parameter("x", Aval((2, 3), F32)), Parameter("y", Aval((3,), F32))
    condition = Parameter("condition", Aval((2, 1), np.dtype(bool)))
    graph = FuncGraph("net", (condition, x, y), (apply("Select", condition, x, y),), ("z",))
    written = mind_ir.ModelProto.FromString(encoded(graph)).graph
    types = types_of(written)
    (choice,) = (node for node in written.node if node.op_type == "Select")
    assert [list(types[name][0].dims) for name in choice.input] == [[2, 3]] * 3


def test_bfloat16_is_refused_for_versions_that_do_not_know_it() -> None:
    cases = (case for family in FAMILIES.values() for case in family())
    case = next(case for case in cases if case.id.startswith("Add bfloat16"))
    with pytest.raises(Refused, match=r"up to 2\.2 has no bfloat16; cast to float32"):
        written(case)


def test_a_version_that_is_not_known_is_refused() -> None:
    graph = next(iter(CASES.values())).graph
    with pytest.raises(ValueError, match=r"mindspore must be one of 2\.3, 2\.0, got '9'"):
        TARGET.encode(graph, mindspore="9")
