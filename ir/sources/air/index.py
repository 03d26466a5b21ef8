"""Operators that read or write at indices, and those that compare with them."""

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.air.registry import Site, imports
from fnckpt.ir.sources.air.shape import SHAPE, Ints
from fnckpt.ir.sources.build import Builder, axis_of


@imports("GatherV2D")
def import_gather_d(site: Site, x: Node, indices: Node) -> Node:
    return gathered(site.build, x, indices, site.op.integer("axis"))


@imports("GatherV2")
def import_gather_v2(site: Site, x: Node, indices: Node, axis: Node) -> Node:
    return gathered(site.build, x, indices, site.build.size(axis, "its axis"))


@imports("Gather")
def import_gather(site: Site, x: Node, indices: Node) -> Node:
    return gathered(site.build, x, indices, 0)


def gathered(b: Builder, x: Node, indices: Node, axis: int) -> Node:
    return b("Gather", x, indices, axis=axis_of(axis, len(x.aval.shape)))


@imports("GatherNd")
def import_gather_nd(site: Site, x: Node, indices: Node) -> Node:
    return site.build("GatherNd", x, indices)


@imports("TensorScatterUpdate", "TensorScatterAdd")
def import_tensor_scatter(site: Site, x: Node, indices: Node, updates: Node) -> Node:
    how = "" if site.kind == "TensorScatterUpdate" else "add"
    return site.build("ScatterNd", x, indices, updates, reduction=how)


@imports("TensorScatterSub")
def import_tensor_scatter_sub(site: Site, x: Node, indices: Node, updates: Node) -> Node:
    b = site.build
    return b("ScatterNd", x, indices, b("Neg", updates), reduction="add")


@imports("ScatterNdD")
def import_scatter_nd_d(site: Site, indices: Node, x: Node) -> Node:
    return scattered(site.build, indices, x, site.op.ints("shape"))


@imports("ScatterNd")
def import_scatter_nd(site: Site, indices: Node, x: Node, shape: Node) -> Node:
    return scattered(site.build, indices, x, site.build.sizes(shape, SHAPE))


def scattered(b: Builder, indices: Node, x: Node, shape: Ints) -> Node:
    return b("ScatterNd", b.full(shape, 0, x), indices, x, reduction="add")


@imports("OneHotD")
def import_one_hot_d(site: Site, x: Node, on: Node, off: Node) -> Node:
    return one_hot(site, x, site.op.integer("depth"), on, off)


@imports("OneHot")
def import_one_hot(site: Site, x: Node, depth: Node, on: Node, off: Node) -> Node:
    return one_hot(site, x, site.build.size(depth, "how many classes it has"), on, off)


def one_hot(site: Site, x: Node, depth: int, on: Node, off: Node) -> Node:
    b, rank = site.build, len(x.aval.shape) + 1
    axis = axis_of(site.op.integer("axis"), rank)
    classes = b.reshape(b.counted(depth, x.aval.dtype), (depth, *(1,) * (rank - 1 - axis)))
    hit = b("Equal", b.unsqueeze(x, axis), classes)
    return b("Select", hit, *(b.reshape(each, ()) for each in (on, off)))


@imports("MatrixDiagD", "MatrixDiagPartD")
def import_matrix_diag(site: Site, x: Node, assist: Node) -> Node:
    """``assist`` is a matrix that has ones on its diagonal."""
    b, rank = site.build, len(assist.aval.shape)
    if site.kind == "MatrixDiagD":
        return b.mul(b.unsqueeze(x, rank - 1), assist)
    axis = rank - 2 if x.aval.shape[-1] <= x.aval.shape[-2] else rank - 1
    return b.sum(b.mul(x, assist), (axis,))
