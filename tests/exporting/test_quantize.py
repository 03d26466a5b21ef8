"""``export(quantize=...)``: what becomes integers, what that costs, and what is refused."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import onnx
import pytest

import fnckpt
from fnckpt.exporting.quantizing.options import Quantize


class Net(nn.Module):
    """A convolution and two layers with a bias; 18 rows are no whole number of blocks."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(18, (3, 3), strides=8)(x)).mean((1, 2))
        x = nn.relu(nn.Dense(96)(x))
        return nn.Dense(10)(x)


X = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
PARAMS = Net().init(jax.random.key(0), X)
DENSE = ("params.Dense_0.kernel", "params.Dense_1.kernel")


def export(path: Path, quantize: Quantize, runtime: str | None = None) -> fnckpt.ExportResult:
    return fnckpt.export(
        PARAMS, Net().apply, X, "ONNX", file_name=path / "net", quantize=quantize, verify=True,
        runtime=runtime,
    )  # fmt: skip


def operators(file: fnckpt.ExportResult) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(file)).graph.node)


WEIGHTS = {
    "int4": ("int4", 0.3),
    "int8": ("int8", 0.02),
    "int8 in blocks of 16 with zero points": (
        fnckpt.Quantization(8, block_size=16, symmetric=False),
        0.02,
    ),
    "int4 in blocks of 64 with zero points": (
        fnckpt.Quantization(4, block_size=64, symmetric=False),
        0.3,
    ),
}


@pytest.mark.parametrize("case", WEIGHTS)
@pytest.mark.parametrize("runtime", [None, "onnxruntime"])
def test_weights_of_products_become_integers_near_the_floats(
    case: str, runtime: str | None, tmp_path: Path
) -> None:
    how, most = WEIGHTS[case]
    result = export(tmp_path, how, runtime)
    facts = result.quantized
    assert facts is not None
    assert facts.weights == DENSE
    assert tuple(facts.layers) == DENSE
    assert 0 < facts.error < most
    assert all(0 < error < most for error in facts.layers.values())
    assert facts.bytes == result.parameter_bytes < 0.6 * facts.bytes_before
    assert f"{facts.bytes:,}" in str(facts)
    wanted = np.asarray(jax.jit(Net().apply)(PARAMS, X))
    (found,) = fnckpt.run(result, X)
    assert fnckpt.greatest_error([found], [wanted]) == pytest.approx(facts.error, rel=0.05)


def test_the_standard_has_dequantize_linear_and_onnx_runtime_its_own_operator(
    tmp_path: Path,
) -> None:
    own = operators(export(tmp_path, "int4", "onnxruntime"))
    standard = operators(export(tmp_path, "int4"))
    assert (own["MatMulNBits"], own["DequantizeLinear"], own["MatMul"]) == (2, 0, 0)
    assert (standard["MatMulNBits"], standard["DequantizeLinear"]) == (0, 2)


def test_standard_files_compute_what_onnx_itself_computes_of_them(tmp_path: Path) -> None:
    from onnx.reference import ReferenceEvaluator

    w = np.random.default_rng(1).normal(size=(40, 24)).astype(np.float32)
    x = np.random.default_rng(2).normal(size=(3, 40)).astype(np.float32)
    for how in ("int4", "int8", fnckpt.Quantization(4, block_size=16, symmetric=False)):
        result = fnckpt.export(
            {"w": w}, lambda p, x: x @ p["w"], x, "ONNX", file_name=tmp_path / "n", quantize=how
        )
        (found,) = ReferenceEvaluator(onnx.load(str(result))).run(None, {"x": x})
        facts = result.quantized
        assert facts is not None
        error = fnckpt.greatest_error([np.asarray(found)], [x @ w])
        assert error == pytest.approx(facts.error, rel=0.5)


def test_a_layer_whose_weight_has_the_pattern_stays(tmp_path: Path) -> None:
    result = export(tmp_path, fnckpt.Quantization(4, skip=("*Dense_1*",)))
    facts = result.quantized
    assert facts is not None
    assert (facts.weights, facts.kept) == (DENSE[:1], 1)
    assert "params.Dense_1.kernel" in {t.name for t in onnx.load(str(result)).graph.initializer}


