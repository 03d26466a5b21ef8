"""What stands in a written file, and what MindSpore makes of whole graphs."""

from pathlib import Path

import numpy as np
import pytest

from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph, Node, Origin, Parameter, aval_of
from fnckpt.ir.operators import apply, constant
from fnckpt.ir.targets.mindir import TARGET, check
from fnckpt.ir.targets.target import Refused, legalized
from fnckpt.proto.mind_ir_pb2 import ModelProto
from tests.ir.targets.mindir.judge import judge

X = np.arange(6, dtype=np.float32).reshape(2, 3)
GIVEN = Parameter("x", aval_of(X))
UNUSED = Parameter("y", aval_of(X))
WEIGHT = Parameter("params.w", aval_of(X), X * 2)
TURNED = Parameter("params.turned", aval_of(X), X.reshape(3, 2).T)
SUM = apply("Add", GIVEN, WEIGHT)


def graph(*outputs: Node) -> FuncGraph:
    """A graph of the two inputs."""
    names = tuple(f"out{i}" for i in range(len(outputs)))
    return FuncGraph("net", (GIVEN, UNUSED), outputs, names)


GRAPHS = {
    "an input as result": graph(GIVEN),
    "an unused input as result": graph(UNUSED),
    "a weight as result": graph(WEIGHT),
    "a constant as result": graph(constant(X)),
    "a result twice": graph(SUM, SUM),
    "all kinds of results": graph(GIVEN, WEIGHT, constant(X), SUM, GIVEN),
    "an identity as result": graph(apply("Identity", GIVEN)),
    "a weight that is a view": graph(apply("Add", GIVEN, TURNED)),
    "one weight used twice": graph(apply("Mul", SUM, WEIGHT)),
    "a scalar": graph(apply("ReduceSum", GIVEN, axes=(0, 1), keepdims=False)),
}


def test_mindspore_gives_the_results_of_every_kind_of_graph(tmp_path: Path) -> None:
    names = {name: f"graph{i}" for i, name in enumerate(GRAPHS)}
    for name, each in GRAPHS.items():
        path = tmp_path / f"{names[name]}.mindir"
        path.write_bytes(b"".join(TARGET.encode(legalized(each, TARGET)).parts))
        assert check(path) == []
    judged = judge(tmp_path, dict.fromkeys(names.values(), (X, X + 1)))
    for name, each in GRAPHS.items():
        result = judged[names[name]]
        assert not result.error, (name, result.error)
        wanted = evaluate(each, (X, X + 1))
        assert len(result.outputs) == len(wanted), name
        for a, b in zip(result.outputs, wanted, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def model(each: FuncGraph) -> ModelProto:
    """The message of a graph."""
    return ModelProto.FromString(b"".join(TARGET.encode(legalized(each, TARGET)).parts))


def test_weights_keep_the_names_of_their_paths() -> None:
    both = model(graph(apply("Mul", SUM, TURNED)))
    assert {p.name for p in both.graph.parameter} == {"params.w", "params.turned"}


def test_unused_inputs_stay_in_order() -> None:
    assert [given.name for given in model(graph(SUM)).graph.input] == ["x", "y"]


def test_a_weight_that_lies_in_one_piece_is_not_copied() -> None:
    assert WEIGHT.value is not None
    parts = TARGET.encode(graph(SUM)).parts
    views = [np.frombuffer(part, np.uint8) for part in parts if isinstance(part, memoryview)]
    assert any(np.shares_memory(view, WEIGHT.value) for view in views)


def test_the_same_graph_gives_the_same_bytes() -> None:
    first, second = (b"".join(TARGET.encode(graph(SUM)).parts) for _ in range(2))
    assert first == second


def test_the_scope_of_a_node_is_in_its_name() -> None:
    inside = apply("Tanh", GIVEN, origin=Origin("Encoder/Dense_0"))
    names = [node.name for node in model(graph(apply("Exp", inside))).graph.node]
    assert "Encoder/Dense_0/Tanh" in names


def test_every_refused_node_is_named_at_once() -> None:
    wide = np.ones(3, np.float64)
    x = Parameter("x", aval_of(wide))
    both = apply("NextAfter", apply("NextAfter", x, x), x)
    with pytest.raises(Refused) as caught:
        TARGET.encode(legalized(FuncGraph("net", (x,), (both,), ("y",)), TARGET))
    assert [node.op for node, _ in caught.value.places] == ["NextAfter", "NextAfter"]
