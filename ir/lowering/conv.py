"""Convolution: any dimension numbers, groups, dilation and padding, channels first."""

from collections.abc import Sequence

import numpy as np
from jax.extend.core import Jaxpr
from jax.lax import ConvDimensionNumbers

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.registry import Site, Value, lowers
from fnckpt.ir.lowering.shape import dilate, pad
from fnckpt.ir.operators import constant
from fnckpt.ir.sizes import is_known

Ints = tuple[int, ...]
Pads = Sequence[tuple[int, int]]

PRODUCT = ["squeeze", "dot_general", "transpose"]
FORMS_OF_PRODUCT = (PRODUCT, ["slice", *PRODUCT])


@lowers("conv_general_dilated")
def lower_conv(
    site: Site,
    x: Node,
    w: Node,
    *,
    window_strides: Ints,
    padding: Pads,
    lhs_dilation: Ints,
    rhs_dilation: Ints,
    dimension_numbers: ConvDimensionNumbers,
    feature_group_count: int,
    batch_group_count: int,
    preferred_element_type: np.dtype | None,
) -> Node:
    """Operands are turned to channels first, and the result back."""
    avals = (site.aval, x.aval, w.aval)
    if any(is_known(size) and size == 0 for aval in avals for size in aval.shape):
        # a window larger than its input, or a sum over nothing
        zero = constant(np.zeros((), site.aval.dtype))
        return site.apply("BroadcastTo", zero, shape=site.aval.shape) if site.aval.shape else zero
    x, w = site.cast(x, site.aval.dtype), site.cast(w, site.aval.dtype)
    x = site.transpose(x, dimension_numbers.lhs_spec)
    w = site.transpose(w, dimension_numbers.rhs_spec)
    if batch_group_count > 1:
        x = batch_groups_as_features(site, x, batch_group_count)
    groups = feature_group_count * batch_group_count
    if not window_strides:
        result = of_points(site, x, w, groups)
    elif is_transposed(x, lhs_dilation, window_strides):
        result = transposed(site, x, w, padding, lhs_dilation, rhs_dilation, groups)
    else:
        zero = site.constant(0, x)
        x = dilate(site, x, zero, (0, 0, *(step - 1 for step in lhs_dilation)))
        x, pads = without_negative_pads(site, x, padding)
        result = site.apply(
            "Conv",
            x,
            w,
            strides=tuple(window_strides),
            pads=pads,
            dilation=tuple(rhs_dilation),
            groups=groups,
        )
    return site.transpose(result, tuple(np.argsort(dimension_numbers.out_spec).tolist()))


def of_points(site: Site, x: Node, w: Node, groups: int) -> Node:
    """A convolution without spatial axes, as one along an axis of size 1."""
    rows = (site.reshape(each, (*each.aval.shape, 1)) for each in (x, w))
    result = site.apply("Conv", *rows, strides=(1,), pads=((0, 0),), dilation=(1,), groups=groups)
    return site.reshape(result, result.aval.shape[:2])


def is_transposed(x: Node, lhs_dilation: Ints, window_strides: Ints) -> bool:
    """Whether it is the gradient of a convolution; of integers and doubles no runtime has it."""
    narrow_float = x.aval.dtype.kind not in "iu" and x.aval.dtype.itemsize < 8
    dilated = any(step > 1 for step in lhs_dilation) and all(step == 1 for step in window_strides)
    return narrow_float and dilated


def without_negative_pads(
    site: Site, x: Node, pads: Pads
) -> tuple[Node, tuple[tuple[int, int], ...]]:
    """``x`` cut where a pad is negative, and the pads that are left."""
    cut = [(0, 0), (0, 0), *((min(0, low), min(0, high)) for low, high in pads)]
    left = tuple((max(0, low), max(0, high)) for low, high in pads)
    if any(low or high for low, high in cut):
        return pad(site, x, site.constant(0, x), cut), left
    return x, left


def batch_groups_as_features(site: Site, x: Node, groups: int) -> Node:
    """``[groups * N, C, ...]`` as ``[N, groups * C, ...]``: a part is a group."""
    batch, channels, *spatial = x.aval.shape
    split = site.reshape(x, (groups, batch // groups, channels, *spatial))
    axes = (1, 0, *range(2, len(x.aval.shape) + 1))
    return site.reshape(site.transpose(split, axes), (batch // groups, groups * channels, *spatial))


def transposed(
    site: Site, x: Node, w: Node, padding: Pads, steps: Ints, dilation: Ints, groups: int
) -> Node:
    """A convolution over ``x`` with zeros between its elements paints the mirrored kernel.

    The kernel ``[O, I / groups, ...]`` becomes ``[I, O / groups, ...]``.
    """
    outputs, inputs, *window = w.aval.shape
    mirrored = site.apply("Reverse", w, axes=tuple(range(2, len(w.aval.shape))))
    split = site.reshape(mirrored, (groups, outputs // groups, inputs, *window))
    axes = (0, 2, 1, *range(3, len(window) + 3))
    kernel = site.reshape(
        site.transpose(split, axes), (groups * inputs, outputs // groups, *window)
    )
    reach = [(size - 1) * step for size, step in zip(window, dilation, strict=True)]
    pads = tuple((low - n, high - n) for (low, high), n in zip(padding, reach, strict=True))
    return site.apply(
        "ConvTranspose", x, kernel, strides=tuple(steps), pads=pads, dilation=tuple(dilation),
        groups=groups,
    )  # fmt: skip


def conv_of_product(site: Site, jaxpr: Jaxpr, args: Sequence[Value]) -> Node | None:
    """The convolution that ``product_of_channels`` computes; None if ``jaxpr`` is another one.

    Its derivatives, and what ``vmap`` makes of it, have the same name.
    """
    eqns = {eqn.primitive.name: eqn for eqn in jaxpr.eqns}
    x, w = args[0], args[-1]
    if list(eqns) not in FORMS_OF_PRODUCT or len(args) != 2 or len(jaxpr.outvars) != 1:
        return None
    if eqns["dot_general"].params["dimension_numbers"] != (((1,), (1,)), ((), ())):
        return None
    if not isinstance(x, Node) or not isinstance(w, Node) or len(x.aval.shape) != len(w.aval.shape):
        return None
    spatial = len(x.aval.shape) - 2
    strides = eqns["slice"].params["strides"][2:] if "slice" in eqns else (1,) * spatial
    plain = {"pads": ((0, 0),) * spatial, "dilation": (1,) * spatial, "groups": 1}
    return site.apply("Conv", x, w, strides=strides, **plain)
