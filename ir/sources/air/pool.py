"""Pooling; files of either layout."""

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.air.registry import Site, imports
from fnckpt.ir.sources.build import Builder
from fnckpt.ir.sources.composed import Pads, response_normalized, same_padding
from fnckpt.ir.sources.source import Refusal

Ints = tuple[int, ...]


def channels_first(site: Site, x: Node) -> Node:
    """``x`` with its channels behind the batch."""
    return site.build.moved(x, len(x.aval.shape) - 1, 1) if site.channels_last else x


def as_in_file(site: Site, x: Node) -> Node:
    """``x`` with its channels where the file has them."""
    return site.build.moved(x, 1, len(x.aval.shape) - 1) if site.channels_last else x


def spatial(site: Site, numbers: Ints) -> Ints:
    """Of one number for each axis of the layout those of the axes of space."""
    return numbers[1:-1] if site.channels_last else numbers[2:]


def pairs_of(flat: Ints) -> Pads:
    """``pads``, before and after, axis by axis."""
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def padding(mode: str, shape: Ints, window: Ints, strides: Ints) -> Pads:
    """That of a mode by name."""
    if mode == "SAME":
        return tuple(map(same_padding, shape, window, strides))
    if mode != "VALID":
        raise ValueError(f"there is no padding {mode!r}")
    return ((0, 0),) * len(window)


def pooled(b: Builder, x: Node, greatest: bool, window: Ints, strides: Ints, pads: Pads,
           counted: bool) -> Node:  # fmt: skip
    """The greatest of each window, or its mean; ``counted``: padding counts in the mean."""
    if greatest:
        return b("MaxPool", x, window=window, strides=strides, pads=pads)
    return b("AvgPool", x, window=window, strides=strides, pads=pads, count_padding=counted)


@imports("MaxPool", "AvgPool")
def import_pool(site: Site, x: Node) -> Node:
    """TensorFlow's: what is padded does not count."""
    first = channels_first(site, x)
    window, strides = (spatial(site, site.op.ints(name)) for name in ("ksize", "strides"))
    pads = padding(site.op.text("padding"), first.aval.shape[2:], window, strides)
    found = pooled(site.build, first, site.kind == "MaxPool", window, strides, pads, False)
    return as_in_file(site, found)


@imports("MaxPool3D")
def import_pool_3d(site: Site, x: Node) -> Node:
    if set(site.op.ints("dilation")) - {1} or site.op.integer("ceil_mode"):
        raise Refusal("its windows have gaps, or the last one is cut off; pad the input")
    return import_pool_of_volumes(site, x)


def import_pool_of_volumes(site: Site, x: Node) -> Node:
    """``ksize`` may be the axes of space alone, or one number."""
    first = channels_first(site, x)
    rank = len(first.aval.shape) - 2
    window, strides = (
        given * rank if len(given) == 1 else given if len(given) == rank else spatial(site, given)
        for given in (site.op.ints(name) for name in ("ksize", "strides"))
    )
    pads = padding(site.op.text("padding"), first.aval.shape[2:], window, strides)
    return as_in_file(site, pooled(site.build, first, True, window, strides, pads, False))


@imports("MaxPoolV3", "AvgPoolV2")
def import_pool_by_pads(site: Site, x: Node) -> Node:
    op, first = site.op, channels_first(site, x)
    if op.flag("ceil_mode"):
        raise Refusal("its last window is cut off (ceil_mode); pad the input")
    window, strides = (spatial(site, op.ints(name)) for name in ("ksize", "strides"))
    mode, shape = op.text("padding_mode"), first.aval.shape[2:]
    if op.flag("global_pooling"):
        window, strides, pads = shape, (1,) * len(shape), ((0, 0),) * len(shape)
    elif mode == "CALCULATED":
        pads = pairs_of(op.ints("pads"))
    else:
        pads = padding(mode, shape, window, strides)
    greatest = site.kind == "MaxPoolV3"
    counted = not greatest and not op.flag("exclusive")
    found = pooled(site.build, first, greatest, window, strides, pads, counted)
    return as_in_file(site, found)


MOST_RADIUS = 64


@imports("LRN")
def import_lrn(site: Site, x: Node) -> Node:
    """``x`` by a power of the sum of squares of the channels around; channels are axis 1."""
    b, op, radius = site.build, site.op, site.op.integer("depth_radius")
    if op.text("norm_region") != "ACROSS_CHANNELS" or not 0 <= radius <= MOST_RADIUS:
        raise Refusal(f"it normalizes within channels, or over more than {2 * MOST_RADIUS + 1}")
    alpha, bias, beta = (op.number(each) for each in ("alpha", "bias", "beta"))
    return response_normalized(b, x, 2 * radius + 1, alpha, bias, beta)
