"""GE's shape inference, for the types that we emit: what the results must be, by the prototypes.

Written from the operators' documented meaning (graphengine r1.1, header texts, and the framework
operators they name as compatible), to judge files by; it knows nothing of our own operators.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.targets.air.codes import OF_DTYPE, OF_ENGINE_CODE
from fnckpt.ir.targets.air.view import Desc, OpView

Ints = tuple[int, ...]


class Mismatch(Exception):
    """The inputs or attributes of an operator contradict each other; the message says how."""


@dataclass(frozen=True)
class Site:
    """An operator with the types of its inputs; ``values`` are those that Const operators hold."""

    op: OpView
    descs: Mapping[str, Desc]
    values: Mapping[str, np.ndarray]

    def __getitem__(self, port: int) -> Desc:
        """The type of the input at a place, which is connected."""
        source = self.op.inputs[port]
        assert isinstance(source, str)
        return self.descs[source]

    def maybe(self, port: int) -> Desc | None:
        """The type of an optional input."""
        source = self.op.inputs[port]
        return self.descs[source] if isinstance(source, str) else None

    def group(self, port: int) -> list[Desc]:
        """The types of a dynamic input."""
        source = self.op.inputs[port]
        assert isinstance(source, tuple)
        return [self.descs[each] for each in source]

    def value(self, port: int) -> Ints:
        """The integers of an input that must be constant."""
        source = self.op.inputs[port]
        assert isinstance(source, str)
        if source not in self.values:
            raise Mismatch(f"input {port} ({source}) must be a Const")
        return tuple(int(each) for each in self.values[source].reshape(-1))

    def scalar(self, port: int) -> int:
        """The one integer of an input that must be constant."""
        values = self.value(port)
        if len(values) != 1:
            raise Mismatch(f"input {port} is one number, found {len(values)}")
        return values[0]


Rule = Callable[[Site], Sequence[Desc]]

RULES: dict[str, Rule] = {}


def infers(*types: str) -> Callable[[Rule], Rule]:
    """Register the decorated function as the shape function of ``types``."""

    def register(rule: Rule) -> Rule:
        for each in types:
            assert each not in RULES, each
            RULES[each] = rule
        return rule

    return register


def require(held: bool, text: str) -> None:
    """Raise ``Mismatch`` with ``text`` unless it held."""
    if not held:
        raise Mismatch(text)


def same_dtype(*descs: Desc) -> str:
    """The one data type of all."""
    require(len({each.dtype for each in descs}) == 1, f"types differ: {', '.join(map(str, descs))}")
    return descs[0].dtype


def broadcast(*descs: Desc) -> Ints:
    """The common shape."""
    try:
        return np.broadcast_shapes(*(each.shape for each in descs))
    except ValueError:
        shown = ", ".join(map(str, descs))
        raise Mismatch(f"shapes do not broadcast: {shown}") from None


def count(shape: Ints) -> int:
    """The number of elements."""
    return math.prod(shape)


def axis_of(axis: int, rank: int) -> int:
    """The axis counted from the front."""
    require(-rank <= axis < rank, f"axis {axis} is not one of {rank}")
    return axis % rank


UNARY = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Erfc",
    "Exp",
    "Expm1",
    "Floor",
    "Gelu",
    "Identity",
    "Invert",
    "LeakyRelu",
    "Log",
    "Log1p",
    "LogicalNot",
    "Neg",
    "Reciprocal",
    "Relu",
    "Rint",
    "Rsqrt",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Sqrt",
    "Square",
    "Tan",
    "Tanh",
]
BINARY = [
    "Add",
    "Atan2",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "LogicalAnd",
    "LogicalOr",
    "Maximum",
    "Minimum",
    "Mul",
    "NextAfter",
    "Pow",
    "RealDiv",
    "RightShift",
    "Sub",
    "TruncateDiv",
    "TruncateMod",
]
COMPARING = ["Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "NotEqual"]


@infers(*UNARY)
def unary(site: Site) -> Sequence[Desc]:
    return [site[0]]


@infers(*BINARY)
def binary(site: Site) -> Sequence[Desc]:
    return [Desc(same_dtype(site[0], site[1]), broadcast(site[0], site[1]))]


@infers(*COMPARING)
def comparing(site: Site) -> Sequence[Desc]:
    same_dtype(site[0], site[1])
    return [Desc("BOOL", broadcast(site[0], site[1]))]


@infers("IsFinite", "IsInf", "IsNan")
def classifying(site: Site) -> Sequence[Desc]:
    return [Desc("BOOL", site[0].shape)]


@infers("PopulationCount")
def population_count(site: Site) -> Sequence[Desc]:
    return [Desc("UINT8", site[0].shape)]


@infers("Cast")
def cast(site: Site) -> Sequence[Desc]:
    code = site.op.integer("dst_type")
    require(code in OF_ENGINE_CODE, f"dst_type {code} is no engine code")
    return [Desc(OF_ENGINE_CODE[code].name, site[0].shape)]


@infers("Bitcast")
def bitcast(site: Site) -> Sequence[Desc]:
    dtype, given = site.op.dtype("type"), site[0]
    widths = {data.name: known.itemsize for known, data in OF_DTYPE.items()}
    require(widths[given.dtype] == dtype.itemsize, f"{given} has not the width of {dtype}")
    return [Desc(OF_DTYPE[dtype].name, given.shape)]


@infers("Select")
def select(site: Site) -> Sequence[Desc]:
    same_dtype(site[1], site[2])
    shapes = [site[i].shape for i in range(3)]
    require(len(set(shapes)) == 1, f"Select does not broadcast: {shapes}; use SelectV2")
    return [site[1]]


@infers("SelectV2")
def select_v2(site: Site) -> Sequence[Desc]:
    return [Desc(same_dtype(site[1], site[2]), broadcast(site[0], site[1], site[2]))]


@infers("Reshape")
def reshape(site: Site) -> Sequence[Desc]:
    shape = site.value(1)
    if shape.count(-1) == 1:
        known = -count(shape)
        require(known > 0 and count(site[0].shape) % known == 0, f"{site[0]} has no shape {shape}")
        shape = tuple(count(site[0].shape) // known if n == -1 else n for n in shape)
    require(count(shape) == count(site[0].shape), f"{site[0]} has not the elements of {shape}")
    return [Desc(site[0].dtype, shape)]


def transposed(x: Desc, perm: Ints) -> Sequence[Desc]:
    require(sorted(perm) == list(range(len(x.shape))), f"perm {perm} is none of {x}")
    return [Desc(x.dtype, tuple(x.shape[i] for i in perm))]


@infers("TransposeD")
def transpose_d(site: Site) -> Sequence[Desc]:
    return transposed(site[0], site.op.ints("perm"))


@infers("Transpose")
def transpose(site: Site) -> Sequence[Desc]:
    return transposed(site[0], site.value(1))


@infers("BroadcastToD")
def broadcast_to(site: Site) -> Sequence[Desc]:
    wanted = Desc(site[0].dtype, site.op.ints("shape"))
    require(broadcast(site[0], wanted) == wanted.shape, f"{site[0]} does not broadcast to {wanted}")
    return [wanted]


def joined(parts: list[Desc], axis: int, members: int) -> Sequence[Desc]:
    require(len(parts) == members > 0, f"N is {members}, {len(parts)} inputs are connected")
    axis = axis_of(axis, len(parts[0].shape))
    others = {each.shape[:axis] + each.shape[axis + 1 :] for each in parts}
    require(len(others) == 1, f"shapes differ beside axis {axis}: {', '.join(map(str, parts))}")
    total = sum(each.shape[axis] for each in parts)
    first = parts[0].shape
    return [Desc(same_dtype(*parts), (*first[:axis], total, *first[axis + 1 :]))]


@infers("ConcatD")
def concat_d(site: Site) -> Sequence[Desc]:
    return joined(site.group(0), site.op.integer("concat_dim"), site.op.integer("N"))


@infers("ConcatV2")
def concat_v2(site: Site) -> Sequence[Desc]:
    return joined(site.group(0), site.scalar(1), site.op.integer("N"))


def padded(x: Desc, pads: Sequence[Ints]) -> Sequence[Desc]:
    require(len(pads) == len(x.shape), f"{len(pads)} pairs of paddings for {x}")
    return [Desc(x.dtype, tuple(n + sum(pair) for n, pair in zip(x.shape, pads, strict=True)))]


@infers("PadD")
def pad_d(site: Site) -> Sequence[Desc]:
    pads = site.op.attrs["paddings"]
    assert isinstance(pads, tuple)
    rows = [pair for pair in pads if isinstance(pair, tuple) and len(pair) == 2]
    require(len(rows) == len(pads), f"paddings are pairs, found {pads}")
    return padded(site[0], [tuple(n for n in row if isinstance(n, int)) for row in rows])


@infers("PadV2")
def pad_v2(site: Site) -> Sequence[Desc]:
    same_dtype(site[0], site[2])
    require(count(site[2].shape) == 1, f"constant_values is one number, found {site[2]}")
    flat = site.value(1)
    require(len(flat) % 2 == 0, f"paddings are pairs, found {flat}")
    return padded(site[0], list(zip(flat[::2], flat[1::2], strict=True)))


def sliced(x: Desc, offsets: Ints, sizes: Ints) -> Sequence[Desc]:
    rows = list(zip(x.shape, offsets, sizes, strict=False))
    inside = len(offsets) == len(sizes) == len(x.shape) and all(
        start >= 0 and size >= 0 and start + size <= n for n, start, size in rows
    )
    require(inside, f"offsets {offsets} and size {sizes} are not inside {x}")
    return [Desc(x.dtype, sizes)]


@infers("SliceD")
def slice_d(site: Site) -> Sequence[Desc]:
    return sliced(site[0], site.op.ints("offsets"), site.op.ints("size"))


@infers("Slice")
def slice_(site: Site) -> Sequence[Desc]:
    x, sizes = site[0], site.value(2)
    require(site[1].shape == (len(x.shape),), f"offsets are one number an axis, found {site[1]}")
    return sliced(x, (0,) * len(x.shape), sizes)


def strided(site: Site, begin: Ints, end: Ints, strides: Ints) -> Sequence[Desc]:
    x = site[0]
    plain = [
        site.op.integer(f"{name}_mask")
        for name in ["begin", "end", "ellipsis", "new_axis", "shrink_axis"]
    ]
    require(not any(plain), f"masks are 0 in the files that we know, found {plain}")
    require(
        len(begin) == len(end) == len(strides) == len(x.shape), f"not one number an axis of {x}"
    )
    require(all(strides), "a stride is 0")
    parts = zip(x.shape, begin, end, strides, strict=True)
    return [Desc(x.dtype, tuple(len(range(n)[a:b:s]) for n, a, b, s in parts))]


@infers("StridedSliceD")
def strided_slice_d(site: Site) -> Sequence[Desc]:
    return strided(site, *(site.op.ints(name) for name in ("begin", "end", "strides")))


@infers("StridedSlice")
def strided_slice(site: Site) -> Sequence[Desc]:
    return strided(site, *(site.value(port) for port in (1, 2, 3)))


@infers("ReverseV2D")
def reverse(site: Site) -> Sequence[Desc]:
    for axis in site.op.ints("axis"):
        axis_of(axis, len(site[0].shape))
    return [site[0]]


def gathered(x: Desc, indices: Desc, axis: int) -> Sequence[Desc]:
    axis = axis_of(axis, len(x.shape))
    return [Desc(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))]


@infers("GatherV2D")
def gather_v2_d(site: Site) -> Sequence[Desc]:
    return gathered(site[0], site[1], site.op.integer("axis"))


@infers("GatherV2")
def gather_v2(site: Site) -> Sequence[Desc]:
    return gathered(site[0], site[1], site.scalar(2))


def rows_into(x: Desc, indices: Desc) -> Ints:
    """The shape of what the rows of ``indices`` choose."""
    require(bool(indices.shape), f"indices are rows, found {indices}")
    depth = indices.shape[-1]
    require(depth <= len(x.shape), f"rows of {depth} numbers are no places of {x}")
    return (*indices.shape[:-1], *x.shape[depth:])


@infers("GatherNd")
def gather_nd(site: Site) -> Sequence[Desc]:
    return [Desc(site[0].dtype, rows_into(site[0], site[1]))]


@infers("TensorScatterUpdate", "TensorScatterAdd")
def tensor_scatter(site: Site) -> Sequence[Desc]:
    x, indices, updates = site[0], site[1], site[2]
    expected = Desc(x.dtype, rows_into(x, indices))
    require(updates == expected, f"updates are {updates}, expected {expected}")
    return [x]


def reduced(x: Desc, axes: Ints, keep_dims: bool) -> Sequence[Desc]:
    gone = {axis_of(axis, len(x.shape)) for axis in axes}
    kept = [1 if i in gone else n for i, n in enumerate(x.shape) if keep_dims or i not in gone]
    return [Desc(x.dtype, tuple(kept))]


REDUCTIONS = [f"Reduce{name}" for name in ["All", "Any", "Max", "Mean", "Min", "Prod", "Sum"]]


@infers(*(f"{name}D" for name in REDUCTIONS))
def reduce_d(site: Site) -> Sequence[Desc]:
    return reduced(site[0], site.op.ints("axes"), site.op.flag("keep_dims"))


@infers(*REDUCTIONS)
def reduce(site: Site) -> Sequence[Desc]:
    return reduced(site[0], site.value(1), site.op.flag("keep_dims"))


def chosen(site: Site, axis: int) -> Sequence[Desc]:
    (kept,) = reduced(site[0], (axis,), False)
    return [Desc(OF_DTYPE[site.op.dtype("dtype")].name, kept.shape)]


@infers("ArgMaxD", "ArgMinD")
def arg_d(site: Site) -> Sequence[Desc]:
    return chosen(site, site.op.integer("dimension"))


@infers("ArgMaxV2", "ArgMin")
def arg(site: Site) -> Sequence[Desc]:
    return chosen(site, site.scalar(1))


@infers("CumsumD", "CumprodD", "CumulativeLogsumexpD")
def scan(site: Site) -> Sequence[Desc]:
    axis_of(site.op.integer("axis"), len(site[0].shape))
    return [site[0]]


@infers("TopK")
def top_k(site: Site) -> Sequence[Desc]:
    x, k = site[0], site.scalar(1)
    require(bool(x.shape) and 0 <= k <= x.shape[-1], f"k is {k} of {x}")
    shape = (*x.shape[:-1], k)
    return [Desc(x.dtype, shape), Desc("INT32", shape)]


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
