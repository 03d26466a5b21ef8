"""Each function of one number over its whole domain, in each runtime, against the one in double."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import NOWHERE, Attr, Aval, FuncGraph, Parameter
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import legalized
from tests.ir.targets.mindir.batch import Job, judge_groups
from tests.ir.targets.mindir.judge import Judged
from tests.ir.targets.onnx.test_operators import computed

OPERATORS = (
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cbrt", "Cos", "Cosh", "Digamma", "Elu",
    "Erf", "ErfInv", "Erfc", "Exp", "Expm1", "Gelu", "HardSigmoid", "HardSwish", "Lgamma", "Log",
    "Log1p", "Mish", "Reciprocal", "Rsqrt", "Sigmoid", "Silu", "Sin", "Sinh", "Softplus", "Sqrt",
    "Square", "Tan", "Tanh",
)  # fmt: skip
ATTRIBUTES: dict[str, dict[str, Attr]] = {"Elu": {"alpha": 1.0}, "Gelu": {"approximate": True}}

# Of max(1, the value); and of the value itself where a function passes through 0.
TOLERANCES = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-6, "float64": 1e-12}
RELATIVE = ("Expm1", "Log1p", "Tanh")

# What is left: ONNX Runtime's Sigmoid of float32, and JAX's own error.
COARSE: dict[str, dict[str, float]] = {
    "ONNX": {"Silu float32": 1.1e-6, "ErfInv float32": 2.8e-6},
    "MINDIR": {},
}


@dataclass(frozen=True)
class Sweep:
    """An operator on numbers of one dtype, from the least to the greatest."""

    op: str
    dtype: str

    @property
    def name(self) -> str:
        return f"{self.op} {self.dtype}"

    def points(self) -> np.ndarray:
        """Spaced by their logarithm; around 1, and up to 12, more of them; both signs."""
        info = ml_dtypes.finfo(self.dtype)
        least, most = np.log10(float(info.tiny)) + 1, np.log10(float(info.max)) - 1
        far, near = np.logspace(least, most, 600), np.logspace(-12, 2, 600)
        x = np.concatenate([far, near, np.linspace(0.01, 12, 600), 1 + np.linspace(-1, 1, 99) / 99])
        return np.unique(np.concatenate([x, -x, [0.0]]).astype(self.dtype))

    def graph(self, dtype: str) -> FuncGraph:
        x = Parameter("x", Aval(self.points().shape, np.dtype(dtype)))
        node = apply(self.op, x, origin=NOWHERE, **ATTRIBUTES.get(self.op, {}))
        return FuncGraph(self.op, (x,), (node,), ("y",))

    def error(self, found: np.ndarray) -> float:
        """The greatest difference from double, of max(1, the value)."""
        wide = self.points().astype(np.float64)
        with np.errstate(all="ignore"):
            (wanted,) = evaluate(self.graph("float64"), [wide])
            finite = np.isfinite(wanted.astype(self.dtype))
            assert np.array_equal(np.isfinite(found), finite), self.name
            scale = np.abs(wanted) if self.op in RELATIVE else np.maximum(1, np.abs(wanted))
            scale = np.maximum(scale, 100 * float(ml_dtypes.finfo(self.dtype).tiny))
            difference = np.abs(found.astype(np.float64) - wanted) / scale
        return float(np.max(difference[finite], initial=0))


LEFT = np.linspace(-20, 20, 401, dtype=np.float32)
SWEEPS = [Sweep(op, dtype) for op in OPERATORS for dtype in TOLERANCES]
WRITTEN_OUT = ("Exp", "Expm1", "Log", "Log1p", "Tanh")  # the other dtypes have the digits, too
IN_MINDSPORE = [
    each for each in SWEEPS if each.dtype in ("float32", "bfloat16") or each.op in WRITTEN_OUT
]
every_sweep = pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)


def allowed(file_format: str, sweep: Sweep) -> float:
    return COARSE[file_format].get(sweep.name, TOLERANCES[sweep.dtype])


@every_sweep
def test_onnx_runtime_has_the_digits_of_the_dtype(sweep: Sweep, tmp_path: Path) -> None:
    goal, path = target("ONNX"), tmp_path / "sweep.onnx"
    with path.open("wb") as file:
        file.writelines(goal.encode(legalized(sweep.graph(sweep.dtype), goal)).parts)
    (found,) = computed(path, [sweep.points()])
    assert sweep.error(found) <= allowed("ONNX", sweep)


@cache
def of_mindspore() -> Mapping[str, Judged]:
    jobs = [Job(each.name, each.graph(each.dtype), [each.points()]) for each in IN_MINDSPORE]
    jobs.append(Job("left", optimized(trace((), left, (LEFT,), name="left")), [LEFT]))
    return judge_groups([jobs[i : i + 30] for i in range(0, len(jobs), 30)])


@pytest.mark.parametrize("sweep", IN_MINDSPORE, ids=lambda sweep: sweep.name)
def test_mindspore_has_the_digits_of_the_dtype(sweep: Sweep) -> None:
    judged = of_mindspore()[sweep.name]
    assert not judged.error, judged.error
    assert sweep.error(judged.outputs[0].astype(sweep.dtype)) <= allowed("MINDIR", sweep)


def left(_: object, x: jax.Array) -> jax.Array:
    return jnp.log(1 - jnp.tanh(x) ** 2 + 1e-6)


def test_what_is_left_of_one_by_tanh_is_a_number_in_mindspore() -> None:
    (found,) = of_mindspore()["left"].outputs
    np.testing.assert_allclose(found, left(None, jnp.asarray(LEFT)), atol=0.5)
    assert np.isfinite(found).all()
