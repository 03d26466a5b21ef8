"""What each GE type that we emit computes, in numpy, by its documentation.

Sources: the header texts of graphengine r1.1 (``third_party/fwkacllib/inc/ops``), and the
TensorFlow and Caffe operators that they name as compatible. Nothing here knows our own operators.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import scipy.special

from fnckpt.ir.targets.air.codes import OF_ENGINE_CODE
from fnckpt.ir.targets.air.view import OpView

Input = np.ndarray | None | list[np.ndarray]
Kernel = Callable[..., np.ndarray | tuple[np.ndarray, ...]]
Ints = tuple[int, ...]

KERNELS: dict[str, Kernel] = {}


def computes(*types: str) -> Callable[[Kernel], Kernel]:
    """Register the decorated function as the meaning of ``types``."""

    def register(kernel: Kernel) -> Kernel:
        for each in types:
            assert each not in KERNELS, each
            KERNELS[each] = kernel
        return kernel

    return register


def in_double(function: Callable[[np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    """``function`` computed in float64 and rounded once."""
    return lambda x: np.asarray(function(x.astype(np.float64))).astype(x.dtype)


ELEMENTWISE: dict[str, Callable[..., np.ndarray]] = {
    "Abs": np.absolute,
    "Acos": in_double(np.arccos),
    "Acosh": in_double(np.arccosh),
    "Add": np.add,
    "Asin": in_double(np.arcsin),
    "Asinh": in_double(np.arcsinh),
    "Atan": in_double(np.arctan),
    "Atan2": np.arctan2,
    "Atanh": in_double(np.arctanh),
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
    "Ceil": np.ceil,
    "Cos": in_double(np.cos),
    "Cosh": in_double(np.cosh),
    "Equal": np.equal,
    "Erf": in_double(scipy.special.erf),
    "Erfc": in_double(scipy.special.erfc),
    "Expm1": in_double(np.expm1),
    "Floor": np.floor,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Identity": np.asarray,
    "Invert": np.invert,
    "IsFinite": np.isfinite,
    "IsInf": np.isinf,
    "IsNan": np.isnan,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "Log1p": in_double(np.log1p),
    "LogicalAnd": np.logical_and,
    "LogicalNot": np.logical_not,
    "LogicalOr": np.logical_or,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Mul": np.multiply,
    "Neg": np.negative,
    "NextAfter": np.nextafter,
    "NotEqual": np.not_equal,
    "PopulationCount": lambda x: np.bitwise_count(x.view(f"u{x.dtype.itemsize}")),
    "Pow": np.power,
    "RealDiv": np.true_divide,
    "Reciprocal": lambda x: np.true_divide(np.ones((), x.dtype), x),
    "RightShift": np.right_shift,
    "Rint": np.rint,
    "Rsqrt": in_double(lambda x: 1 / np.sqrt(x)),
    "Sigmoid": in_double(lambda x: 1 / (1 + np.exp(-x))),
    "Sign": np.sign,
    "Sin": in_double(np.sin),
    "Sinh": in_double(np.sinh),
    "Softplus": in_double(lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
    "Sqrt": np.sqrt,
    "Square": lambda x: x * x,
    "Sub": np.subtract,
    "Tan": in_double(np.tan),
    "Tanh": in_double(np.tanh),
}

for _name, _function in ELEMENTWISE.items():
    computes(_name)(partial(lambda function, op, *inputs: function(*inputs), _function))


@computes("Exp", "Log")
def power_or_logarithm(op: OpView, x: np.ndarray) -> np.ndarray:
    """``base ** (scale * x + shift)``, or the logarithm; base -1 stands for e."""
    base, scale, shift = op.number("base"), op.number("scale"), op.number("shift")
    wide = scale * x.astype(np.float64) + shift
    natural = 1.0 if base == -1 else np.log(base)
    result = np.exp(wide * natural) if op.type == "Exp" else np.log(wide) / natural
    return result.astype(x.dtype)


@computes("Relu")
def relu(op: OpView, x: np.ndarray) -> np.ndarray:
    return np.maximum(x, np.zeros((), x.dtype))


@computes("LeakyRelu")
def leaky_relu(op: OpView, x: np.ndarray) -> np.ndarray:
    """``x`` where it is positive, else the slope times ``x``."""
    slope = np.asarray(op.number("negative_slope"), x.dtype)
    return np.where(x > 0, x, x * slope)


@computes("Elu")
def elu(op: OpView, x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    return np.where(wide > 0, wide, op.number("alpha") * np.expm1(wide)).astype(x.dtype)


@computes("Gelu")
def gelu(op: OpView, x: np.ndarray) -> np.ndarray:
    """``x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x^3)))``, the form with tanh."""
    wide = x.astype(np.float64)
    inner = np.sqrt(8 / np.pi) * (wide + 0.044715 * wide * wide * wide)
    return (wide * scipy.special.expit(inner)).astype(x.dtype)


@computes("TruncateDiv")
def truncate_div(op: OpView, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The quotient without its fraction; division by zero is undefined, and an error here."""
    assert np.all(y), f"{op.name} divides by zero"
    whole = np.floor_divide(x, y)
    inexact = whole * y != x
    return (whole + (inexact & ((x < 0) != (y < 0)))).astype(x.dtype)


