"""GE's shape inference for products, convolution, pooling and normalization."""

from collections.abc import Sequence

from fnckpt.ir.targets.air.infer import (
    RULES,
    Ints,
    Site,
    axis_of,
    count,
    infers,
    require,
    same_dtype,
)
from fnckpt.ir.targets.air.view import Desc

__all__ = ["RULES"]  # whole, now that the rules below are in it


@infers("SoftmaxV2", "LogSoftmaxV2")
def softmax(site: Site) -> Sequence[Desc]:
    for axis in site.op.ints("axes"):
        axis_of(axis, len(site[0].shape))
    return [site[0]]


@infers("LayerNorm")
def layer_norm(site: Site) -> Sequence[Desc]:
    x, rank = site[0], len(site[0].shape)
    norm = axis_of(site.op.integer("begin_norm_axis"), rank)
    params = axis_of(site.op.integer("begin_params_axis"), rank)
    for each in (site[1], site[2]):
        require(
            each.shape == x.shape[params:], f"gamma and beta are {x.shape[params:]}, found {each}"
        )
    moments = (*x.shape[:norm], *(1,) * (rank - norm))
    return [x, Desc(x.dtype, moments), Desc(x.dtype, moments)]


@infers("BatchNorm")
def batch_norm(site: Site) -> Sequence[Desc]:
    x = site[0]
    require(len(x.shape) == 4, f"x has 4 axes, found {x}")
    require(not site.op.flag("is_training"), "is_training is true in a file for inference")
    axis = {"NCHW": 1, "NHWC": 3}.get(site.op.text("data_format"))
    require(axis is not None, f"data_format is {site.op.text('data_format')}")
    assert axis is not None
    for port in range(1, 5):
        vector = site.maybe(port)
        require(vector is not None, f"inference needs input {port}")
        require(vector == Desc("FLOAT", (x.shape[axis],)), f"input {port} is {vector}, x is {x}")
    return [x, *[site[1]] * 4]


def matrix(shape: Ints, turned: bool) -> tuple[int, int]:
    return (shape[-1], shape[-2]) if turned else (shape[-2], shape[-1])


@infers("MatMulV2")
def matmul(site: Site) -> Sequence[Desc]:
    a, b, bias = site[0], site[1], site.maybe(2)
    require(len(a.shape) == 2 and len(b.shape) == 2, f"takes matrices, found {a} and {b}")
    rows, inner = matrix(a.shape, site.op.flag("transpose_x1"))
    inner_b, columns = matrix(b.shape, site.op.flag("transpose_x2"))
    require(inner == inner_b, f"{a} and {b} cannot be multiplied")
    if bias is not None:
        require(bias.shape == (columns,), f"bias is {bias}, expected [{columns}]")
        same_dtype(a, bias)
    return [Desc(same_dtype(a, b), (rows, columns))]


@infers("BatchMatMul")
def batch_matmul(site: Site) -> Sequence[Desc]:
    a, b = site[0], site[1]
    same_batch = len(a.shape) == len(b.shape) > 2 and a.shape[:-2] == b.shape[:-2]
    require(same_batch, f"takes stacks of matrices of one shape, found {a} and {b}")
    rows, inner = matrix(a.shape, site.op.flag("adj_x1"))
    inner_b, columns = matrix(b.shape, site.op.flag("adj_x2"))
    require(inner == inner_b, f"{a} and {b} cannot be multiplied")
    return [Desc(same_dtype(a, b), (*a.shape[:-2], rows, columns))]


def spatial(site: Site, name: str, layout: str) -> Ints:
    """The numbers of an attribute in ``data_format`` order that belong to spatial axes."""
    row, rank = site.op.ints(name), len(layout)
    require(len(row) == rank, f"{name} has {rank} numbers, found {row}")
    places = [i for i, axis in enumerate(layout) if axis not in "NC"]
    rest = [row[i] for i in range(rank) if i not in places]
    require(all(n == 1 for n in rest), f"{name} is 1 for N and C, found {row}")
    return tuple(row[i] for i in places)