@pytest.mark.parametrize("skip", [(), ("*Dense_1*",)])
def test_calibration_makes_integers_of_convolutions_and_of_what_they_meet(
    skip: tuple[str, ...], tmp_path: Path
) -> None:
    result = export(tmp_path, fnckpt.Calibration([X, 2 * X], skip=skip))
    facts = result.quantized
    assert facts is not None
    assert "params.Conv_0.kernel" in facts.weights
    assert len(facts.weights) == 3 - len(skip)
    assert facts.kept == len(skip)
    assert set(facts.layers) == set(facts.weights)
    assert 0 < facts.error < 0.1
    assert max(facts.layers.values()) < 0.1
    assert operators(result)["QuantizeLinear"] >= 3


def test_a_table_that_is_also_the_last_layer_is_quantized_there_and_kept_where_it_is_read(
    tmp_path: Path,
) -> None:
    table = np.random.default_rng(0).normal(size=(50, 32)).astype(np.float32)
    ids = np.array([[1, 4, 7]], np.int32)
    result = fnckpt.export(
        {"table": table}, lambda p, ids: p["table"][ids] @ p["table"].T, ids, "ONNX",
        file_name=tmp_path / "tied", quantize="int8", verify=True,
    )  # fmt: skip
    assert result.quantized is not None
    assert result.quantized.error < 0.02


def test_integers_go_beside_the_graph_where_that_is_asked(tmp_path: Path) -> None:
    result = fnckpt.export(
        PARAMS, Net().apply, X, "ONNX", file_name=tmp_path / "net", quantize="int4",
        external_data=True,
    )  # fmt: skip
    assert len(list(tmp_path.glob("net.onnx.*.data"))) == 1
    assert fnckpt.run(result, X)[0].shape == (4, 10)


REFUSED = {
    "a word": ({"quantize": "int3"}, ValueError, "quantize must be one of int4, int8, a Quant"),
    "with dtype": (
        {"quantize": "int4", "dtype": "float16"},
        ValueError,
        "give only one of the two",
    ),
    "an old opset": ({"quantize": "int4", "opset": 20}, ValueError, "needs opset 21, got 20"),
    "a pattern of no weight": (
        {"quantize": fnckpt.Quantization(skip=("*dense_0*",))},
        ValueError,
        r"skip='\*dense_0\*' matches no weight; the weights are params.Dense",
    ),
    "nothing left": (
        {"quantize": fnckpt.Quantization(skip=("*Dense*",))},
        ValueError,
        "no product with a known matrix left",
    ),
    "no samples": ({"quantize": fnckpt.Calibration([])}, ValueError, "batches is empty"),
    "MINDIR": (
        {"quantize": "int4", "file_format": "MINDIR"},
        fnckpt.UnsupportedError,
        "cannot be exported to MINDIR with quantize='int4'.*\n.*converter_lite",
    ),
    "AIR": (
        {"quantize": fnckpt.Calibration([X]), "file_format": "AIR"},
        fnckpt.UnsupportedError,
        "cannot be exported to AIR with quantize='static int8'.*\n.*AMCT",
    ),
    "a runtime": (
        {"runtime": "tensorrt"},
        ValueError,
        r"\('onnxruntime', 'onnxruntime-genai'\), got 'tensorrt'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_by_name_and_nothing_is_written(
    case: str, tmp_path: Path
) -> None:
    options, kind, text = REFUSED[case]
    given = {"file_format": "ONNX", **options}
    with pytest.raises(kind, match=text):
        fnckpt.export(PARAMS, Net().apply, X, file_name=tmp_path / "net", **given)  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())


WRONG: dict[str, Callable[[], object]] = {
    "bits must be 4 or 8, got 3": lambda: fnckpt.Quantization(3),
    "block_size must be a power of 2 from 16, got 48": lambda: fnckpt.Quantization(block_size=48),
    r"skip is a tuple of patterns, got '\*head\*'": lambda: fnckpt.Quantization(skip="*head*"),
}


@pytest.mark.parametrize("text", WRONG)
def test_an_option_that_does_not_fit_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        WRONG[text]()
