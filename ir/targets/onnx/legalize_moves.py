"""Moves, scans and windows that ONNX lacks, as those that it has."""

from collections.abc import Callable

import numpy as np

from fnckpt.ir.attributes import integer, ints, pairs
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators.reduction import REDUCTIONS, least_and_greatest
from fnckpt.ir.passes.build import FLOAT64, Build
from fnckpt.ir.passes.convolve import conv_as_product, mean_as_sum
from fnckpt.ir.passes.places import update_slice_by_rows
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites


def doubled(root: CNode, fill: float, combine: Callable[[Node, Node], Node]) -> Node:
    """A scan: each element is combined with the one 1, 2, 4, ... before; ``fill`` is neutral."""
    (x,), build = root.inputs, Build(root)
    axis, reverse = integer(root, "axis"), bool(root.attrs["reverse"])
    size, step = x.aval.shape[axis], 1
    while step < size:
        ends = tuple(step if i == axis else 0 for i in range(len(x.aval.shape)))
        none = (0,) * len(ends)
        start, limit = (step, size) if reverse else (0, size - step)
        part = build.slice(x, axis, start, limit)
        low, high = (none, ends) if reverse else (ends, none)
        x = combine(x, build.pad(part, low, high, fill))
        step *= 2
    return x


def _scan(op: str, fill: Callable[[np.dtype], float]) -> Callable[[CNode], Node]:
    def compose(root: CNode) -> Node:
        build = Build(root)
        return doubled(root, fill(root.aval.dtype), lambda a, b: build(op, a, b))

    return compose


SCANS = {
    "CumMax": _scan("Maximum", lambda dtype: least_and_greatest(dtype)[0].item()),
    "CumMin": _scan("Minimum", lambda dtype: least_and_greatest(dtype)[1].item()),
    "CumProd": _scan("Mul", lambda dtype: 1),
}


def _drop_reduction(root: CNode) -> Node | None:
    """A reduction over no axes changes nothing; ONNX would take it for all axes."""
    return None if root.attrs["axes"] else root.inputs[0]


@rewrites("Reverse")
def drop_reverse(root: CNode) -> Node | None:
    """Reversing no axis changes nothing."""
    return None if root.attrs["axes"] else root.inputs[0]


@rewrites("ConvTranspose")
def pad_after_transposed(root: CNode) -> Node | None:
    """ONNX cuts the result but does not grow it; zeros are put around it afterwards."""
    both = pairs(root, "pads")
    if all(max(pair) <= 0 for pair in both):
        return None
    cut = tuple((min(low, 0), min(high, 0)) for low, high in both)
    result = Build(root)("ConvTranspose", *root.inputs, **{**root.attrs, "pads": cut})
    low, high = ((0, 0, *(max(pair[i], 0) for pair in both)) for i in (0, 1))
    return Build(root).pad(result, low, high)


def _pad_outside(root: CNode) -> Node | None:
    """The runtime's windows must reach out of the padding; here it is put around beforehand."""
    (x,), build, both = root.inputs, Build(root), pairs(root, "pads")
    if all(max(pair) < size for pair, size in zip(both, ints(root, "window"), strict=True)):
        return None
    if root.op == "AvgPool" and not root.attrs["count_padding"]:
        return None
    fill = 0 if root.op == "AvgPool" else least_and_greatest(x.aval.dtype)[0].item()
    low, high = ((0, 0, *(pair[i] for pair in both)) for i in (0, 1))
    padded = build.pad(x, low, high, fill)
    return build(root.op, padded, **{**root.attrs, "pads": ((0, 0),) * len(both)})


def _conv_of_others(root: CNode) -> Node | None:
    """The runtime convolves float32 and narrower floats."""
    dtype = root.aval.dtype
    return conv_as_product(root) if dtype.kind in "iu" or dtype == FLOAT64 else None


def _mean_of_doubles(root: CNode) -> Node | None:
    """The runtime takes the mean of float32 and narrower floats."""
    return mean_as_sum(root) if root.aval.dtype == FLOAT64 else None


RULES: tuple[Rule, ...] = (
    *(Rule(Op(op), _pad_outside) for op in ("MaxPool", "AvgPool")),
    Rule(Op("Conv"), _conv_of_others),
    Rule(Op("AvgPool"), _mean_of_doubles),
    drop_reverse,
    update_slice_by_rows,
    pad_after_transposed,
    *(Rule(Op(op), compose) for op, compose in SCANS.items()),
    *(Rule(Op(op), _drop_reduction) for op in REDUCTIONS),
)
