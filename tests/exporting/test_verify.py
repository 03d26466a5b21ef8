"""``verify=True`` and ``report=True``: what a file computes, before it is there."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

import fnckpt
from fnckpt.exporting import runtimes, verify
from fnckpt.ir.graph import Node
from fnckpt.ir.lowering import RULES, Site
from fnckpt.ir.passes import pipeline
from fnckpt.ir.targets.onnx.emit_network import EMITTERS

X = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
PARAMS = {"w": np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)}


def net(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    with jax.named_scope("Encoder"):
        y = jnp.tanh(x @ params["w"])
    return jnp.exp(y).T.T * 2


def refused(function: Callable[..., jax.Array], folder: Path, file_format: str = "ONNX") -> str:
    old = folder / f"net.{file_format.lower()}"
    old.write_bytes(b"old")
    with pytest.raises(fnckpt.VerificationError) as caught:
        fnckpt.export(PARAMS, function, X, file_format, file_name=folder / "net", verify=True)
    assert list(folder.iterdir()) == [old]
    assert old.read_bytes() == b"old"
    return str(caught.value)


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR", "AIR"])
def test_a_right_file_tells_its_error(file_format: str, tmp_path: Path) -> None:
    result = fnckpt.export(PARAMS, net, X, file_format, file_name=tmp_path / "net", verify=True)
    assert result.verified is not None
    assert 0 <= result.verified.error < 1e-5
    assert result.verified.runtime == runtimes.RUNTIMES[file_format][0]
    assert f"{result.verified.runtime} on the sample, largest error" in repr(result)


def test_an_emitter_that_writes_another_operator_is_found_at_its_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EMITTERS, "Tanh", lambda node, w: w.node("Sin", node, *node.inputs))
    message = refused(net, tmp_path)
    line = net.__code__.co_firstlineno + 2
    assert "net: onnxruntime computes a different result for the ONNX file than JAX" in message
    assert "the first node that differs" in message
    assert f"is Encoder/Tanh: {__file__}:{line} in net: y = jnp.tanh(" in message


def test_a_rule_that_lowers_wrongly_is_found_at_its_equation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(site: Site, x: Node, *, accuracy: object) -> Node:
        return site.apply("Sin", x)

    monkeypatch.setitem(RULES, "exp", wrong)
    message = refused(net, tmp_path)
    line = net.__code__.co_firstlineno + 3
    assert f"is exp: {__file__}:{line} in net: return jnp.exp(y).T.T * 2" in message
    assert "lowered wrongly" in message


def test_a_pass_that_changes_the_result_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from fnckpt.exporting import export
    from fnckpt.ir.graph import FuncGraph
    from fnckpt.ir.passes.build import apply

    def broken(graph: FuncGraph, names: list[str]) -> FuncGraph:
        after = pipeline.run(graph, names)
        if names != ["simplify"]:
            return after
        return replace(after, outputs=tuple(apply("Neg", node) for node in after.outputs))

    monkeypatch.setattr(export, "run", broken)
    assert "the result differs after the pass simplify" in refused(net, tmp_path)


def test_a_runtime_that_is_wrong_only_together_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(path: Path, feeds: list[np.ndarray]) -> list[np.ndarray]:
        found = runtimes.run_onnx(path, feeds)
        return [x + 1 for x in found] if len(found) == 1 else found

    monkeypatch.setitem(verify.RUNTIMES, "ONNX", ("onnxruntime", wrong))
    assert "no node differs when each value is an output" in refused(net, tmp_path)


def test_a_missing_runtime_is_told_before_anything_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"verify: needs onnxruntime.*'fnckpt\[run"):
        fnckpt.export(PARAMS, net, X, "ONNX", file_name=tmp_path / "net", verify=True)
    result = fnckpt.export(PARAMS, net, X, "ONNX", file_name=tmp_path / "net", report=True)
    assert result.report is not None
    assert "onnxruntime is not installed" in result.report.read_text()


def test_a_tolerance_may_be_given(tmp_path: Path) -> None:
    with pytest.raises(fnckpt.VerificationError, match="allowed is 1e-12"):
        fnckpt.export(
            PARAMS, net, X, "ONNX", file_name=tmp_path / "net", dtype="float16", verify=1e-12
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_narrow_file_is_verified_with_its_own_tolerance(dtype: str, tmp_path: Path) -> None:
    file_format = "ONNX" if dtype == "float16" else "MINDIR"
    result = fnckpt.export(
        PARAMS, net, X, file_format, file_name=tmp_path / "net", dtype=dtype, verify=True
    )
    assert result.verified is not None
    assert result.verified.tolerance == verify.TOLERANCES[dtype]


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR"])
def test_shapes_alone_and_symbols_are_verified_on_random_inputs(
    file_format: str, tmp_path: Path
) -> None:
    result = fnckpt.export(
        {},
        lambda _, x, i, flag: (jnp.where(flag, x, -x).sum(1), i.argmax(-1)),
        (("b", "n"), "i32[b,3]", "bool[b,1]"),
        file_format,
        file_name=tmp_path / "net",
        verify=True,
    )
    assert result.verified is not None
    assert result.verified.given == "random inputs"
    assert result.verified.errors["output.1"] == 0


def test_integers_that_differ_are_counted() -> None:
    assert verify.error_of(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])) == 0.25
    assert verify.error_of(np.ones(2, np.float32), np.ones(3, np.float32)) == float("inf")


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR", "AIR"])
def test_a_report_beside_the_file_has_every_stage(file_format: str, tmp_path: Path) -> None:
    result = fnckpt.export(PARAMS, net, X, file_format, file_name=tmp_path / "net", report=True)
    assert result.report == tmp_path / f"net.{file_format.lower()}.md"
    assert result.report is not None
    text = result.report.read_text()
    stages = ["traced", "lowered", "pass ", "legalized", "emitted", "run", "written", "checked"]
    places = [text.index(f"\n| {stage}") for stage in stages]
    assert places == sorted(places)
    assert "| output | " in text
    assert "Encoder" in text
    assert "| checked | no problems |" in text


def test_a_node_tells_its_module_primitive_and_source_line(tmp_path: Path) -> None:
    path = fnckpt.export(PARAMS, net, X, "ONNX", file_name=tmp_path / "net").path
    onnx.checker.check_model(str(path), full_check=True)
    (node,) = [node for node in onnx.load(path).graph.node if node.op_type == "Tanh"]
    line = net.__code__.co_firstlineno + 2
    assert {entry.key: entry.value for entry in node.metadata_props} == {
        "module": "Encoder",
        "primitive": "tanh",
        "source": f"test_verify.py:{line} in net",
    }


def test_metadata_is_the_same_bytes_each_time_costs_little_and_can_be_left_out(
    tmp_path: Path,
) -> None:
    files = [
        fnckpt.export(PARAMS, net, X, "ONNX", file_name=tmp_path / name, metadata=metadata)
        for name, metadata in (("a", True), ("b", True), ("c", False))
    ]
    one, two, without = (file.path.read_bytes() for file in files)
    assert one == two
    assert b"metadata" not in without
    assert b"test_verify.py" not in without
    assert str(tmp_path.parent).encode() not in one
    assert len(one) - len(without) < 120 * files[0].nodes
