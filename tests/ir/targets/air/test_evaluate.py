"""The evaluator reads the file alone and tells what does not fit."""

from pathlib import Path

import numpy as np
import pytest

from fnckpt.errors import FormatError
from fnckpt.ir.evaluate import evaluate as reference
from fnckpt.ir.operators import apply
from fnckpt.ir.targets.air import TARGET
from fnckpt.ir.targets.air.evaluate import evaluate
from fnckpt.ir.targets.target import ValueSummary
from fnckpt.proto.ge_ir_pb2 import ModelDef, OpDef
from tests.ir.targets.air.models import given, graph_of, small_network, write


def arrays() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=shape).astype(np.float32) for shape in ((2, 3, 8, 8), (2, 6))]


def test_a_network_computes_what_its_graph_means(tmp_path: Path) -> None:
    graph = small_network()
    found = evaluate(write(graph, tmp_path), arrays())
    for a, b in zip(found, reference(graph, arrays()), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_the_order_of_the_operators_does_not_matter(tmp_path: Path) -> None:
    path = write(small_network(), tmp_path)
    expected = evaluate(path, arrays())
    model = ModelDef.FromString(path.read_bytes())
    ops = [OpDef.FromString(op.SerializeToString()) for op in model.graph[0].op]
    del model.graph[0].op[:]
    model.graph[0].op.extend(reversed(ops))
    path.write_bytes(model.SerializeToString())
    for a, b in zip(evaluate(path, arrays()), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_input_of_another_type_is_named(tmp_path: Path) -> None:
    x = given("x", 2)
    path = write(graph_of((x,), apply("Neg", x)), tmp_path)
    with pytest.raises(ValueError, match=r"x: expected FLOAT\[2\], found float64\[2\]"):
        evaluate(path, [np.zeros(2)])
    with pytest.raises(ValueError, match="expected 1 inputs, found 0"):
        evaluate(path, [])


def test_a_result_that_is_not_as_declared_is_an_error(tmp_path: Path) -> None:
    x = given("x", 2)
    path = write(graph_of((x,), apply("Neg", x)), tmp_path)
    model = ModelDef.FromString(path.read_bytes())
    model.graph[0].op[1].output_desc[0].shape.dim[0] = 3
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        FormatError, match=r"y0: output 0 of Neg is float32\[2\], declared FLOAT\[3"
    ):
        evaluate(path, [np.zeros(2, np.float32)])


def test_a_type_without_a_kernel_is_named(tmp_path: Path) -> None:
    x = given("x", 2)
    path = write(graph_of((x,), apply("Neg", x)), tmp_path)
    model = ModelDef.FromString(path.read_bytes())
    model.graph[0].op[1].type = "Softsign"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FormatError, match="y0: there is no kernel of Softsign here"):
        evaluate(path, [np.zeros(2, np.float32)])


def test_the_summary_has_the_users_names(tmp_path: Path) -> None:
    summary = TARGET.summarize(write(small_network(), tmp_path))
    assert summary.inputs == (
        ValueSummary("x", "float32", (2, 3, 8, 8)),
        ValueSummary("scale", "float32", (2, 6)),
    )
    assert [value.name for value in summary.outputs] == ["y0", "TopK:0", "y2"]
    assert [value.name for value in summary.parameters] == [
        "params.Conv_0.kernel", "params.Conv_0.bias", "params.Dense_0.kernel",
        "params.Dense_0.bias",
    ]  # fmt: skip
    conv = next(node for node in summary.nodes if node.op == "Conv2D")
    assert conv.inputs == ("x", "params.Conv_0.kernel", "params.Conv_0.bias")
    assert conv.outputs == ("Conv",)