@computes("TruncateMod")
def truncate_mod(op: OpView, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What is left of truncated division, with the sign of ``x``."""
    assert x.dtype.kind == "f" or np.all(y), f"{op.name} divides by zero"
    return np.fmod(x, y)


@computes("Cast")
def cast(op: OpView, x: np.ndarray) -> np.ndarray:
    """Floats lose their fraction and saturate, as the vector unit does; integers wrap."""
    dtype = OF_ENGINE_CODE[op.integer("dst_type")].dtype
    assert dtype is not None
    if x.dtype.kind == "f" and dtype.kind in "iu":
        info = np.iinfo(dtype)
        whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0))
        low, high = float(info.min), float(info.max)
        inside = np.where((whole > low) & (whole < high), whole, 0).astype(dtype)
        return np.where(whole >= high, info.max, np.where(whole <= low, info.min, inside)).astype(
            dtype
        )
    return x.astype(dtype)


@computes("Bitcast")
def bitcast(op: OpView, x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(x.shape).view(op.dtype("type"))


@computes("Select", "SelectV2")
def select(op: OpView, condition: np.ndarray, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    return np.where(condition, x1, x2)


@computes("Reshape")
def reshape(op: OpView, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    return x.reshape(shape.tolist())


@computes("TransposeD")
def transpose_d(op: OpView, x: np.ndarray) -> np.ndarray:
    return np.transpose(x, op.ints("perm"))


@computes("Transpose")
def transpose(op: OpView, x: np.ndarray, perm: np.ndarray) -> np.ndarray:
    return np.transpose(x, perm.tolist())


@computes("BroadcastToD")
def broadcast_to(op: OpView, x: np.ndarray) -> np.ndarray:
    return np.broadcast_to(x, op.ints("shape"))


@computes("ConcatD")
def concat_d(op: OpView, x: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(x, op.integer("concat_dim"))


@computes("ConcatV2")
def concat_v2(op: OpView, x: list[np.ndarray], concat_dim: np.ndarray) -> np.ndarray:
    return np.concatenate(x, int(concat_dim))


@computes("PadD")
def pad_d(op: OpView, x: np.ndarray) -> np.ndarray:
    rows = op.attrs["paddings"]
    return np.pad(x, np.asarray(rows, np.int64).reshape(x.ndim, 2))


@computes("PadV2")
def pad_v2(op: OpView, x: np.ndarray, paddings: np.ndarray, fill: np.ndarray) -> np.ndarray:
    return np.pad(x, paddings.astype(np.int64), constant_values=fill.reshape(()))


@computes("SliceD")
def slice_d(op: OpView, x: np.ndarray) -> np.ndarray:
    return _sliced(x, op.ints("offsets"), op.ints("size"))


@computes("Slice")
def slice_(op: OpView, x: np.ndarray, offsets: np.ndarray, size: np.ndarray) -> np.ndarray:
    return _sliced(x, offsets.tolist(), size.tolist())


def _sliced(x: np.ndarray, offsets: Sequence[int], size: Sequence[int]) -> np.ndarray:
    return x[tuple(slice(a, a + n) for a, n in zip(offsets, size, strict=True))]


@computes("StridedSliceD")
def strided_slice_d(op: OpView, x: np.ndarray) -> np.ndarray:
    return x[tuple(map(slice, op.ints("begin"), op.ints("end"), op.ints("strides")))]


@computes("StridedSlice")
def strided_slice(
    op: OpView, x: np.ndarray, begin: np.ndarray, end: np.ndarray, strides: np.ndarray
) -> np.ndarray:
    return x[tuple(map(slice, begin.tolist(), end.tolist(), strides.tolist()))]


@computes("ReverseV2D")
def reverse(op: OpView, x: np.ndarray) -> np.ndarray:
    return np.flip(x, op.ints("axis"))


@computes("GatherV2D")
def gather_v2_d(op: OpView, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return np.take(x, indices, op.integer("axis"))


@computes("GatherV2")
def gather_v2(op: OpView, x: np.ndarray, indices: np.ndarray, axis: np.ndarray) -> np.ndarray:
    return np.take(x, indices, int(axis))


def places(indices: np.ndarray) -> tuple[np.ndarray, ...]:
    """The rows of ``indices`` as numpy's tuple of index arrays."""
    return tuple(indices[..., i] for i in range(indices.shape[-1]))


@computes("GatherNd")
def gather_nd(op: OpView, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return x[places(indices)]


@computes("TensorScatterUpdate")
def tensor_scatter_update(
    op: OpView, x: np.ndarray, indices: np.ndarray, updates: np.ndarray
) -> np.ndarray:
    result = np.array(x)
    result[places(indices)] = updates
    return result


@computes("TensorScatterAdd")
def tensor_scatter_add(
    op: OpView, x: np.ndarray, indices: np.ndarray, updates: np.ndarray
) -> np.ndarray:
    """Every row adds, those that name one place too."""
    result = np.array(x)
    for row in np.ndindex(*indices.shape[:-1]):
        result[tuple(indices[row])] += updates[row]
    return result


REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "ReduceAll": np.all,
    "ReduceAny": np.any,
    "ReduceMax": np.max,
    "ReduceMean": lambda x, axis, keepdims: np.mean(
        x.astype(np.float64), axis=axis, keepdims=keepdims
    ),
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
}


def _reduced(op: OpView, x: np.ndarray, axes: Ints) -> np.ndarray:
    function = REDUCTIONS[op.type.removesuffix("D")]
    return np.asarray(function(x, axis=axes, keepdims=op.flag("keep_dims"))).astype(x.dtype)


@computes(*(f"{name}D" for name in REDUCTIONS))
def reduce_d(op: OpView, x: np.ndarray) -> np.ndarray:
    return _reduced(op, x, op.ints("axes"))


@computes(*REDUCTIONS)
def reduce(op: OpView, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    return _reduced(op, x, tuple(axes.reshape(-1).tolist()))


@computes("ArgMaxD", "ArgMinD")
def arg_d(op: OpView, x: np.ndarray) -> np.ndarray:
    function = np.argmax if op.type == "ArgMaxD" else np.argmin
    return function(x, op.integer("dimension")).astype(op.dtype("dtype"))


@computes("ArgMaxV2", "ArgMin")
def arg(op: OpView, x: np.ndarray, dimension: np.ndarray) -> np.ndarray:
    function = np.argmax if op.type == "ArgMaxV2" else np.argmin
    return function(x, int(dimension)).astype(op.dtype("dtype"))


SCANS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "CumsumD": lambda x, axis: np.add.accumulate(x, axis, x.dtype),
    "CumprodD": lambda x, axis: np.multiply.accumulate(x, axis, x.dtype),
    "CumulativeLogsumexpD": lambda x, axis: np.logaddexp.accumulate(x, axis),
}


@computes(*SCANS)
def scan(op: OpView, x: np.ndarray) -> np.ndarray:
    assert not op.flag("exclusive"), op.name
    axis = op.integer("axis")
    turned = np.flip(x, axis) if op.flag("reverse") else x
    result = SCANS[op.type](turned, axis)
    return np.flip(result, axis) if op.flag("reverse") else result


@computes("TopK")
def top_k(op: OpView, x: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Greatest first; of equal ones the first, as TensorFlow's TopKV2 promises."""
    assert op.flag("sorted"), op.name
    ranks = np.unique(x, return_inverse=True)[1].reshape(x.shape)
    order = np.argsort(-ranks, -1, kind="stable")[..., : int(k)]
    return np.take_along_axis(x, order, -1), order.astype(np.int32)


@computes("SoftmaxV2")
def softmax(op: OpView, x: np.ndarray) -> np.ndarray:
    return scipy.special.softmax(x.astype(np.float64), op.ints("axes")).astype(x.dtype)


@computes("LogSoftmaxV2")
def log_softmax(op: OpView, x: np.ndarray) -> np.ndarray:
    return scipy.special.log_softmax(x.astype(np.float64), op.ints("axes")).astype(x.dtype)


@computes("LayerNorm")
def layer_norm(
    op: OpView, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, ...]:
    axes = tuple(range(op.integer("begin_norm_axis") % x.ndim, x.ndim))
    wide = x.astype(np.float64)
    mean = np.mean(wide, axes, keepdims=True)
    variance = np.mean(np.power(wide - mean, 2), axes, keepdims=True)
    y = gamma * ((wide - mean) / np.sqrt(variance + op.number("epsilon"))) + beta
    return y.astype(x.dtype), mean.astype(x.dtype), variance.astype(x.dtype)


@computes("BatchNorm")
def batch_norm(
    op: OpView,
    x: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """For inference, of NCHW; the other results are those of the vectors that it was given."""
    assert not op.flag("is_training"), op.name
    assert op.text("data_format") == "NCHW", op.name
    wide = [each.astype(np.float64)[:, None, None] for each in (scale, offset, mean, variance)]
    normal = (x.astype(np.float64) - wide[2]) / np.sqrt(wide[3] + op.number("epsilon"))
    y = (normal * wide[0] + wide[1]).astype(x.dtype)
    return y, mean, variance, mean, variance


@computes("MatMulV2")
def matmul(
    op: OpView, x1: np.ndarray, x2: np.ndarray, bias: np.ndarray | None, offset_w: np.ndarray | None
) -> np.ndarray:
    assert offset_w is None, op.name
    a = x1.T if op.flag("transpose_x1") else x1
    b = x2.T if op.flag("transpose_x2") else x2
    return a @ b if bias is None else a @ b + bias


@computes("BatchMatMul")
def batch_matmul(op: OpView, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    a = np.swapaxes(x1, -1, -2) if op.flag("adj_x1") else x1
    b = np.swapaxes(x2, -1, -2) if op.flag("adj_x2") else x2
    return np.matmul(a, b)
