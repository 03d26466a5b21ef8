"""Every operator and dtype of the shared table, in ONNX Runtime, or refused with the reason."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from fnckpt.ir.evaluate import evaluate as reference
from fnckpt.ir.graph import aval_of
from fnckpt.ir.operators import OPERATORS, apply
from fnckpt.ir.passes.rewrite import Op
from fnckpt.ir.targets.onnx import TARGET
from fnckpt.ir.targets.onnx.check import check
from fnckpt.ir.targets.onnx.emit import CANNOT, EMITTERS
from fnckpt.ir.targets.onnx.legalize import LEGALIZE
from fnckpt.ir.targets.target import Refused, legalized
from tests.ir.targets.cases import FAMILIES, OperatorCase

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
LIMITS = {np.dtype(n): e for n, e in (("float16", 4e-3), ("float32", 1e-5), ("float64", 1e-12))}
LIMITS[BFLOAT16] = 2e-2

# What ONNX Runtime has no kernel of on the CPU, and what is composed of nothing else.
REFUSED = {
    r"^ConvTranspose float64": "ONNX Runtime has no kernel of ",
    r"^MaxPool int": "ONNX Runtime has no kernel of ",
    r"^NextAfter ": "ONNX cannot read the bits of a float; ",
}


def meaningful(case: OperatorCase) -> bool:
    """Functions of floats are not applied to integers, nor is anything lowered to that."""
    kind = case.inputs[0].dtype.kind
    floats = ("Round", "Floor", "Ceil", "IsNan", "IsInf", "IsFinite", "Relu")
    return not (case.op in floats and kind in "biu") and not (
        case.op == "BitwiseNot" and kind == "b"
    )


# ONNX Runtime passes over NaN here.
PASSES_OVER_NAN = r"^MaxPool .*NaN"


def refusal(case: OperatorCase) -> str | None:
    """What the refusal of ``case`` says; None where it can be written."""
    return next((text for name, text in REFUSED.items() if re.search(name, case.id)), None)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_operators_computes_what_it_means_or_is_refused(
    family: str, tmp_path: Path
) -> None:
    for case in filter(meaningful, FAMILIES[family]()):
        exported(case, tmp_path / "case.onnx")


def test_attention_as_one_operator_is_refused_before_opset_23() -> None:
    case = next(each for each in FAMILIES["attentions"]() if each.id.startswith("Attention fl"))
    with pytest.raises(Refused, match=r"needs opset 23; pass opset=23 or newer"):
        TARGET.encode(legalized(case.graph, TARGET), opset=20)


def exported(case: OperatorCase, path: Path) -> None:
    wanted = refusal(case)
    if wanted is not None:
        with pytest.raises(Refused) as refused:
            TARGET.encode(legalized(case.graph, TARGET))
        assert wanted in str(refused.value), case.id
        return
    path.write_bytes(b"".join(TARGET.encode(legalized(case.graph, TARGET)).parts))
    assert check(path) == [], case.id
    right = reference(case.graph, case.inputs)
    for found, wanted_array in zip(computed(path, case.inputs), right, strict=True):
        if re.search(PASSES_OVER_NAN, case.id):
            assert not np.array_equal(found, wanted_array, equal_nan=True), case.id
        else:
            close(case.id, found, wanted_array)


def computed(path: Path, inputs: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The outputs in ONNX Runtime; bfloat16, which numpy lacks, goes in and out by Casts."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16:
            _through_float32(model, value.name)
    wide = [x.astype(np.float32) if x.dtype == BFLOAT16 else x for x in inputs]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    kinds = [value.type.tensor_type.elem_type for value in onnx.load(path).graph.output]
    results = session.run(None, dict(zip(names, wide, strict=True)))
    for found, kind in zip(results, kinds, strict=True):
        narrow = kind == onnx.TensorProto.BFLOAT16
        yield np.asarray(found).astype(BFLOAT16) if narrow else np.asarray(found)


def _through_float32(model: onnx.ModelProto, name: str) -> None:
    """Give the model a float32 input or output in place of a bfloat16 one."""
    graph, inner = model.graph, f"{name}/bfloat16"
    given = [value for value in graph.input if value.name == name]
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [inner if each == name else each for each in names]
    to = onnx.TensorProto.BFLOAT16 if given else onnx.TensorProto.FLOAT
    ends = ([name], [inner]) if given else ([inner], [name])
    cast = onnx.helper.make_node("Cast", *ends, to=to)
    graph.node.insert(0 if given else len(graph.node), cast)
    for value in (*graph.input, *graph.output):
        if value.name == name:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def close(name: str, found: np.ndarray, right: np.ndarray) -> None:
    assert (found.shape, found.dtype) == (right.shape, right.dtype), name
    if right.dtype not in LIMITS:
        np.testing.assert_array_equal(found, right, name)
        return
    x, y = found.astype(np.float64), right.astype(np.float64)
    finite = np.isfinite(y)
    np.testing.assert_array_equal(x[~finite], y[~finite], name)
    scale = np.max(np.abs(y[finite]), initial=1.0)
    assert np.max(np.abs(x[finite] - y[finite]), initial=0.0) <= LIMITS[right.dtype] * scale, name


def test_every_operator_is_emitted_rewritten_or_explained() -> None:
    rewritten = {rule.pattern.op for rule in LEGALIZE if isinstance(rule.pattern, Op)}
    assert set(OPERATORS) <= set(EMITTERS) | set(CANNOT) | rewritten
    assert not set(EMITTERS) & set(CANNOT)


@pytest.mark.parametrize("opset", [13, 17, 18, 20, 23])
def test_a_file_says_the_opset_that_was_asked_for(opset: int, tmp_path: Path) -> None:
    case = next(c for c in FAMILIES["reductions"]() if c.id.startswith("ReduceMax float32"))
    path = tmp_path / "case.onnx"
    path.write_bytes(b"".join(TARGET.encode(case.graph, opset=opset).parts))
    assert check(path) == []
    assert onnx.load(path).opset_import[0].version == opset


@pytest.mark.parametrize("opset", [12, 999])
def test_an_opset_that_there_is_not_is_refused(opset: int) -> None:
    case = next(iter(FAMILIES["reductions"]()))
    with pytest.raises(ValueError, match=f"opset must be 13 to .*, got {opset}"):
        TARGET.encode(case.graph, opset=opset)


def test_weights_are_initializers_of_their_own_name_and_bytes(tmp_path: Path) -> None:
    import fnckpt

    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    params = {"dense": {"kernel": weight}}
    sample = np.ones((1, 2), np.float32)
    net = fnckpt.export(
        params, lambda p, x: x @ p["dense"]["kernel"], sample, "ONNX", file_name=tmp_path / "net"
    )
    (stored,) = onnx.load(net.path).graph.initializer
    assert stored.name == "dense.kernel"
    np.testing.assert_array_equal(numpy_helper.to_array(stored), weight)
    assert aval_of(weight) == apply("Identity", net.graph.weights()[0]).aval
