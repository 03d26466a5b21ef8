"""The operators of neural networks: products, convolution, pooling, normalization.

Layout is channels first: ``[N, C, spatial...]``, kernels ``[O, I / groups, spatial...]``.
``pads`` holds ``(before, after)`` for each spatial axis.
"""

import math
from collections.abc import Callable

import numpy as np

from fnckpt.ir.graph import Aval
from fnckpt.ir.operators.arrays import JIT, JNP, LAX, is_jax, module_of, wide
from fnckpt.ir.operators.reduction import least_and_greatest
from fnckpt.ir.operators.table import operator
from fnckpt.ir.sizes import broadcast_shapes, not_below_zero

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def _matrix(shape: Ints, transpose: bool) -> tuple[int, int]:
    rows, columns = shape[-2:]
    return (columns, rows) if transpose else (rows, columns)


def _matmul_aval(a: Aval, b: Aval, *, transpose_a: bool, transpose_b: bool) -> Aval:
    (rows, inner), (inner_b, columns) = (
        _matrix(a.shape, transpose_a),
        _matrix(b.shape, transpose_b),
    )
    if inner != inner_b or a.dtype != b.dtype:
        raise ValueError(f"{a} and {b} cannot be multiplied")
    return Aval((*broadcast_shapes(a.shape[:-2], b.shape[:-2]), rows, columns), a.dtype)


def summed(x: np.ndarray) -> np.ndarray:
    """``x`` in the type that its products are summed in, which is float32 for narrower floats."""
    narrow = x.dtype.kind not in "biuc" and x.dtype.itemsize == 2
    return x.astype(np.float32) if narrow else x


