"""What may be given to ``export``: modules, closures, shapes, inputs by position."""

from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fnckpt

X = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
B = jnp.arange(3.0)


class Net(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.dense = nnx.Linear(4, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        return self.dropout(self.norm(self.encode(image)))

    def encode(self, image: jax.Array) -> jax.Array:
        return self.dense(image)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        return nn.Dense(3)(image)


def nnx_net() -> Net:
    net = Net()
    net.eval()
    return net


def bound() -> Linen:
    return Linen().bind(Linen().init(jax.random.key(0), X))


MLP = eqx.nn.MLP(4, 3, 8, 1, key=jax.random.key(0))
DENSE = {"dense.bias", "dense.kernel"}
LAYERS = {"layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"}
LINEN = {"params.Dense_0.bias", "params.Dense_0.kernel"}


def function(image: jax.Array) -> jax.Array:
    return image @ W + B


class Holder:
    def __init__(self) -> None:
        self.kernel = W

    def __call__(self, image: jax.Array) -> jax.Array:
        return image @ self.kernel


MODELS: dict[str, tuple[Callable[[], Callable[..., jax.Array]], np.ndarray, set[str]]] = {
    "NNX": (nnx_net, X, {"dense.kernel", "norm.bias"}),  # the norm goes into the weights
    "a method of NNX": (lambda: nnx_net().encode, X, DENSE),
    "Equinox": (lambda: MLP, X[0], LAYERS),
    "Equinox under vmap": (lambda: jax.vmap(MLP), X, LAYERS),
    "bound linen": (bound, X, LINEN),
    "a function": (lambda: function, X, {"W", "B"}),
    "a jitted function": (lambda: jax.jit(function), X, {"W", "B"}),
    "a lambda around a function": (lambda: lambda image: function(image), X, {"W", "B"}),
    "a lambda around NNX": (
        lambda: (lambda net: lambda image: net.encode(image))(nnx_net()),
        X,
        {f"net.{name}" for name in DENSE},
    ),
    "a lambda around Equinox": (
        lambda: lambda image: jax.vmap(MLP)(image),
        X,
        {f"MLP.{name}" for name in LAYERS},
    ),
    "a lambda around linen": (
        lambda: (lambda net: lambda image: net(image))(bound()),
        X,
        {f"net.{name}" for name in LINEN},
    ),
    "an object": (Holder, X, {"kernel"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_alone_is_exported_with_its_weights_by_name(name: str, tmp_path: Path) -> None:
    make, x, weights = MODELS[name]
    model = make()
    result = fnckpt.export(model, x, "ONNX", file_name=tmp_path / "net", verify=True)
    assert {w.name for w in result.graph.weights()} == weights
    assert [value.name for value in result.inputs] == [
        "x" if name.startswith("Equinox") and "vmap" not in name else result.inputs[0].name
    ]
    np.testing.assert_allclose(fnckpt.run(result, [x])[0], model(jnp.asarray(x)), atol=1e-5)


@pytest.mark.parametrize("params", [None, {}, ()])
def test_a_module_may_stand_where_the_function_does(params: object, tmp_path: Path) -> None:
    result = fnckpt.export(params, nnx_net().encode, X, "AIR", file_name=tmp_path / "net")
    assert {w.name for w in result.graph.weights()} == DENSE
    assert result.inputs[0].name == "image"


def test_weights_that_a_function_closes_over_are_folded_like_parameters(tmp_path: Path) -> None:
    scale = np.linspace(1, 2, 3, dtype=np.float32)

    def closed(x: jax.Array) -> jax.Array:
        return (x @ W) * scale

    def open_(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        return (x @ params["W"]) * params["scale"]

    one = fnckpt.export(closed, X, "ONNX", file_name=tmp_path / "a")
    two = fnckpt.export({"W": W, "scale": scale}, open_, X, "ONNX", file_name=tmp_path / "b")
    assert (one.nodes, one.parameters) == (two.nodes, two.parameters)
    kept = fnckpt.export(closed, X, "ONNX", file_name=tmp_path / "a", keep_params=True)
    held = {w.name: w.value for w in kept.graph.weights()}
    assert held.keys() == {"W", "scale"}
    assert np.asarray(held["scale"], np.float32).ravel().tolist() == scale.tolist()


def test_parameters_with_an_unbound_linen_module_are_its_apply(tmp_path: Path) -> None:
    variables = Linen().init(jax.random.key(0), X)
    result = fnckpt.export(variables, Linen(), X, "ONNX", file_name=tmp_path / "net", verify=True)
    assert {w.name for w in result.graph.weights()} == LINEN


def add(params: dict[str, jax.Array], left: jax.Array, right: jax.Array) -> jax.Array:
    return left + right


def test_several_inputs_go_by_position_as_in_the_tutorial(tmp_path: Path) -> None:
    path = tmp_path / "net"
    for result in (
        fnckpt.export({}, add, X, X, file_name=path, file_format="MINDIR"),
        fnckpt.export({}, add, X, X, "MINDIR", file_name=path),
        fnckpt.export({}, add, [X, X], "MINDIR", file_name=path),
        fnckpt.export(lambda left, right: left + right, X, X, "MINDIR", file_name=path),
    ):
        assert [value.name for value in result.inputs] == ["left", "right"]


def double(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return x * 2


B_SYMBOL = jax.export.symbolic_shape("b")[0]


@pytest.mark.parametrize(
    ("sample", "shown"),
    [
        (("b", 8, 8, 1), "float32[b,8,8,1]"),
        (["b", 8], "float32[b,8]"),
        (("2*b", "b"), "float32[2*b,b]"),
        ((1, 8, 8, 1), "float32[1,8,8,1]"),
        ((B_SYMBOL, 8), "float32[b,8]"),
        ("f32[b,8]", "float32[b,8]"),
        ("bf16[2]", "bfloat16[2]"),
        ("i64[b,n]", "int64[b,n]"),
        (jax.ShapeDtypeStruct((2, 3), jnp.int64), "int64[2,3]"),
        (np.zeros((2, 3), np.int64), "int64[2,3]"),
        (jnp.zeros((2, 3), int), "int32[2,3]"),
        ([[1.0, 2.0], [3.0, 4.0]], "float32[2,2]"),
    ],
)
def test_a_sample_is_understood(sample: object, shown: str, tmp_path: Path) -> None:
    runs = not (
        isinstance(sample, str) and sample.startswith("bf16")
    )  # ONNX Runtime's Python takes no array of it
    result = fnckpt.export({}, double, sample, "ONNX", file_name=tmp_path / "net", verify=runs)
    assert str(result.inputs[0]) == f"x: {shown}"


def test_named_sizes_of_several_inputs_are_the_same_size(tmp_path: Path) -> None:
    result = fnckpt.export({}, add, (("b", 4), "f32[b,4]"), "ONNX", file_name=tmp_path / "net")
    assert str(result.outputs[0]) == "output: float32[b,4]"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (({}, double, [2, 8]), ValueError, r"sample_input: \[2, 8\] can be a shape or numbers"),
        (({}, double, (None, 8)), ValueError, "has a size None or -1"),
        (({}, double, (-1, 8)), ValueError, "has a size None or -1"),
        (({}, double, "f31[2]"), ValueError, "float31 is not a dtype"),
        (({}, double, "8,8"), ValueError, "give dtype and shape like f32"),
        (({}, double, object()), TypeError, "sample_input: object is not an array; give"),
        (({}, add, X, {"a": set()}), TypeError, r"sample_input\[1\].a: set is not an array"),
        (({}, X, double), TypeError, "apply_fn must be a function, got ndarray behind dict"),
        ((double, {"w": X}, X), ValueError, "params comes after the function that takes it"),
        ((Linen(), X), ValueError, "Linen is a linen module without variables"),
    ],
)
def test_what_is_not_understood_is_one_clear_line(
    arguments: tuple[object, ...], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said) as caught:
        fnckpt.export(*arguments, file_format="ONNX", file_name=tmp_path / "net")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_list_that_the_function_cannot_use_is_told(tmp_path: Path) -> None:
    with pytest.raises(TypeError) as caught:
        fnckpt.export({}, lambda _, x: x + W, [X], "ONNX", file_name=tmp_path / "net")
    assert "several inputs are a tuple" in " ".join(caught.value.__notes__)


@pytest.mark.parametrize(
    ("file_name", "file_format", "written"),
    [
        ("net.ONNX", "onnx", "net.onnx"),
        ("net.onnx", None, "net.onnx"),
        ("net.AIR", None, "net.air"),
        ("net", ".Onnx", "net.onnx"),
    ],
)
def test_suffix_and_format_are_understood_in_any_case(
    file_name: str, file_format: str | None, written: str, tmp_path: Path
) -> None:
    result = fnckpt.export({}, double, X, file_format=file_format, file_name=tmp_path / file_name)
    assert result.path == tmp_path / written


@pytest.mark.parametrize(
    ("file_name", "file_format", "said"),
    [
        ("net.mindir", "ONNX", "ends like a file of MINDIR, and file_format is ONNX; give .*onnx"),
        ("net.AIR", "ONNX", "ends like a file of AIR"),
        ("net.ckpt", "ONNX", "ends like a checkpoint"),
        ("net", None, "file_format must be one of|file_format is missing"),
    ],
)
def test_a_wrong_suffix_or_no_format_is_told(
    file_name: str, file_format: str | None, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        fnckpt.export({}, double, X, file_format=file_format, file_name=tmp_path / file_name)


@pytest.mark.parametrize("dtype", [jnp.float16, np.float16, np.dtype("float16"), "float16"])
def test_a_dtype_may_be_a_type(dtype: str | np.dtype | type, tmp_path: Path) -> None:
    result = fnckpt.export({}, double, X, "ONNX", file_name=tmp_path / "net", dtype=dtype)
    assert result.narrowing is not None


def test_a_dtype_that_is_too_wide_is_told() -> None:
    with pytest.raises(ValueError, match="dtype must be one of float16, bfloat16 or None"):
        fnckpt.export({}, double, X, "ONNX", dtype=jnp.float32)


def test_a_missing_directory_is_named_and_not_the_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no directory .*nowhere; make it first") as caught:
        fnckpt.export({}, double, X, "ONNX", file_name=tmp_path / "nowhere" / "net")
    assert ".tmp" not in str(caught.value)


def test_a_result_stands_where_a_path_does(tmp_path: Path) -> None:
    result = fnckpt.export({}, double, X, "ONNX", file_name=tmp_path / "net")
    assert Path(str(result)) == Path(result) == tmp_path / "net.onnx"
    assert "format     ONNX" in repr(result)
