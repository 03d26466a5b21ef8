"""Convolution: any dimension numbers, groups, dilation and padding, channels first."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.extend.core import Jaxpr
from jax.lax import ConvDimensionNumbers

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.registry import Site, Value, lowers
from fnckpt.ir.lowering.shape import dilate, pad
from fnckpt.ir.operators import constant
from fnckpt.ir.operators.network import is_product_of_channels, product_of_channels
from fnckpt.ir.sizes import is_known

Ints = tuple[int, ...]
Pads = Sequence[tuple[int, int]]


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

    Its derivatives, what ``vmap`` makes of it, and a function of the user may have its name, so
    that ``jaxpr`` must be what JAX makes of it for arrays of these shapes.
    """
    avals = [each.aval for each in args if isinstance(each, Node)]
    if len(args) != 2 or len(avals) != 2 or not is_product_of_channels(*(a.shape for a in avals)):
        return None
    spatial = len(avals[0].shape) - 2
    cuts = [eqn.params["strides"] for eqn in jaxpr.eqns if eqn.primitive.name == "slice"]
    strides = cuts[0][2:] if cuts and cuts[0] else (1,) * spatial
    given = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in avals]
    traced = jax.make_jaxpr(product_of_channels, static_argnums=2)(*given, strides)
    if str(traced.jaxpr) != str(jaxpr):
        return None
    axes, ones = tuple(range(spatial + 2)), (1,) * spatial
    found = lower_conv(
        site, *args, window_strides=strides, padding=((0, 0),) * spatial, lhs_dilation=ones,
        rhs_dilation=ones, dimension_numbers=ConvDimensionNumbers(axes, axes, axes),
        feature_group_count=1, batch_group_count=1, preferred_element_type=None,
    )  # fmt: skip
    assert isinstance(found, Node)
    return found