@operator("MatMul", _matmul_aval)
def matmul(a: np.ndarray, b: np.ndarray, *, transpose_a: bool, transpose_b: bool) -> np.ndarray:
    """The product over the last two axes, each first transposed where asked; others broadcast."""
    xp = module_of(a, b)
    left = xp.swapaxes(a, -1, -2) if transpose_a else a
    right = xp.swapaxes(b, -1, -2) if transpose_b else b
    if is_jax(a, b):  # which sums as it should, and is exported as one operator again
        return _product(left, right)
    return xp.asarray(xp.matmul(summed(left), summed(right))).astype(a.dtype)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The same in JAX, said so that a second export writes it as the first did.

    ``jax.numpy.matmul`` drops axes of size 1, and turns what a matrix is multiplied with.
    """
    batch = tuple(range(a.ndim - 2))
    if a.ndim == 2 < b.ndim:
        return JNP.swapaxes(JNP.matmul(JNP.swapaxes(b, -1, -2), JNP.swapaxes(a, 0, 1)), -1, -2)
    if a.shape[:-2] != b.shape[:-2]:
        return JNP.matmul(a, b)
    numbers = (((a.ndim - 1,), (b.ndim - 2,)), (batch, batch))
    return LAX.dot_general(JNP.asarray(a), JNP.asarray(b), numbers)


@operator("Gemm", lambda a, b, bias, **turned: _matmul_aval(a, b, **turned))
def gemm(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray, *, transpose_a: bool, transpose_b: bool
) -> np.ndarray:
    """The product of two matrices plus a vector along the columns."""
    return matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b) + bias


def _windows(size: int, window: int, stride: int, pad: tuple[int, int], dilation: int = 1) -> int:
    return not_below_zero((size + sum(pad) - ((window - 1) * dilation + 1)) // stride + 1)


def _conv_aval(
    x: Aval,
    w: Aval,
    *bias: Aval,
    strides: Ints,
    pads: Pads,
    dilation: Ints,
    groups: int,
) -> Aval:
    if x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise ValueError(f"{x} cannot be convolved with {w} in {groups} groups")
    spatial = map(_windows, x.shape[2:], w.shape[2:], strides, pads, dilation)
    return Aval((x.shape[0], w.shape[0], *spatial), x.dtype)


def _patches(
    x: np.ndarray,
    window: Ints,
    strides: Ints,
    pads: Pads,
    dilation: Ints,
    fill: np.generic,
) -> np.ndarray:
    """``[N, C, out..., window...]``: what each window of the padded ``x`` sees."""
    padded = np.pad(x, ((0, 0), (0, 0), *pads), constant_values=fill)
    reach = tuple((size - 1) * step + 1 for size, step in zip(window, dilation, strict=True))
    axes = tuple(range(2, x.ndim))
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axes)
    every = tuple(slice(None, None, step) for step in (*strides, *dilation))
    return views[(slice(None), slice(None), *every)]


@operator("Conv", _conv_aval)
def conv(
    x: np.ndarray,
    w: np.ndarray,
    *bias: np.ndarray,
    strides: Ints,
    pads: Pads,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    """The cross-correlation of ``x`` with ``w``, plus ``bias[O]`` where given."""
    spatial = x.ndim - 2
    if is_jax(x, w):
        if not any(map(any, pads)) and is_product_of_channels(x.shape, w.shape):
            return _biased(JIT(product_of_channels, static_argnums=2)(x, w, strides), bias)
        found = LAX.conv_general_dilated(
            x, w, strides, pads, rhs_dilation=dilation, feature_group_count=groups
        )
        return _biased(found, bias)
    padding = x.dtype.type(0)
    patches = summed(_patches(x, w.shape[2:], strides, pads, dilation, padding))
    outputs = [
        np.tensordot(
            part,
            kernel,
            ((1, *range(2 + spatial, 2 + 2 * spatial)), tuple(range(1, 2 + spatial))),
        )
        for part, kernel in zip(
            np.split(patches, groups, 1), np.split(summed(w), groups, 0), strict=True
        )
    ]
    result = np.moveaxis(np.concatenate(outputs, -1), -1, 1).astype(x.dtype)
    return _biased(result, bias)


def is_product_of_channels(x: Ints, w: Ints) -> bool:
    """Whether the window of a convolution without groups is one element, by the shapes."""
    return len(x) == len(w) > 2 and x[1] == w[1] and set(w[2:]) == {1}


def product_of_channels(x: np.ndarray, w: np.ndarray, strides: Ints) -> np.ndarray:
    """In JAX, a convolution of ``is_product_of_channels``; lowering knows it by its name.

    XLA turns ``w`` for a convolution, which can take longer than the product itself.
    """
    if any(step > 1 for step in strides):
        x = LAX.slice(x, (0,) * x.ndim, x.shape, (1, 1, *strides))
    matrix = LAX.squeeze(w, tuple(range(2, w.ndim)))
    found = LAX.dot_general(matrix, x, (((1,), (1,)), ((), ())))
    return LAX.transpose(found, (1, 0, *range(2, x.ndim)))


def _biased(x: np.ndarray, bias: tuple[np.ndarray, ...]) -> np.ndarray:
    """``x[N, C, ...]`` plus ``bias[C]`` where there is one."""
    return x + bias[0].reshape(-1, *(1,) * (x.ndim - 2)) if bias else x


def _conv_transpose_aval(
    x: Aval,
    w: Aval,
    *bias: Aval,
    strides: Ints,
    pads: Pads,
    dilation: Ints,
    groups: int,
) -> Aval:
    spatial = tuple(
        (size - 1) * stride + (window - 1) * step + 1 + before + after
        for size, window, stride, (before, after), step in zip(
            x.shape[2:], w.shape[2:], strides, pads, dilation, strict=True
        )
    )
    return Aval((x.shape[0], w.shape[1] * groups, *spatial), x.dtype)


@operator("ConvTranspose", _conv_transpose_aval)
def conv_transpose(
    x: np.ndarray,
    w: np.ndarray,
    *bias: np.ndarray,
    strides: Ints,
    pads: Pads,
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    """The gradient of a convolution by its input: every element of ``x`` paints ``w``.

    ``w`` is ``[C, O / groups, spatial...]``. ``pads`` are added to the full result where
    positive (zeros) and cut from it where negative. ``bias[O]`` is added to what is left.
    """
    if is_jax(x, w):
        return _biased(_painted(x, w, strides, pads, dilation, groups), bias)
    full_pads = tuple((0, 0) for _ in strides)
    full = _conv_transpose_aval(
        Aval(x.shape, x.dtype), Aval(w.shape, w.dtype),
        strides=strides, pads=full_pads, dilation=dilation, groups=groups,
    )  # fmt: skip
    own, x, w = x.dtype, summed(x), summed(w)
    result = np.zeros(full.shape, x.dtype)
    for place in np.ndindex(*w.shape[2:]):
        parts = zip(np.split(x, groups, 1), np.split(w[(..., *place)], groups, 0), strict=True)
        painted = [np.moveaxis(np.tensordot(a, b, ((1,), (0,))), -1, 1) for a, b in parts]
        starts = [at * step for at, step in zip(place, dilation, strict=True)]
        at = tuple(
            slice(start, start + (size - 1) * stride + 1, stride)
            for start, size, stride in zip(starts, x.shape[2:], strides, strict=True)
        )
        result[(slice(None), slice(None), *at)] += np.concatenate(painted, 1)
    return _biased(_cut_or_pad(result, pads).astype(own), bias)


def _painted(
    x: np.ndarray, w: np.ndarray, strides: Ints, pads: Pads, dilation: Ints, groups: int
) -> np.ndarray:
    """The same as a convolution of a dilated ``x`` with the reversed ``w``."""
    apart = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    kernel = apart.swapaxes(1, 2).reshape(-1, w.shape[0] // groups, *w.shape[2:])
    reversed_ = kernel[(..., *(slice(None, None, -1),) * len(strides))]
    reach = [(size - 1) * step for size, step in zip(w.shape[2:], dilation, strict=True)]
    around = [(n + low, n + high) for n, (low, high) in zip(reach, pads, strict=True)]
    return LAX.conv_general_dilated(
        x, reversed_, (1,) * len(strides), around,
        lhs_dilation=strides, rhs_dilation=dilation, feature_group_count=groups,
    )  # fmt: skip


def _cut_or_pad(x: np.ndarray, pads: Pads) -> np.ndarray:
    cut = tuple(
        slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(x.shape[2:], pads, strict=True)
    )
    grown = tuple((max(0, before), max(0, after)) for before, after in pads)
    return np.pad(x[(slice(None), slice(None), *cut)], ((0, 0), (0, 0), *grown))


def _pool_aval(x: Aval, *, window: Ints, strides: Ints, pads: Pads) -> Aval:
    return Aval((*x.shape[:2], *map(_windows, x.shape[2:], window, strides, pads)), x.dtype)


@operator("MaxPool", _pool_aval)
def max_pool(x: np.ndarray, *, window: Ints, strides: Ints, pads: Pads) -> np.ndarray:
    """The greatest element of each window; padding is less than every element."""
    least = least_and_greatest(x.dtype)[0]
    if is_jax(x):
        return _over_windows(x, least, LAX.max, window, strides, pads)
    patches = _patches(x, window, strides, pads, (1,) * len(window), least)
    return patches.max(tuple(range(x.ndim, patches.ndim)))


def _over_windows(
    x: np.ndarray,
    first: np.generic,
    combine: Callable[..., np.ndarray],
    window: Ints,
    strides: Ints,
    pads: Pads,
) -> np.ndarray:
    """Each window of ``x`` combined, beginning with ``first``; JAX knows the gradient of it."""
    around = ((0, 0), (0, 0), *pads)
    return LAX.reduce_window(x, first, combine, (1, 1, *window), (1, 1, *strides), around)


@operator("AvgPool", lambda x, *, count_padding, **window: _pool_aval(x, **window))
def avg_pool(
    x: np.ndarray, *, window: Ints, strides: Ints, pads: Pads, count_padding: bool
) -> np.ndarray:
    """The mean of each window; padding is 0, and counts as elements with ``count_padding``."""

    def total(of: np.ndarray) -> np.ndarray:
        zero = of.dtype.type(0)
        if is_jax(of):
            return _over_windows(of, zero, LAX.add, window, strides, pads)
        patches = _patches(of, window, strides, pads, (1,) * len(window), zero)
        return patches.sum(tuple(range(x.ndim, x.ndim + len(window))), dtype=of.dtype)

    if count_padding:
        return total(x) / np.asarray(math.prod(window), x.dtype)
    return total(x) / total(np.ones((1, 1, *x.shape[2:]), x.dtype))


@operator("BatchNorm", lambda x, *_, axis, epsilon: x)
def batch_norm(
    x: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    *,
    axis: int,
    epsilon: float,
) -> np.ndarray:
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias``, each a vector along ``axis``."""
    shape = tuple(-1 if i == axis else 1 for i in range(x.ndim))
    factor = scale / module_of(variance).sqrt(variance + x.dtype.type(epsilon))
    return (x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)