def pairs(site: Site, axes: int) -> list[Ints]:
    """``pads`` as before and after of each spatial axis."""
    flat = site.op.ints("pads")
    require(len(flat) == 2 * axes, f"pads has {2 * axes} numbers, found {flat}")
    require(min(flat) >= 0 and max(flat) <= 255, f"pads are 0 to 255, found {flat}")
    return list(zip(flat[::2], flat[1::2], strict=True))


def windows(n: int, window: int, stride: int, pad: Ints, dilation: int = 1) -> int:
    return (n + sum(pad) - (window - 1) * dilation - 1) // stride + 1


def limited(name: str, row: Ints, least: int, most: int) -> None:
    inside = all(least <= n <= most for n in row)
    require(inside, f"{name} are {least} to {most}, found {row}")


def convolved(site: Site, x_shape: Ints, kernel: Ints, layout: str) -> Ints:
    strides, dilations = spatial(site, "strides", layout), spatial(site, "dilations", layout)
    limited("strides", strides, 1, 63)
    limited("dilations", dilations, 1, 255)
    limited("kernel sizes", kernel[2:], 1, 255)
    pads, groups = pairs(site, len(strides)), site.op.integer("groups")
    require(groups > 0 and kernel[0] % groups == 0, f"groups is {groups} of {kernel[0]} channels")
    fits = x_shape[1] == kernel[1] * groups
    require(fits, f"x {x_shape} and filter {kernel} do not fit in {groups} groups")
    sizes = map(windows, x_shape[2:], kernel[2:], strides, pads, dilations)
    return (x_shape[0], kernel[0], *sizes)


@infers("Conv2D", "Conv3D")
def conv(site: Site) -> Sequence[Desc]:
    x, kernel, bias = site[0], site[1], site.maybe(2)
    layout = {"Conv2D": "NCHW", "Conv3D": "NCDHW"}[site.op.type]
    found = site.op.text("data_format")
    require(found == layout, f"data_format is {layout} in the files that we know, found {found}")
    ranks = len(x.shape) == len(kernel.shape) == len(layout)
    require(ranks, f"x and filter have {len(layout)} axes, found {x} and {kernel}")
    same_dtype(x, kernel)
    if bias is not None:
        wanted = Desc(x.dtype, (kernel.shape[0],))
        require(bias == wanted, f"bias is {bias}, expected {wanted}")
    return [Desc(x.dtype, convolved(site, x.shape, kernel.shape, layout))]


@infers("Conv2DBackpropInput")
def conv_backprop_input(site: Site) -> Sequence[Desc]:
    size, kernel, given = site.value(0), site[1], site[2]
    require(site.op.text("data_format") == "NCHW", "data_format is NCHW in the files that we know")
    require(len(size) == 4, f"input_size has 4 numbers, found {size}")
    require(len(kernel.shape) == 4, f"filter has 4 axes, found {kernel}")
    forward = convolved(site, size, kernel.shape, "NCHW")
    require(given.shape == forward, f"out_backprop is {given}, the convolution gives {forward}")
    return [Desc(same_dtype(kernel, given), size)]


@infers("MaxPoolV3", "AvgPoolV2")
def pool(site: Site) -> Sequence[Desc]:
    x, op = site[0], site.op
    known = op.text("data_format") == "NCHW" and op.text("padding_mode") == "CALCULATED"
    require(known, "data_format is NCHW and padding_mode CALCULATED in the files that we know")
    plain = not op.flag("global_pooling") and not op.flag("ceil_mode")
    require(plain, "global_pooling and ceil_mode are false in the files that we know")
    require(len(x.shape) == 4, f"x has 4 axes, found {x}")
    ksize, strides = spatial(site, "ksize", "NCHW"), spatial(site, "strides", "NCHW")
    limited("strides", strides, 1, 63)
    require(1 <= count(ksize) <= 255, f"a window has at most 255 elements, found {ksize}")
    sizes = map(windows, x.shape[2:], ksize, strides, pairs(site, 2))
    return [Desc(x.dtype, (*x.shape[:2], *sizes))]
