"""Many products of small matrices, or of vectors alone, element by element.

ONNX Runtime 1.32 takes 130 to 170 ns to begin each matrix of a batch: 1,024 products of a 3 x 3
matrix with a vector take 160 microseconds, and 25 as the sums of what is multiplied element by
element; of two such matrices 175, and 77; of two vectors of 64 316, and 40. Each vector is written
once for each row of its matrix: ``Mul`` repeats one of a few elements at 4 ns each, ``Concat`` at
less than one. Of float64 they stay: a product of matrices rounds less often, as eigenvalues show.
"""

from math import prod

from fnckpt.ir.attributes import Ints, integer, ints
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.build import FLOAT32, Build
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, rewrites
from fnckpt.ir.sizes import all_known

MOST_PRODUCTS = 64  # of the elements of two small matrices
LEAST_MATRICES = 64
LEAST_PRODUCTS = 16
SHORT = 8  # a last axis of as few elements is moved in front by other rules


x, y = Any_("x"), Any_("y")


@rewrites("MatMul")
def multiply_small(root: CNode) -> Node | None:
    """a @ b, for many small a and b, is the sum of a[i, j] * b[j, k] over j, all at once."""
    a, b = root.inputs
    if root.attrs["transpose_a"] or not _is_of_pairs(root):
        return None
    (*batch, rows, inner), columns, build = a.aval.shape, root.aval.shape[-1], Build(root)
    count = prod(batch)
    if not _is_small(rows, inner, columns, count):
        return None
    last = len(b.aval.shape) - 1
    turn = (*range(last - 1), last, last - 1)
    turned = b if root.attrs["transpose_b"] else _with_columns_first(build, b, turn)
    left = _repeated(build, build.reshape(a, (count * rows, inner)), columns)
    right = _repeated(build, build.reshape(turned, (count, columns * inner)), rows)
    each = build("Mul", build.reshape(left, (count, rows * columns * inner)), right)
    if inner == 1:
        return build.reshape(each, root.aval.shape)
    apart = build.reshape(each, (*batch, rows, columns, inner))
    return build("ReduceSum", apart, axes=(len(batch) + 2,), keepdims=False)


def _is_of_pairs(root: CNode) -> bool:
    """Whether each matrix of a batch is multiplied with its own one."""
    a, b = (each.aval.shape for each in root.inputs)
    known = all_known((*a, *b)) and root.aval.dtype == FLOAT32
    return known and len(a) > 2 and a[:-2] == b[:-2]


def _is_small(rows: int, inner: int, columns: int, count: int) -> bool:
    few = rows * inner * columns <= MOST_PRODUCTS
    return few and rows * columns > 1 and count >= LEAST_MATRICES


def _with_columns_first(build: Build, b: Node, turn: Ints) -> Node:
    shape = tuple(b.aval.shape[axis] for axis in turn)
    return build.reshape(b, shape) if 1 in shape[-2:] else build.transpose(b, turn)


def _repeated(build: Build, rows: Node, count: int) -> Node:
    """Each row ``count`` times, one after the other."""
    return rows if count == 1 else build("Concat", *(rows,) * count, axis=1)


@rewrites("MatMul")
def multiply_rows(root: CNode) -> Node | None:
    """a @ b, for many vectors a and b, is sum(a * b)."""
    (a, b), build = root.inputs, Build(root)
    if root.attrs["transpose_a"] or not _is_of_pairs(root):
        return None
    *batch, rows, inner = a.aval.shape
    if (rows, root.aval.shape[-1]) != (1, 1) or inner <= SHORT or prod(batch) < LEAST_PRODUCTS:
        return None
    one, other = (build.reshape(each, (*batch, inner)) for each in (a, b))
    total = build("ReduceSum", build("Mul", one, other), axes=(len(batch),), keepdims=True)
    return build.reshape(total, root.aval.shape)


@rewrites(Op("ReduceSum", Op("Reshape", Op("Mul", x, y)), attrs={"keepdims": "keep"}))
def join_small(root: CNode, x: Node, y: Node, keep: bool) -> Node | None:
    """The reverse of ``multiply_small``, for what comes back from a file."""
    shape = root.inputs[0].aval.shape
    if keep or not all_known(shape) or len(shape) < 4 or ints(root, "axes") != (len(shape) - 1,):
        return None
    *batch, rows, columns, inner = shape
    if not _is_small(rows, inner, columns, prod(batch)) or root.aval.dtype != FLOAT32:
        return None
    left, right = _once(x, columns), _once(y, rows)
    sizes = (prod(batch) * rows * inner, prod(batch) * columns * inner)
    if left is None or right is None or (left.aval.size, right.aval.size) != sizes:
        return None
    build = Build(root)
    a, b = (
        build.reshape(each, (*batch, size, inner))
        for each, size in ((left, rows), (right, columns))
    )
    return build("MatMul", a, b, transpose_a=False, transpose_b=True)


def _once(node: Node, count: int) -> Node | None:
    """What ``_repeated`` repeats, with the reshapes around it."""
    if count == 1:
        return node
    while isinstance(node, CNode) and node.op == "Reshape":
        (node,) = node.inputs
    if not isinstance(node, CNode) or node.op != "Concat" or integer(node, "axis") != 1:
        return None
    alike = len(node.inputs) == count and all(each is node.inputs[0] for each in node.inputs)
    return node.inputs[0] if alike else None


@rewrites(Op("MatMul", Op("Reshape", x), Op("Reshape", y)))
def multiply_vectors(root: CNode, x: Node, y: Node) -> Node | None:
    """x^T @ y of two vectors is sum(x * y)."""
    if len(x.aval.shape) != 1 or x.aval.shape != y.aval.shape or root.aval.shape != (1, 1):
        return None
    if root.aval.dtype != FLOAT32:
        return None
    build = Build(root)
    total = build("ReduceSum", build("Mul", x, y), axes=(0,), keepdims=True)
    return build.reshape(total, (1, 1))


FUSE: tuple[Rule, ...] = (multiply_vectors,)
RULES: tuple[Rule, ...] = (multiply_small, multiply_rows)
JOIN: tuple[Rule, ...] = (join_small,)
