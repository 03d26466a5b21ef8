"""``load_graph``: what a file gives, what a hostile one gives, and the way there and back."""

import io
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fnckpt
from fnckpt.importing.load import load_graph


def net(params: dict[str, dict[str, jax.Array]], x: np.ndarray | jax.Array) -> jax.Array:
    hidden = jax.nn.relu(x @ params["first"]["kernel"] + params["first"]["bias"])
    return jax.nn.log_softmax(hidden @ params["last"]["kernel"])


def weights() -> dict[str, dict[str, jax.Array]]:
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "first": {"kernel": jax.random.normal(keys[0], (3, 8)), "bias": jnp.arange(8.0)},
        "last": {"kernel": jax.random.normal(keys[1], (8, 2))},
    }


X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def exported(tmp_path: Path) -> fnckpt.ExportResult:
    return fnckpt.export(weights(), net, X, "ONNX", file_name=tmp_path / "net")


def test_parameters_come_back_by_their_paths_and_are_all_there_is(tmp_path: Path) -> None:
    params, apply_fn = load_graph(exported(tmp_path))
    assert jax.tree.structure(params) == jax.tree.structure(weights())
    np.testing.assert_allclose(apply_fn(params, X), net(weights(), X), rtol=1e-5, atol=1e-6)


def test_a_second_export_writes_the_same_number_of_nodes(tmp_path: Path) -> None:
    first = exported(tmp_path)
    params, apply_fn = load_graph(first)
    again = fnckpt.export(params, apply_fn, X, "ONNX", file_name=tmp_path / "again")
    assert again.nodes == first.nodes
    assert [value.name for value in again.inputs] == [value.name for value in first.inputs]


def test_gradients_are_those_of_the_original(tmp_path: Path) -> None:
    loaded = load_graph(exported(tmp_path))

    def loss(apply_fn):
        return lambda params: apply_fn(params, X)[:, 0].sum()

    found = jax.grad(loss(jax.jit(loaded.apply_fn)))(loaded.params)
    wanted = jax.grad(loss(net))(weights())
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_it_is_mapped_over_a_batch(tmp_path: Path) -> None:
    params, apply_fn = load_graph(exported(tmp_path))
    many = np.stack([X, 2 * X])
    found = jax.vmap(apply_fn, (None, 0))(params, many)
    np.testing.assert_allclose(found[1], net(weights(), 2 * X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["bytes", "open file", "path without a suffix"])
def test_bytes_and_open_files_are_read_too(kind: str, tmp_path: Path) -> None:
    content = exported(tmp_path).path.read_bytes()
    other = tmp_path / "other"
    other.write_bytes(content)
    file = {"bytes": content, "open file": io.BytesIO(content)}.get(kind, other)
    params, apply_fn = load_graph(file)
    np.testing.assert_allclose(apply_fn(params, X), net(weights(), X), rtol=1e-5, atol=1e-6)


def test_open_sizes_stay_open(tmp_path: Path) -> None:
    batch = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("b"), 3), np.float32)
    file = fnckpt.export(weights(), net, batch, "ONNX", file_name=tmp_path / "net")
    loaded = load_graph(file)
    assert str(loaded.inputs[0]) == "x: float32[b,3]"
    assert str(loaded.graph.outputs[0].aval) == "float32[b,2]"
    for rows in (1, 4):
        assert loaded.apply_fn(loaded.params, X[:rows]).shape == (rows, 2)
    again = fnckpt.export(
        loaded.params, loaded.apply_fn, batch, "ONNX", file_name=tmp_path / "again"
    )
    assert str(again.inputs[0]) == "x: float32[b,3]"


def test_external_weights_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    wide = {"w": jnp.ones((64, 64))}
    file = fnckpt.export(wide, lambda p, x: x @ p["w"], np.ones((1, 64), np.float32), "ONNX",
                         file_name=tmp_path / "net", external_data=True)  # fmt: skip
    params, _ = load_graph(file)
    weight = params["w"]
    assert isinstance(weight, np.ndarray)
    assert not weight.flags.owndata
    assert not weight.flags.writeable


def test_it_shows_itself(tmp_path: Path) -> None:
    loaded = load_graph(exported(tmp_path))
    assert "x: float32[4,3]" in repr(loaded)
    assert loaded.metadata["producer"] == "fnckpt"
    assert "<svg" in loaded._repr_html_()