@operator("LayerNorm", lambda x, *_, epsilon: x)
def layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, *, epsilon: float) -> np.ndarray:
    """``x`` with mean 0 and variance 1 over the last axis, times ``scale`` plus ``bias``."""
    return (_standardized(wide(x), -1, epsilon) * scale + bias).astype(x.dtype)


def _standardized(x: np.ndarray, axes: int | Ints, epsilon: float) -> np.ndarray:
    xp = module_of(x)
    centred = x - x.mean(axes, keepdims=True)
    variance = xp.square(centred).mean(axes, keepdims=True)
    return centred / xp.sqrt(variance + epsilon)


@operator("RmsNorm", lambda x, *_, axis, epsilon: x)
def rms_norm(x: np.ndarray, scale: np.ndarray, *, axis: int, epsilon: float) -> np.ndarray:
    """``x`` over the root of its mean of squares along ``axis``, times the vector ``scale``."""
    return _over_root(x, scale, axis, epsilon)


def _over_root(x: np.ndarray, scale: np.ndarray, axis: int, epsilon: float) -> np.ndarray:
    xp, values = module_of(x), summed(x)
    shape = tuple(-1 if i == axis else 1 for i in range(x.ndim))
    with np.errstate(over="ignore"):
        square = xp.square(values).mean(axis, keepdims=True)
    with np.errstate(invalid="ignore"):
        normal = values / xp.sqrt(square + values.dtype.type(epsilon))
    return (normal * scale.reshape(shape)).astype(x.dtype)


