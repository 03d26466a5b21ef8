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
    """An operator with the types of its inputs; ``constant`` reads what a Const holds."""

    op: OpView
    descs: Mapping[str, Desc]
    constant: Callable[[str], np.ndarray | None]

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
        values = self.constant(source)
        if values is None:
            raise Mismatch(f"input {port} ({source}) must be a Const")
        return tuple(int(each) for each in values.reshape(-1))

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


def known_type(site: Site, name: str) -> np.dtype:
    """The type in an attribute, which numpy must have."""
    value = site.op.attrs.get(name)
    if not isinstance(value, np.dtype):
        raise Mismatch(f"{name} is a type that fnckpt does not know")
    return value


UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Elu", "Erf",
    "Erfc", "Exp", "Expm1", "Floor", "Gelu", "Identity", "Invert", "LeakyRelu", "Log", "Log1p",
    "LogicalNot", "Neg", "Reciprocal", "Relu", "Rint", "Rsqrt", "Sigmoid", "Sign", "Sin", "Sinh",
    "Softplus", "Sqrt", "Square", "Tan", "Tanh",
)  # fmt: skip
BINARY = (
    "Add", "Atan2", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "LogicalAnd", "LogicalOr", "Maximum",
    "Minimum", "Mul", "NextAfter", "Pow", "RealDiv", "RightShift", "Sub", "TruncateDiv",
    "TruncateMod",
)  # fmt: skip
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
    require(code in OF_ENGINE_CODE, f"dst_type {code} is not an engine code")
    return [Desc(OF_ENGINE_CODE[code].name, site[0].shape)]


@infers("Bitcast")
def bitcast(site: Site) -> Sequence[Desc]:
    dtype, given = known_type(site, "type"), site[0]
    widths = {data.name: known.itemsize for known, data in OF_DTYPE.items()}
    require(widths.get(given.dtype) == dtype.itemsize, f"{given} has not the width of {dtype}")
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
    ranks = {len(each.shape) for each in parts}
    require(
        len(others) == len(ranks) == 1,
        f"shapes differ beside axis {axis}: {', '.join(map(str, parts))}",
    )
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
    return [Desc(OF_DTYPE[known_type(site, "dtype")].name, kept.shape)]


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