def test_indices_that_a_file_of_ours_counts_from_the_end_are_right(tmp_path: Path) -> None:
    places = np.array([-4, 0, 1, -6, 9], np.int32)
    table = np.arange(15, dtype=np.float32).reshape(5, 3)

    def rows(_: object, x: jax.Array | np.ndarray, at: jax.Array | np.ndarray) -> jax.Array:
        return jnp.asarray(x)[at]

    file = fnckpt.export({}, rows, (table, places), "ONNX", file_name=tmp_path / "rows")
    params, apply_fn = load_graph(file)
    np.testing.assert_array_equal(apply_fn(params, table, places), rows(None, table, places))


# ------------------------------------------------------------------------------------ other files


def model(nodes: list[onnx.NodeProto], *, inputs: dict[str, list], outputs: list[str],
          arrays: dict[str, np.ndarray] | None = None, opset: int = 20) -> bytes:  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(value, name) for name, value in (arrays or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.acme", 1)]
    return helper.make_model(graph, opset_imports=opsets).SerializeToString()


def test_every_operator_without_a_rule_is_named_at_once() -> None:
    content = model(
        [helper.make_node("Blur", ["x"], ["a"], name="one", domain="com.acme"),
         helper.make_node("NonZero", ["a"], ["b"], name="two")],
        inputs={"x": [2, 3]}, outputs=["b"],
    )  # fmt: skip
    with pytest.raises(fnckpt.UnsupportedError) as caught:
        load_graph(content)
    assert "com.acme.Blur: 'one'" in str(caught.value)
    assert "NonZero: 'two'" in str(caught.value)
    assert "depends on data" in str(caught.value)


def test_a_shape_that_depends_on_data_is_refused_by_name() -> None:
    content = model(
        [helper.make_node("Cast", ["x"], ["n"], to=TensorProto.INT64, name="cast"),
         helper.make_node("Reshape", ["x", "n"], ["y"], name="shaped")],
        inputs={"x": [2]}, outputs=["y"],
    )  # fmt: skip
    loaded = load_graph(content)
    with pytest.raises(fnckpt.UnsupportedError, match=r"Reshape: 'shaped'\n.*depends on data"):
        jax.jit(loaded.apply_fn)({}, np.array([1.0, 2.0], np.float32))
    assert loaded.apply_fn({}, np.array([1.0, 2.0], np.float32)).shape == (1, 2)


def test_shapes_are_computed_from_those_of_the_inputs() -> None:
    content = model(
        [helper.make_node("Shape", ["x"], ["s"]),
         helper.make_node("Gather", ["s", "zero"], ["b"]),
         helper.make_node("Concat", ["b", "rest"], ["n"], axis=0),
         helper.make_node("Reshape", ["x", "n"], ["y"])],
        inputs={"x": ["batch", 2, 3]}, outputs=["y"],
        arrays={"zero": np.array([0]), "rest": np.array([-1])},
    )  # fmt: skip
    loaded = load_graph(content)
    assert loaded.params == {}
    assert str(loaded.graph.outputs[0].aval) == "float32[batch,6]"
    assert jax.jit(loaded.apply_fn)({}, np.ones((5, 2, 3), np.float32)).shape == (5, 6)


def test_a_float_that_says_a_shape_is_no_parameter() -> None:
    content = model(
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")],
        inputs={"x": [1, 1, 2, 2]}, outputs=["y"],
        arrays={"scales": np.array([1, 1, 2, 2], np.float32)},
    )  # fmt: skip
    params, apply_fn = load_graph(content)
    assert params == {}
    assert apply_fn(params, np.ones((1, 1, 2, 2), np.float32)).shape == (1, 1, 4, 4)


def constant(name: str, value: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def test_weights_that_a_file_keeps_in_its_nodes_train() -> None:
    nodes = [constant("w", np.eye(3, dtype=np.float32)), constant("b", np.ones(1, np.float32)),
             helper.make_node("MatMul", ["x", "w"], ["h"]),
             helper.make_node("Add", ["h", "b"], ["y"])]  # fmt: skip
    params, apply_fn = load_graph(model(nodes, inputs={"x": [1, 3]}, outputs=["y"]))
    assert list(params) == ["w"]
    assert jax.grad(lambda p: apply_fn(p, X[:1]).sum())(params)["w"].shape == (3, 3)
    b = {"b": np.ones(3, np.float32)}
    params, _ = load_graph(
        model(nodes[:1] + nodes[2:], inputs={"x": [1, 3]}, outputs=["y"], arrays=b)
    )
    assert list(params) == ["b"], "a file that has initializers means its constants as constants"


@pytest.mark.parametrize("sizes", [[-1, 3], ["?", 3], ["", 3]])
def test_a_size_that_a_file_says_nothing_of_is_open(sizes: list[int | str]) -> None:
    content = onnx.ModelProto.FromString(
        model([helper.make_node("Add", ["x", "z"], ["y"])],
              inputs={"x": sizes, "z": sizes}, outputs=["y"])
    )  # fmt: skip
    loaded = load_graph(content.SerializeToString())
    assert [str(each) for each in loaded.inputs] == ["x: float32[x_0,3]", "z: float32[z_0,3]"]
    assert loaded.apply_fn({}, X[:2], X[:1]).shape == (2, 3)


HOSTILE = {
    "a name that does not exist": (
        [helper.make_node("Add", ["x", "nothing"], ["y"])], {}, "'nothing'.*nothing before"),
    "a cycle": (
        [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
         helper.make_node("Relu", ["b"], ["y"])], {}, "cycle"),
    "shapes that do not go together": (
        [helper.make_node("MatMul", ["x", "x"], ["y"], name="m")], {}, "'m'.*do not go together"),
    "more inputs than the operator has": (
        [helper.make_node("Relu", ["x"] * 5, ["y"])], {}, "Relu takes 1 inputs, 5 given"),
    "bits of floats": (
        [helper.make_node("BitwiseNot", ["x"], ["y"])], {}, "BitwiseNot takes no float32"),
    "a permutation that is none": (
        [helper.make_node("Transpose", ["x"], ["y"], perm=[0, 0])], {}, "do not go together"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_what_makes_no_sense_is_a_format_error(what: str) -> None:
    nodes, arrays, reason = HOSTILE[what]
    content = model(nodes, inputs={"x": [2, 3]}, outputs=["y"], arrays=arrays)
    with pytest.raises(fnckpt.FormatError, match=reason):
        load_graph(content).apply_fn({}, np.ones((2, 3), np.float32))


def test_a_result_of_any_size_is_refused_before_it_is_made() -> None:
    content = model(
        [helper.make_node("ConstantOfShape", ["n"], ["y"])],
        inputs={"x": [1]}, outputs=["y"], arrays={"n": np.array([1 << 40])},
    )  # fmt: skip
    with pytest.raises(fnckpt.UnsupportedError, match="larger than"):
        load_graph(content).apply_fn({}, np.ones(1, np.float32))


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers)


def looped(*inner: onnx.NodeProto) -> onnx.GraphProto:
    """The body of a loop that carries ``v``, and stacks it as well."""
    value = helper.make_tensor_value_info
    nodes = [*inner, helper.make_node("Identity", ["c"], ["c2"]),
             helper.make_node("Identity", ["v"], ["q"])]  # fmt: skip
    given = [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []),
             value("v", TensorProto.FLOAT, None)]  # fmt: skip
    results = [value("c2", TensorProto.BOOL, []),
               *(value(each, TensorProto.FLOAT, None) for each in ("w", "q"))]  # fmt: skip
    return helper.make_graph(nodes, "b", given, results)


# Few bytes that ask for much: the nodes, and the arrays that they take.
GREEDY: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "a mirror": (
        [helper.make_node("Pad", ["x", "n"], ["y"], mode="reflect")],
        {"n": ints(0, 1 << 30, 0, 1 << 30)}),
    "a range": (
        [helper.make_node("Range", ["a", "n", "b"], ["y"])],
        {"a": np.array(0), "n": np.array(1 << 28), "b": np.array(1)}),
    "an image": (
        [helper.make_node("Unsqueeze", ["x", "a"], ["u"]),
         helper.make_node("Resize", ["u", "", "", "n"], ["y"], mode="linear")],
        {"a": ints(0, 1), "n": ints(1, 1, 1 << 27, 3)}),
    "mels": (
        [helper.make_node("MelWeightMatrix", ["n", "n", "r", "f", "r"], ["y"])],
        {"n": np.array(1 << 20), "r": np.array(8000), "f": np.array(0)}),
    "windows": (
        [helper.make_node("Unsqueeze", ["x", "a"], ["u"]),
         helper.make_node("MaxPool", ["u"], ["y"], kernel_shape=[1 << 17], dilations=[2],
                          pads=[1 << 17, 1 << 17])], {"a": ints(0)}),
    "doubling": (
        [helper.make_node("Loop", ["n", "", "x"], ["a", "y"], body=looped(
            helper.make_node("Concat", ["v", "v"], ["w"], axis=0)))], {"n": np.array(60)}),
    "trips": (
        [helper.make_node("Loop", ["n", "", "x"], ["a", "y"], body=looped(
            helper.make_node("Neg", ["v"], ["w"])))], {"n": np.array(1 << 50)}),
}  # fmt: skip


@pytest.mark.parametrize("what", GREEDY)
def test_what_asks_for_more_than_memory_is_refused_before_it_is_made(what: str) -> None:
    nodes, arrays = GREEDY[what]
    content = model(nodes, inputs={"x": [2, 3]}, outputs=["y"], arrays=arrays)
    with pytest.raises(fnckpt.UnsupportedError, match=r"larger than|it asks for|more than"):
        load_graph(content).apply_fn({}, np.ones((2, 3), np.float32))


@pytest.mark.parametrize("size", ["2^99999999", "2^(9^9)", "-5", "9" * 30])
def test_a_size_that_is_a_riddle_is_open(size: str) -> None:
    content = model([helper.make_node("Relu", ["x"], ["y"])], inputs={"x": [size]}, outputs=["y"])
    assert str(load_graph(content).inputs[0]) == "x: float32[x_0]"


def test_functions_that_double_again_and_again_are_refused() -> None:
    functions = []
    for level in range(40):
        inner = "Relu" if level == 0 else f"f{level - 1}"
        domain = "" if level == 0 else "com.acme"
        nodes = [helper.make_node(inner, ["a"], ["b"], domain=domain),
                 helper.make_node(inner, ["b"], ["c"], domain=domain)]  # fmt: skip
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.acme", 1)]
        functions.append(helper.make_function("com.acme", f"f{level}", ["a"], ["c"], nodes, opsets))
    graph = helper.make_graph(
        [helper.make_node("f39", ["x"], ["y"], domain="com.acme")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.acme", 1)]
    content = helper.make_model(graph, functions=functions, opset_imports=opsets)
    with pytest.raises(fnckpt.FormatError, match="nodes"):
        load_graph(content.SerializeToString())


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "missing"])
def test_no_file_but_those_beside_the_model_is_opened(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(8))
    tensor = TensorProto(name="w", dims=[2], data_type=TensorProto.FLOAT,
                         data_location=TensorProto.EXTERNAL)  # fmt: skip
    tensor.external_data.add(key="location", value=location)
    content = onnx.ModelProto.FromString(
        model([helper.make_node("Add", ["x", "w"], ["y"])], inputs={"x": [2]}, outputs=["y"])
    )
    content.graph.initializer.append(tensor)
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "net.onnx"
    path.write_bytes(content.SerializeToString())
    with pytest.raises(fnckpt.FormatError, match=re.escape(repr(location))):
        load_graph(path)


@pytest.mark.parametrize("end", [0, 1, 7, 40, 200])
def test_a_file_that_is_cut_off_is_a_format_error(end: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(exported(tmp_path).path.read_bytes()[:end])
    with pytest.raises(fnckpt.FormatError, match=r"cut\.onnx"):
        load_graph(path)


def test_what_has_64_bits_is_told_where_jax_has_32(tmp_path: Path) -> None:
    content = onnx.ModelProto.FromString(
        model([helper.make_node("Add", ["x", "x"], ["y"])], inputs={"x": [2]}, outputs=["y"])
    )
    for value in (*content.graph.input, *content.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.warns(UserWarning, match="x is float32 for float64"):
        loaded = load_graph(content.SerializeToString())
    assert "narrowed" in repr(loaded)
    assert loaded.apply_fn({}, np.ones(2)).dtype == np.float32


@pytest.mark.parametrize("kind", ["ONNX", "MINDIR", "AIR"])
def test_a_file_that_is_cut_off_while_it_is_read_is_an_error_and_not_the_end(
    kind: str, tmp_path: Path
) -> None:
    """Nor do arrays that were loaded end the process when the file is cut off later."""
    child = f"""
import sys, numpy as np, fnckpt
from pathlib import Path
from fnckpt.ir.sources import mapping
from fnckpt.ir.targets import foreign
path = Path({str(tmp_path / "net")!r}).with_suffix({f".{kind.lower()}"!r})
params = {{"w": np.ones((512, 512), np.float32)}}
fnckpt.export(params, lambda p, x: x @ p["w"], (1, 512), {kind!r}, file_name=path)
loaded = fnckpt.load_graph(path)
whole = path.read_bytes()
with path.open("r+b") as file:
    file.truncate(len(whole) // 4)
assert sum(map(np.sum, loaded.params.values())) == 512 * 512
size = foreign.regular_size
def cut(given, kind):
    path.write_bytes(whole)
    found = size(given, kind)
    with path.open("r+b") as file:
        file.truncate(len(whole) // 4)
    return found
foreign.regular_size = mapping.regular_size = cut
try:
    fnckpt.load_graph(path)
except fnckpt.FormatError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", child], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "net"))
