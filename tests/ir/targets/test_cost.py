"""The FLOPs that a file tells of are those of the graph it was made from."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

import fnckpt
from fnckpt.ir.targets import TARGETS, target
from fnckpt.ir.targets.cost import file_costs
from fnckpt.ir.targets.target import NodeSummary, Summary
from fnckpt.showing.inspect import inspect_file
from tests.networks.zoo import ZOO

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@pytest.mark.parametrize("file_format", TARGETS)
@pytest.mark.parametrize("name", ["linen_resnet", "nnx_transformer"])
def test_the_heaviest_nodes_of_a_file_are_those_of_the_graph(
    name: str, file_format: str, tmp_path: Path
) -> None:
    params, apply_fn, inputs = ZOO[name]()
    result = fnckpt.export(params, apply_fn, inputs, file_format, file_name=tmp_path / name)
    total, unknown, heavy = file_costs(target(file_format).summarize(result.path))
    assert unknown == 0
    assert [h.flops for h in heavy[:5]] == [h.flops for h in result.heaviest()[:5]]
    assert total == pytest.approx(result.flops, rel=0.15)
    assert any("/" in h.scope for h in heavy)


def turned(w: Any, x: jax.Array) -> jax.Array:
    return jax.lax.conv_transpose(x, w, (2, 2), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))


@pytest.mark.parametrize("file_format", TARGETS)
def test_a_transposed_convolution_counts_what_it_paints(file_format: str, tmp_path: Path) -> None:
    kernel, x = jnp.ones((4, 3, 3, 3)), np.ones((1, 3, 5, 5), np.float32)
    result = fnckpt.export(kernel, turned, x, file_format, file_name=tmp_path / "net")
    _, _, heavy = file_costs(target(file_format).summarize(result.path))
    assert heavy[0].flops == result.heaviest()[0].flops  # MindSpore gets it as a convolution
    assert file_format == "MINDIR" or heavy[0].flops == 2 * x.size * 4 * 9


def test_shapes_that_an_onnx_file_lacks_are_inferred(tmp_path: Path) -> None:
    params, apply_fn, inputs = ZOO["linen_resnet"]()
    result = fnckpt.export(params, apply_fn, inputs, "ONNX", file_name=tmp_path / "net")
    wanted = file_costs(target("ONNX").summarize(result.path))
    model = onnx.load(result.path)
    model.graph.ClearField("value_info")
    onnx.save(model, tmp_path / "bare.onnx")
    assert file_costs(target("ONNX").summarize(tmp_path / "bare.onnx")) == wanted


def test_what_the_file_does_not_tell_is_not_counted() -> None:
    nodes = (
        NodeSummary("a", "MatMul", ("x", "w"), ("y",)),
        NodeSummary("b", "Add", ("y", "y"), ("z",)),
        NodeSummary("c", "Reshape", ("z",), ("r",)),
    )
    shapes = {"x": (2, 3), "w": (3, 4), "y": (2, 4), "z": ("batch", 4)}
    total, unknown, heavy = file_costs(Summary("", (), (), (), nodes, shapes))
    assert (total, unknown, [h.scope for h in heavy]) == (2 * 2 * 4 * 3, 1, ["a"])


@pytest.mark.parametrize("file_format", TARGETS)
def test_inspect_shows_bytes_operations_and_the_heaviest(file_format: str, tmp_path: Path) -> None:
    params, apply_fn, inputs = ZOO["linen_mlp"]()
    result = fnckpt.export(params, apply_fn, inputs, file_format, file_name=tmp_path / "net")
    tables = {table.title: table for table in inspect_file(result.path)}
    (held,) = (int(t.split()[1].replace(",", "")) for t in tables if t.startswith("parameters"))
    constants = 100 if file_format == "ONNX" else 0  # which ONNX keeps among them
    assert 0 <= held - result.parameter_bytes <= constants
    (costs,) = (table for title, table in tables.items() if "FLOPs" in title)
    assert costs.header == ("operator", "node", "FLOPs", "share")
    assert costs.rows[0][2] == result.heaviest()[0].flops
    assert costs.texts()[0][2] == f"{result.heaviest()[0].flops:,}"


def dense(params: Any, x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ params["w"] + params["b"]).sum(-1)


DENSE = {"w": jnp.ones((3, 4)), "b": jnp.ones(4)}


@pytest.mark.parametrize("file_format", TARGETS)
def test_a_result_and_inspect_count_the_same(file_format: str, tmp_path: Path) -> None:
    x = np.ones((5, 3), np.float32)
    result = fnckpt.export(DENSE, dense, x, file_format, file_name=tmp_path / "net")
    titles = [table.title for table in inspect_file(result.path)]
    assert f"{result.flops:,} FLOPs, of the heaviest nodes" in titles
    assert sorted(h.flops for h in result.heaviest())[-3:] == [20, 20, 120]
    kept = result.flops, result.heaviest()
    result.path.unlink()
    assert (result.flops, result.heaviest()) == kept


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR"])
def test_inspect_gives_no_total_where_a_size_is_symbolic(file_format: str, tmp_path: Path) -> None:
    (b,) = jax.export.symbolic_shape("b")
    x = jax.ShapeDtypeStruct((b, 3), jnp.float32)
    result = fnckpt.export(DENSE, dense, x, file_format, file_name=tmp_path / "net")
    assert "FLOPs      3" in repr(result)
    assert ", b = 1" in repr(result)
    assert not any("FLOPs" in table.title for table in inspect_file(result.path))