@operator("SkipRmsNorm", lambda x, *_, epsilon: (x, x))
def skip_rms_norm(
    x: np.ndarray, y: np.ndarray, scale: np.ndarray, *, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """``rms_norm(x + y, scale)`` along the last axis, and ``x + y``."""
    total = x + y
    return _over_root(total, scale, x.ndim - 1, epsilon), total


@operator("Standardize", lambda x, *, axes, epsilon: x)
def standardize(x: np.ndarray, *, axes: Ints, epsilon: float) -> np.ndarray:
    """``x`` with mean 0 and variance 1 over ``axes``."""
    return _standardized(wide(x), axes, epsilon).astype(x.dtype)


@operator("InstanceNorm", lambda x, *_, epsilon: x)
def instance_norm(
    x: np.ndarray, scale: np.ndarray, bias: np.ndarray, *, epsilon: float
) -> np.ndarray:
    """``x[N, C, ...]`` standardized over axes 2 and on, times ``scale[C]``, plus ``bias[C]``."""
    factor, shift = (each.reshape(-1, *(1,) * (x.ndim - 2)) for each in (scale, bias))
    return standardize(x, axes=tuple(range(2, x.ndim)), epsilon=epsilon) * factor + shift


@operator("Softmax", lambda x, *, axis: x)
def softmax(x: np.ndarray, *, axis: int) -> np.ndarray:
    """``exp(x)`` divided by its sum along ``axis``."""
    with np.errstate(all="ignore"):
        powers = module_of(x).exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


@operator("LogSoftmax", lambda x, *, axis: x)
def log_softmax(x: np.ndarray, *, axis: int) -> np.ndarray:
    """The logarithm of the softmax along ``axis``."""
    xp = module_of(x)
    with np.errstate(all="ignore"):
        shifted = x - x.max(axis, keepdims=True)
        return shifted - xp.log(xp.exp(shifted).sum(axis, keepdims=True))
