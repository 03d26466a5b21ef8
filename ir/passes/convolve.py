"""A convolution as one product of matrices, for dtypes that a runtime has no other kernel for."""

import math

import numpy as np

from fnckpt.ir.attributes import Ints, integer, ints, pairs
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.passes.build import Build


def conv_as_product(root: CNode) -> Node:
    """Conv is MatMul of the kernel with what each window sees, exact for integers.

    ``x[N, C, ...]`` becomes ``[N, groups, C / groups * window, places]`` by a strided slice for
    each element of the window.
    """
    (x, w, *bias), build = root.inputs, Build(root)
    groups, out = integer(root, "groups"), root.aval.shape[2:]
    batch, channels, outputs = x.aval.shape[0], x.aval.shape[1], w.aval.shape[0]
    low, high = zip(*pairs(root, "pads"), strict=True)
    padded = build.pad(x, (0, 0, *low), (0, 0, *high))
    window, places = w.aval.shape[2:], math.prod(out)
    seen = [
        build.reshape(
            _seen_at(build, padded, place, root), (batch, groups, channels // groups, 1, places)
        )
        for place in np.ndindex(*window)
    ]
    joined = seen[0] if len(seen) == 1 else build("Concat", *seen, axis=3)
    depth = channels // groups * len(seen)
    columns = build.reshape(joined, (batch, groups, depth, places))
    kernel = build.reshape(w, (1, groups, outputs // groups, depth))
    product = build("MatMul", kernel, columns, transpose_a=False, transpose_b=False)
    result = build.reshape(product, (batch, outputs, *out))
    if not bias:
        return result
    return build("Add", result, build.reshape(bias[0], (outputs, *(1,) * len(out))))


def mean_as_sum(root: CNode) -> Node:
    """AvgPool is the sum of what each window sees, by how much of it counts."""
    (x,), build, window = root.inputs, Build(root), ints(root, "window")
    low, high = zip(*pairs(root, "pads"), strict=True)
    padded = build.pad(x, (0, 0, *low), (0, 0, *high))
    total, *others = (_seen_at(build, padded, place, root) for place in np.ndindex(*window))
    for part in others:
        total = build("Add", total, part)
    if root.attrs["count_padding"]:
        return build("Mul", total, build.number(1 / math.prod(window), x))
    ones = np.pad(np.ones(x.aval.shape[2:]), pairs(root, "pads"))
    axes = tuple(range(len(window)))
    seen = np.lib.stride_tricks.sliding_window_view(ones, window, axes)
    every = tuple(slice(None, None, step) for step in ints(root, "strides"))
    counts = seen[every].sum(tuple(axis + len(window) for axis in axes))
    return build("Div", total, Constant(counts.astype(x.aval.dtype)))


def _seen_at(build: Build, x: Node, place: Ints, root: CNode) -> Node:
    """The element of every window that is at ``place`` of it."""
    dilation = ints(root, "dilation") if "dilation" in root.attrs else (1,) * len(place)
    start = [at * step for at, step in zip(place, dilation, strict=True)]
    strides = ints(root, "strides")
    reach = zip(start, root.aval.shape[2:], strides, strict=True)
    limit = (at + (size - 1) * step + 1 for at, size, step in reach)
    return build(
        "Slice",
        x,
        start=(0, 0, *start),
        limit=(*x.aval.shape[:2], *limit),
        strides=(1, 1, *strides),
    )
