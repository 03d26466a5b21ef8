"""What ``export`` promises of names, files and errors, whatever the network."""

import linecache
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.showing.inspect import check_file

X = np.ones((2, 3), np.float32)
PARAMS = {"dense": {"kernel": jnp.ones((3, 4)), "bias": jnp.zeros(4)}, "unused": jnp.ones(2)}


def dense(params: dict, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ params["dense"]["kernel"] + params["dense"]["bias"])


def unsupported(params: dict, x: jax.Array) -> jax.Array:
    y = jnp.fft.fft2(x)
    z = jax.lax.while_loop(lambda v: v.sum() < 9, lambda v: v + 1, x)
    return jax.pure_callback(lambda v: v, z, z) + jnp.abs(y)


def test_the_suffix_is_added_only_when_it_is_missing(tmp_path: Path) -> None:
    for given in ("net", "net.onnx"):
        assert fnckpt.export(PARAMS, dense, X, "onnx", file_name=tmp_path / given).path == (
            tmp_path / "net.onnx"
        )
    versioned = fnckpt.export(PARAMS, dense, X, "ONNX", file_name=tmp_path / "net-v1.2")
    assert versioned.path.name == "net-v1.2.onnx"


def test_without_a_file_name_the_function_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fnckpt.export(PARAMS, dense, X, "AIR").path == Path("dense.air")
    assert fnckpt.export(PARAMS, lambda p, x: x + 1, X, "AIR").path == Path("model.air")


def test_an_unknown_format_is_named_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="one of MINDIR, ONNX, AIR, got 'TFLITE'"):
        fnckpt.export(PARAMS, dense, X, "TFLITE")


def test_an_option_that_a_format_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="AIR has no option opset; its options are: "):
        fnckpt.export(PARAMS, dense, X, "AIR", opset=17)


def test_the_result_tells_what_the_file_holds_and_is_a_path(tmp_path: Path) -> None:
    result = fnckpt.export(PARAMS, dense, X, "AIR", file_name=tmp_path / "net")
    assert os.fspath(result) == str(tmp_path / "net.air")
    assert [str(v) for v in result.inputs] == ["x: float32[2,3]"]
    assert [str(v) for v in result.outputs] == ["output: float32[2,4]"]
    assert result.parameters == 16  # the unused weight is not in the file
    assert result.bytes == result.path.stat().st_size
    assert "16 (64 bytes)" in repr(result)
    assert "<td style='text-align:left'>AIR</td>" in result._repr_html_()


def test_inputs_and_outputs_that_are_trees_are_named_by_their_paths(tmp_path: Path) -> None:
    def net(params: dict, batch: dict, scale: jax.Array) -> dict:
        return {"a": (batch["x"] * scale, batch["y"]), "b": params["w"]}

    batch = {"x": X, "y": X}
    result = fnckpt.export({"w": jnp.ones(2)}, net, (batch, X), "AIR", file_name=tmp_path / "net")
    assert [v.name for v in result.inputs] == ["batch.x", "batch.y", "scale"]
    assert [v.name for v in result.outputs] == ["a.0", "a.1", "b"]


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR", "AIR"])
def test_a_lone_array_as_parameters_has_a_name(file_format: str, tmp_path: Path) -> None:
    weight = np.eye(3, dtype=np.float32)
    result = fnckpt.export(weight, lambda w, x: x @ w, X, file_format, file_name=tmp_path / "net")
    assert check_file(result.path) == []
    assert [w.name for w in result.graph.weights()] == ["params"]


def test_shapes_alone_are_enough_of_a_sample(tmp_path: Path) -> None:
    sample = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    assert fnckpt.export(PARAMS, dense, sample, "AIR", file_name=tmp_path / "net").nodes > 0


def test_leaves_that_are_no_arrays_reach_the_function_as_they_are(tmp_path: Path) -> None:
    def net(params: dict, x: jax.Array) -> jax.Array:
        return params["activation"](x * params["scale"])

    params = {"activation": jnp.tanh, "scale": np.float32(2.0)}
    result = fnckpt.export(params, net, X, "AIR", file_name=tmp_path / "net")
    assert result.parameters == 1


def test_everything_unsupported_is_named_at_once_with_the_users_own_line(tmp_path: Path) -> None:
    with pytest.raises(fnckpt.UnsupportedError) as caught:
        fnckpt.export(PARAMS, unsupported, X, "AIR", file_name=tmp_path / "net")
    message = str(caught.value)
    first = unsupported.__code__.co_firstlineno
    source = [linecache.getline(__file__, first + i).strip() for i in (2, 3)]
    assert message.startswith("unsupported cannot be exported to AIR, nothing was written:\n")
    for primitive, line, text in (
        ("while", first + 2, source[0]),
        ("pure_callback", first + 3, source[1]),
    ):
        assert f"  {primitive}: {__file__}:{line} in unsupported: {text}\n    " in message
    assert list(tmp_path.iterdir()) == []


