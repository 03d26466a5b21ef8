"""MindIR files of MindSpore's own, and of ours, as functions of JAX."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

import fnckpt
from fnckpt.importing.load import load_graph
from fnckpt.ir.targets import target
from fnckpt.picture.graph import graph as drawn
from fnckpt.proto.mind_ir_pb2 import ModelProto
from tests.importing.test_load import X, net, weights
from tests.ir.sources.mindir.cells import CELLS

NETWORKS = (
    "bert", "choosing", "extremes", "lstm_net", "net_with_if", "net_with_while", "resnet", "unet",
)  # fmt: skip
NAMES = (*CELLS, *NETWORKS)
GOLDEN = Path(__file__).parents[3] / "golden"
DAYS = 5  # until each had its turn in JAX and in MindSpore
TURN = NAMES[date.today().toordinal() % DAYS :: DAYS]


def test_there_are_100_cells() -> None:
    assert len(CELLS) >= 100


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what MindSpore exported; in a process of its own."""
    pytest.importorskip("mindspore")
    folder = tmp_path_factory.mktemp("cells")
    command = [sys.executable, "-m", "tests.ir.sources.mindir.exporting", str(folder), *TURN]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.filterwarnings("ignore:.*64 bits are not enabled")
@pytest.mark.parametrize("name", TURN)
def test_a_cell_of_mindspore_computes_the_same(name: str, exported: Path) -> None:
    inputs, wanted = pickle.loads((exported / f"{name}.pkl").read_bytes())
    params, apply_fn = load_graph(exported / f"{name}.mindir")
    found = jax.tree.leaves(jax.jit(apply_fn)(params, *inputs))
    for a, b in zip(found, wanted, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mindspore", ["2.3", "2.0"])
def test_files_of_ours_give_back_the_parameters(mindspore: str, tmp_path: Path) -> None:
    file = fnckpt.export(
        weights(), net, X, "MINDIR", file_name=tmp_path / "net", mindspore=mindspore
    )
    params, apply_fn = load_graph(file)
    assert jax.tree.structure(params) == jax.tree.structure(weights())
    np.testing.assert_allclose(apply_fn(params, X), net(weights(), X), rtol=1e-5, atol=1e-5)


def test_weights_beside_the_graph_are_read(tmp_path: Path) -> None:
    wide = {"w": np.ones((64, 64), np.float32)}
    x = np.ones((1, 64), np.float32)
    file = fnckpt.export(wide, lambda p, x: x @ p["w"], x, "MINDIR",
                         file_name=tmp_path / "net", external_data=True)  # fmt: skip
    params, apply_fn = load_graph(file)
    np.testing.assert_allclose(apply_fn(params, x), np.full((1, 64), 64))


def test_a_loop_and_a_branch_come_back(tmp_path: Path) -> None:
    def looped(_: object, x: jax.Array | np.ndarray) -> jax.Array:
        doubled = jax.lax.while_loop(lambda y: y.sum() < 50, lambda y: y * 2, x)
        return jax.lax.cond(x[0] > 0, lambda y: y + 1, lambda y: y - 1, doubled)

    x = np.array([1.0, 2.0], np.float32)
    file = fnckpt.export({}, looped, x, "MINDIR", file_name=tmp_path / "net")
    params, apply_fn = load_graph(file)
    for given in (x, np.array([-1.0, 2.0], np.float32)):
        np.testing.assert_allclose(jax.jit(apply_fn)(params, given), looped(None, given))


def test_a_primitive_without_a_rule_is_named(tmp_path: Path) -> None:
    file = fnckpt.export(weights(), net, X, "MINDIR", file_name=tmp_path / "net")
    model = ModelProto.FromString(file.path.read_bytes())
    model.primitives[0].op_type = "Blur"
    with pytest.raises(fnckpt.UnsupportedError, match="Blur: "):
        load_graph(model.SerializeToString())


def weights_twice(model: ModelProto) -> None:
    model.graph.parameter.add().CopyFrom(model.graph.parameter[0])


def functions_twice(model: ModelProto) -> None:
    model.functions.add(name="f")
    model.functions.add(name="f")


def cycle(model: ModelProto) -> None:
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    nodes[0].input[0] = nodes[-1].output[0]


def called_array(model: ModelProto) -> None:
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    nodes[-1].op_type = f"REF::{nodes[0].output[0]}"


def deep(model: ModelProto) -> None:
    """Functions inside each other, too many for Python's stack."""
    last = next(node for node in reversed(model.graph.node) if node.op_type != "Constant")
    for i in range(300):
        function = model.functions.add(name=f"f{i}")
        function.input.add(name=f"x{i}")
        function.output.add(name=f"y{i}")
        function.node.add(op_type=f"REF::f{i + 1}" if i < 299 else last.op_type,
                          input=[f"x{i}"], output=[f"y{i}"], name=f"n{i}")  # fmt: skip
    last.op_type = "REF::f0"
    del last.input[1:]


def tuples(model: ModelProto, copies: int) -> None:
    """Tuples in tuples, each of so many copies of the one before."""
    model.primitives.add(name="pair", op_type="MakeTuple")
    value = model.graph.input[0].name
    for i in range(2000):
        model.graph.node.add(op_type="REF::pair", input=[value] * copies, output=[f"t{i}"])
        value = f"t{i}"
    model.graph.output[0].name = value


@pytest.mark.parametrize(
    ("change", "told"),
    [(weights_twice, "two weights are called"), (functions_twice, "two functions are called 'f'"),
     (cycle, "is used before it is computed"), (called_array, "is called as a function"),
     (deep, "more than 200 functions inside each other"),
     (partial(tuples, copies=2), "tuples in tuples, too many or too deep"),
     (partial(tuples, copies=1), "tuples in tuples, too many or too deep")],
)  # fmt: skip
def test_a_damaged_file_is_a_format_error(
    change: Callable[[ModelProto], None], told: str, tmp_path: Path
) -> None:
    file = fnckpt.export(weights(), net, X, "MINDIR", file_name=tmp_path / "net")
    model = ModelProto.FromString(file.path.read_bytes())
    change(model)
    with pytest.raises(fnckpt.FormatError, match=told):
        load_graph(model.SerializeToString())


@pytest.mark.parametrize("end", [0, 1, 7, 40])
def test_a_file_that_is_cut_off_is_a_format_error(end: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.mindir"
    file = fnckpt.export(weights(), net, X, "MINDIR", file_name=tmp_path / "net")
    path.write_bytes(file.path.read_bytes()[:end])
    with pytest.raises(fnckpt.FormatError, match=r"cut\.mindir"):
        load_graph(path)


@pytest.mark.parametrize("location", ["../w", "/etc/passwd", "a\0b", "", "missing"])
def test_weights_that_lie_elsewhere_are_not_read(location: str, tmp_path: Path) -> None:
    file = fnckpt.export(weights(), net, X, "MINDIR", file_name=tmp_path / "net")
    model = ModelProto.FromString(file.path.read_bytes())
    tensor = model.graph.parameter[0]
    tensor.external_data.location, tensor.external_data.length = location, 4
    file.path.unlink()
    path = tmp_path / "other.mindir"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(fnckpt.FormatError, match=r"not beside the model|there is no such file"):
        load_graph(path)


# The slopes of primitives as MindSpore 2.0 keeps them in its wheel: functions without types.
@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("GatherD", {"GatherDGradV2"}),
        ("Sigmoid", {"SigmoidGrad"}),
        ("Split", {"Concat", "getattr"}),
    ],
)
def test_a_function_without_types_is_drawn_and_its_operators_named(
    name: str, operators: set[str]
) -> None:
    path = GOLDEN / f"mindspore-2.0.0-{name}_bprop.mindir"
    summary = target("MINDIR").summarize(path)
    assert operators <= {node.op for node in summary.nodes}
    assert {value.dtype for value in summary.inputs} == {"unknown"}
    assert all(operator in drawn(summary) for operator in operators)
    with pytest.raises(fnckpt.UnsupportedError) as caught:
        load_graph(path)
    assert any(f"  {operator}: '" in str(caught.value) for operator in operators)
