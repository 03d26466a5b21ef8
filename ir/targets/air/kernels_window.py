"""What the GE types with windows compute: convolution and pooling, channels first."""

import itertools
from collections.abc import Iterator

import numpy as np

from fnckpt.ir.targets.air.kernels import KERNELS, computes
from fnckpt.ir.targets.air.view import OpView

__all__ = ["KERNELS"]  # whole, now that the kernels below are in it

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def pads_of(op: OpView) -> Pairs:
    """``pads``, top, bottom, left, right, as before and after of each spatial axis."""
    flat = op.ints("pads")
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def taps(window: Ints, out: Ints, strides: Ints, dilation: Ints) -> Iterator[tuple[Ints, tuple]]:
    """Each place of the window, with the elements of the padded array that meet it."""
    for place in itertools.product(*map(range, window)):
        parts = zip(place, out, strides, dilation, strict=True)
        yield place, tuple(slice(at * d, at * d + (n - 1) * s + 1, s) for at, n, s, d in parts)


@computes("Conv2D", "Conv3D")
def conv(
    op: OpView,
    x: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    offset_w: np.ndarray | None,
) -> np.ndarray:
    """The cross-correlation in ``groups``; the filter is ``[out, in / groups, ...]``."""
    assert offset_w is None, op.name
    strides, dilation = op.ints("strides")[2:], op.ints("dilations")[2:]
    padded = np.pad(x, ((0, 0), (0, 0), *pads_of(op)))
    out, groups = op.outputs[0].shape, op.integer("groups")
    split = padded.reshape(x.shape[0], groups, x.shape[1] // groups, *padded.shape[2:])
    weights = kernel.reshape(groups, -1, *kernel.shape[1:])
    result = np.zeros((out[0], groups, out[1] // groups, *out[2:]), x.dtype)
    for place, seen in taps(kernel.shape[2:], out[2:], strides, dilation):
        part = split[(..., *seen)]
        result += np.einsum("bgi...,goi->bgo...", part, weights[(..., *place)])
    result = result.reshape(out)
    return result if bias is None else result + bias.reshape(-1, *(1,) * (x.ndim - 2))


@computes("Conv2DBackpropInput")
def conv_backprop_input(
    op: OpView, input_size: np.ndarray, kernel: np.ndarray, gradient: np.ndarray
) -> np.ndarray:
    """The gradient of Conv2D by its input: each tap gives back what it took."""
    strides, dilation = op.ints("strides")[2:], op.ints("dilations")[2:]
    pads, groups = pads_of(op), op.integer("groups")
    batch, channels, *size = input_size.tolist()
    grown = [n + a + b for n, (a, b) in zip(size, pads, strict=True)]
    result = np.zeros((batch, groups, channels // groups, *grown), gradient.dtype)
    split = gradient.reshape(batch, groups, -1, *gradient.shape[2:])
    weights = kernel.reshape(groups, -1, *kernel.shape[1:])
    for place, seen in taps(kernel.shape[2:], gradient.shape[2:], strides, dilation):
        result[(..., *seen)] += np.einsum("bgo...,goi->bgi...", split, weights[(..., *place)])
    kept = tuple(slice(a, a + n) for n, (a, _) in zip(size, pads, strict=True))
    return result.reshape(batch, channels, *grown)[(..., *kept)]


def windowed(op: OpView, x: np.ndarray, fill: float) -> np.ndarray:
    """``[taps, ...]``: the result for each place of the window alone."""
    assert (op.text("padding_mode"), op.text("data_format")) == ("CALCULATED", "NCHW"), op.name
    assert not any(map(op.flag, ("global_pooling", "ceil_mode"))), op.name
    padded = np.pad(x, ((0, 0), (0, 0), *pads_of(op)), constant_values=fill)
    window, strides = op.ints("ksize")[2:], op.ints("strides")[2:]
    out = op.outputs[0].shape[2:]
    return np.stack([padded[(..., *seen)] for _, seen in taps(window, out, strides, (1, 1))])


@computes("MaxPoolV3")
def max_pool(op: OpView, x: np.ndarray) -> np.ndarray:
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return windowed(op, x, least).max(0)


@computes("AvgPoolV2")
def avg_pool(op: OpView, x: np.ndarray) -> np.ndarray:
    """The mean of each window; with ``exclusive`` of what is no padding."""
    total = windowed(op, x, 0).sum(0, dtype=np.float64)
    if op.flag("exclusive"):
        return (total / windowed(op, np.ones_like(x), 0).sum(0)).astype(x.dtype)
    return (total / (op.ints("ksize")[2] * op.ints("ksize")[3])).astype(x.dtype)