def test_a_refused_export_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    path = fnckpt.export(PARAMS, dense, X, "AIR", file_name=tmp_path / "net").path
    before = path.read_bytes()
    with pytest.raises(fnckpt.UnsupportedError):
        fnckpt.export(PARAMS, unsupported, X, "AIR", file_name=path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


BIG = """
import sys, resource
import numpy as np, jax.numpy as jnp, fnckpt
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
params = {"w": jnp.ones((1024, 1024))}
try:
    fnckpt.export(params, lambda p, x: x @ p["w"], np.ones((1, 1024), np.float32), "ONNX",
                  file_name=sys.argv[1])
except OSError as error:
    print("OSError", error.errno)
"""


def test_a_full_disk_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    path = fnckpt.export(PARAMS, dense, X, "ONNX", file_name=tmp_path / "net").path
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", BIG, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("OSError")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_python_numbers_among_the_parameters_are_settings_that_code_may_branch_on(
    tmp_path: Path,
) -> None:
    def net(params: dict[str, jax.Array | bool | float], x: jax.Array) -> jax.Array:
        y = x @ params["w"] if params["inference"] else x
        return y if params["rate"] == 0 else y * params["rate"]

    params = {"w": np.ones((2, 3), np.float32), "inference": True, "rate": 0.5}
    x = np.ones((1, 2), np.float32)
    result = fnckpt.export(params, net, x, "ONNX", file_name=tmp_path / "n", optimize=False)
    assert result.outputs[0].shape == (1, 3)
    assert result.parameters == 6
    assert result.nodes == 2


def refusal(
    sample: jax.ShapeDtypeStruct | tuple[jax.ShapeDtypeStruct, ...],
    file_format: str,
    tmp_path: Path,
    apply_fn: Callable[..., jax.Array] = lambda _, x: x,
) -> str:
    with pytest.raises(fnckpt.UnsupportedError) as caught:
        fnckpt.export(PARAMS, apply_fn, sample, file_format, file_name=tmp_path / "net")
    assert not list(tmp_path.iterdir())
    return str(caught.value)


def symbolic(shape: str) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jax.export.symbolic_shape(shape), jnp.float32)


def test_symbolic_sizes_are_named_with_their_input_where_the_format_wants_numbers(
    tmp_path: Path,
) -> None:
    message = refusal(symbolic("b, n"), "AIR", tmp_path)
    assert "input: x" in message
    assert "its size b is symbolic, and AIR needs numbers" in message
    assert "its size n is symbolic" in message
    assert "give a number" in message


def test_a_symbol_that_no_shape_tells_is_named(tmp_path: Path) -> None:
    message = refusal(symbolic("b, floordiv(n, 2)"), "ONNX", tmp_path)
    assert "its size floordiv(n, 2) does not determine n" in message
    assert "size b" not in message


@pytest.mark.parametrize(
    ("apply_fn", "shape", "primitive", "size"),
    [
        (lambda _, x: jnp.linalg.cholesky(x), "b, n, n", "cholesky", "b, n"),
        (lambda _, x: jax.lax.linalg.triangular_solve(x, x), "b, n, n", "triangular_solve", "b, n"),
        (lambda _, x: jnp.fft.fft(x).real, "b", "fft", "b"),
    ],
)
def test_what_needs_a_number_names_the_symbolic_size_and_the_line(
    apply_fn: Callable[..., jax.Array], shape: str, primitive: str, size: str, tmp_path: Path
) -> None:
    message = refusal(symbolic(shape), "ONNX", tmp_path, apply_fn)
    assert f"  {primitive}: " in message
    assert f"test_export.py:{apply_fn.__code__.co_firstlineno} in <lambda>" in message
    assert f"its size {size} is symbolic, and its rule needs numbers" in message


def test_an_open_size_is_shown_by_its_symbol(tmp_path: Path) -> None:
    sample = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("b"), 4), jnp.float32)
    result = fnckpt.export(
        {"w": np.ones((4, 2), np.float32)},
        lambda p, x: x @ p["w"],
        sample,
        "ONNX",
        file_name=tmp_path / "net",
    )
    assert str(result.inputs[0]) == "x: float32[b,4]"
    assert str(result.outputs[0]) == "output: float32[b,2]"
    assert "FLOPs      16, b = 1" in repr(result)
