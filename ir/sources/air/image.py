"""Images at other sizes; their channels are axis 1."""

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.air.registry import Site, imports
from fnckpt.ir.sources.build import FLOAT32
from fnckpt.ir.sources.composed import resized


@imports("ResizeBilinearV2D", "ResizeNearestNeighborV2D")
def import_resize_d(site: Site, x: Node) -> Node:
    return resize(site, x, site.op.ints("size"))


@imports("ResizeBilinearV2", "ResizeNearestNeighborV2")
def import_resize(site: Site, x: Node, size: Node) -> Node:
    return resize(site, x, site.build.sizes(size, "its size"))


def resize(site: Site, x: Node, sizes: tuple[int, ...]) -> Node:
    """What is bilinear is float32 whatever ``x`` is."""
    nearest = site.kind.startswith("ResizeNearest")
    ends = {"corners": site.op.flag("align_corners"), "centers": site.op.flag("half_pixel_centers")}
    x = x if nearest else site.build.cast(x, FLOAT32)
    return resized(site.build, x, sizes, nearest=nearest, **ends)
