"""Makes the nodes of a graph that is read from a file, and computes what is known while it does.

A value is known if it depends on no input: a constant, or sizes of inputs, symbolic ones too. What
depends on a weight is known when a shape asks for it; that weight is then ``fixed``.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from fnckpt.ir.attributes import sizes as attribute_sizes
from fnckpt.ir.evaluate import compute
from fnckpt.ir.graph import (
    NOWHERE,
    Attr,
    Aval,
    CNode,
    Constant,
    Node,
    Origin,
    Parameter,
    graphs_of,
    ordered,
)
from fnckpt.ir.operators import OPERATORS, apply, infer, items
from fnckpt.ir.operators.elementwise import BINARY, COMPARE, TESTS, UNARY
from fnckpt.ir.sizes import all_known, is_known, not_below_zero
from fnckpt.ir.sources.source import Refusal

Ints = tuple[int, ...]
Number = int | float

INT32, INT64, BOOL = np.dtype(np.int32), np.dtype(np.int64), np.dtype(bool)
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

MOST_FOLDED = 1 << 20  # bytes; what is larger is computed by NumPy when the function is traced
MOST_BYTES = 1 << 31  # of a value that a file makes out of a few numbers
MOST_GROWN = 64  # times all that goes into a graph, if that is more
MOST_NUMBERS = 1 << 26  # that a rule computes itself
MOST_PARTS = 1 << 14  # of a value, each a node

# What no floats are.
BITS = frozenset(
    {"BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "LogicalAnd", "LogicalNot", "LogicalOr",
     "LogicalXor", "PopulationCount", "ShiftLeft", "ShiftRightArithmetic", "ShiftRightLogical"}
)  # fmt: skip

# What is computed of symbolic sizes; each works on arrays of Python objects as it stands.
OF_SIZES = frozenset(
    {"Add", "BroadcastTo", "Concat", "Gather", "Identity", "Maximum", "Minimum", "Mul", "Neg",
     "ReduceProd", "ReduceSum", "Reshape", "Reverse", "Slice", "Sub", "Transpose"}
)  # fmt: skip


class Builder:
    """Makes nodes; ``origin`` is stamped on each.

    Args:
      given: the values of inputs that a caller gave as numbers; a shape may ask for them.

    Attributes:
      fixed: the names of weights and inputs whose numbers were asked for.
    """

    def __init__(self, given: Mapping[str, np.ndarray]) -> None:
        self.given = given
        self.origin: Origin = NOWHERE
        self.fixed: set[str] = set()
        self._sizes: dict[int, np.ndarray] = {}
        self._leaves: dict[int, Node] = {}
        self._held = 0  # bytes of inputs, weights and constants
        self._alive: list[Node] = []  # an id is only good for as long as its node lives

    def __call__(self, op: str, *inputs: Node, **attrs: Attr) -> Node:
        """The operator ``op``, computed now where that is cheap."""
        if any(id(node) in self._sizes for node in inputs):
            found = self._of_sizes(op, inputs, attrs)
            if found is not None:
                return found
        takes = arity(op)
        if takes is not None and len(inputs) != takes:
            raise ValueError(f"{op} takes {takes} inputs, {len(inputs)} given")
        wrong = [n.aval.dtype for n in inputs if n.aval.dtype.kind in "fc"] if op in BITS else []
        if wrong:
            raise ValueError(f"{op} takes no {wrong[0]}")
        node = apply(op, *inputs, origin=self.origin, **attrs)
        self._bounded(node)
        return self._folded(node)

    def items(self, op: str, *inputs: Node, **attrs: Attr) -> tuple[Node, ...]:
        """The results of an operator that has several."""
        node = apply(op, *inputs, origin=self.origin, **attrs)
        self._bounded(node)
        return items(node)

    def _bounded(self, node: CNode) -> None:
        """A few numbers of a file may claim any size, or double one again and again."""
        for leaf in node.inputs:
            if isinstance(leaf, Parameter | Constant) and id(leaf) not in self._leaves:
                self._leaves[id(leaf)] = leaf
                self._held += _bytes(leaf.aval)
        most = max(MOST_BYTES, MOST_GROWN * self._held)
        for aval in node.results:
            if _bytes(aval) > most:
                raise Refusal(f"its result {aval} is larger than {most} bytes")

    def _folded(self, node: CNode) -> Node:
        if len(node.results) != 1 or graphs_of(node) or not node.inputs:
            return node
        if not all(isinstance(each, Constant) for each in node.inputs):
            return node
        if node.aval.size * node.aval.dtype.itemsize > MOST_FOLDED:
            return node
        value = compute(node, [each.value for each in node.inputs if isinstance(each, Constant)])
        assert isinstance(value, np.ndarray)
        return Constant(value)

    # ------------------------------------------------------------------------------ what is known

    def sizes_node(self, values: np.ndarray, dtype: np.dtype = INT64) -> Node:
        """Integers of which some may be symbolic, as a value."""
        flat = values.reshape(-1).tolist()
        if all_known(flat):
            return Constant(np.array(flat, dtype).reshape(values.shape))
        node: Node = apply("Sizes", sizes=tuple(flat), dtype=dtype)
        if values.ndim != 1:
            node = apply("Reshape", node, shape=values.shape)
        self._sizes[id(node)] = values
        self._alive.append(node)
        return node

    def _of_sizes(self, op: str, inputs: Sequence[Node], attrs: dict[str, Attr]) -> Node | None:
        values = [self._sizes.get(id(node), _value(node)) for node in inputs]
        arrays = [value for value in values if value is not None]
        if len(arrays) < len(inputs):
            return None
        if op == "Div":
            found = _objects(arrays[0]) // arrays[1]
        elif op == "Cast" and np.dtype(str(attrs["dtype"])).kind in "iu":
            return self.sizes_node(_objects(arrays[0]), np.dtype(str(attrs["dtype"])))
        elif op in OF_SIZES:
            found = OPERATORS[op].evaluate(*map(_objects, arrays[:1]), *arrays[1:], **attrs)
        else:
            return None
        dtype = infer(op, tuple(inputs), attrs)[0].dtype
        return self.sizes_node(_objects(found), dtype)

    def has_symbols(self, node: Node) -> bool:
        """Whether a size of a value is a symbol, or the value itself is made of such."""
        return id(node) in self._sizes or not all_known(node.aval.shape)

    def is_closed(self, node: Node) -> bool:
        """Whether a value depends on no input, so that a graph inside may use it as it is."""
        weight = isinstance(node, Parameter) and node.value is not None
        return weight or isinstance(node, Constant) or id(node) in self._sizes

    def known(self, node: Node, given: Mapping[str, np.ndarray] | None = None) -> np.ndarray | None:
        """The value of a node that depends on no input but the ``given``; sizes may be symbolic."""
        given = {} if given is None else given
        if id(node) in self._sizes:
            return self._sizes[id(node)]
        if isinstance(node, Constant):
            return node.value
        below = ordered([node])
        leaves = [n for n in below if not isinstance(n, CNode)]
        parameters = [n for n in leaves if isinstance(n, Parameter)]
        if any(n.value is None and n.name not in given for n in parameters):
            return None
        if any(isinstance(n, CNode) and (graphs_of(n) or not n.inputs) for n in below):
            return None
        self.fixed |= {n.name for n in parameters}
        found: dict[int, np.ndarray | tuple[np.ndarray, ...]] = {
            id(n): given[n.name] for n in parameters if n.value is None
        }
        for each in below:
            if id(each) not in found:
                inputs = each.inputs if isinstance(each, CNode) else ()
                found[id(each)] = compute(each, [found[id(n)] for n in inputs])
        value = found[id(node)]
        assert isinstance(value, np.ndarray)
        return value

    def asked(self, node: Node, what: str) -> np.ndarray:
        """The value of a node that must be known.

        Raises:
          Refusal: it depends on data.
        """
        value = self.known(node, self.given)
        if value is None:
            raise Refusal(
                f"{what} depends on data; make it a constant of the file, or give the input that "
                "says it as numbers, outside of jit"
            )
        return value

    def sizes(self, node: Node, what: str) -> Ints:
        """The integers of a vector, or of a scalar, that must be known."""
        flat = self.asked(node, what).reshape(-1).tolist()
        return tuple(int(each) if is_known(each) else each for each in flat)

    def size(self, node: Node, what: str) -> int:
        """The one integer of a value that must be known."""
        (value,) = self.sizes(node, what)
        return value

    # ----------------------------------------------------------------------------------- constants

    def constant(self, value: object, dtype: np.dtype | None = None) -> Constant:
        """An array of the file's own."""
        return Constant(np.asarray(value, dtype))

    def number(self, value: Number, like: Node | np.dtype) -> Constant:
        """A scalar of the type of ``like``."""
        dtype = like if isinstance(like, np.dtype) else like.aval.dtype
        return Constant(np.asarray(value).astype(dtype))

    def full(self, shape: Sequence[int], value: Number, like: Node | np.dtype) -> Node:
        """A number repeated."""
        return self.broadcast(self.number(value, like), shape)

    def counted(self, size: int, dtype: np.dtype = INT64) -> Node:
        """0, 1, 2, ... to before ``size``."""
        if is_known(size):
            few(size)
            return Constant(np.arange(size).astype(dtype))
        return self("Range", size=size, dtype=dtype)

    # ----------------------------------------------------------------------------- moving elements

    def cast(self, x: Node, dtype: np.dtype) -> Node:
        """``x`` as ``dtype``."""
        return x if x.aval.dtype == dtype else self("Cast", x, dtype=np.dtype(dtype))

    def reshape(self, x: Node, shape: Sequence[int]) -> Node:
        """The elements of ``x`` as ``shape``."""
        return x if x.aval.shape == tuple(shape) else self("Reshape", x, shape=plain(shape))

    def transpose(self, x: Node, perm: Sequence[int]) -> Node:
        """``x`` with axis ``i`` taken from axis ``perm[i]``."""
        same = tuple(perm) == tuple(range(len(perm)))
        return x if same else self("Transpose", x, perm=plain(perm))

    def moved(self, x: Node, source: int, to: int) -> Node:
        """``x`` with one axis at another place."""
        order = [axis for axis in range(len(x.aval.shape)) if axis != source]
        order.insert(to, source)
        return self.transpose(x, order)

    def broadcast(self, x: Node, shape: Sequence[int]) -> Node:
        """``x`` repeated to ``shape``."""
        return x if x.aval.shape == tuple(shape) else self("BroadcastTo", x, shape=plain(shape))

    def slice(self, x: Node, axis: int, start: int, limit: int, stride: int = 1) -> Node:
        """A part of ``x`` along one axis; places lie inside it."""
        sizes = x.aval.shape
        if (start, limit, stride) == (0, sizes[axis], 1):
            return x
        starts, limits, strides = [0] * len(sizes), list(sizes), [1] * len(sizes)
        starts[axis], limits[axis], strides[axis] = start, limit, stride
        if isinstance(x, CNode) and x.op == "Slice":
            old = [attribute_sizes(x, name) for name in ("start", "limit", "strides")]
            if (old[0][axis], old[1][axis], old[2][axis]) == (0, sizes[axis], 1):  # of other axes
                for new, own in zip((starts, limits, strides), old, strict=True):
                    new[:] = [*own[:axis], new[axis], *own[axis + 1 :]]
                (x,) = x.inputs
        return self("Slice", x, start=tuple(starts), limit=tuple(limits), strides=tuple(strides))

    def at(self, x: Node, axis: int, index: int) -> Node:
        """``x`` at one place of an axis, which goes."""
        part = self.slice(x, axis, index, index + 1)
        return self.reshape(part, (*x.aval.shape[:axis], *x.aval.shape[axis + 1 :]))

    def concat(self, parts: Sequence[Node], axis: int) -> Node:
        """The parts one after the other."""
        return parts[0] if len(parts) == 1 else self("Concat", *parts, axis=axis)

    def stack(self, parts: Sequence[Node], axis: int) -> Node:
        """The parts along a new axis."""
        return self.concat([self.unsqueeze(part, axis) for part in parts], axis)

    def unsqueeze(self, x: Node, *axes: int) -> Node:
        """``x`` with axes of size 1 at ``axes`` of the result, in order."""
        shape = list(x.aval.shape)
        for axis in axes:
            shape.insert(axis, 1)
        return self.reshape(x, shape)

    def pad(self, x: Node, low: Sequence[int], high: Sequence[int], fill: Node) -> Node:
        """``x`` with ``fill`` around it; a negative number of them cuts off."""
        ends = zip(x.aval.shape, low, high, strict=True)
        inner = [(max(0, -before), size - max(0, -after)) for size, before, after in ends]
        for axis, (start, limit) in enumerate(inner):
            x = self.slice(x, axis, start, limit)
        low, high = ([max(0, each) for each in side] for side in (low, high))
        return self("Pad", x, fill, low=plain(low), high=plain(high)) if any((*low, *high)) else x

    # ------------------------------------------------------------------------------------ computing

    def value(self, x: Node | Number, like: Node) -> Node:
        """A number as a scalar of the type of ``like``."""
        return self.number(x, like) if isinstance(x, int | float) else x

    def add(self, x: Node, y: Node | Number) -> Node:
        return self("Add", x, self.value(y, x))

    def sub(self, x: Node, y: Node | Number) -> Node:
        return self("Sub", x, self.value(y, x))

    def mul(self, x: Node, y: Node | Number) -> Node:
        return self("Mul", x, self.value(y, x))

    def div(self, x: Node, y: Node | Number) -> Node:
        return self("Div", x, self.value(y, x))

    def maximum(self, x: Node, y: Node | Number) -> Node:
        return self("Maximum", x, self.value(y, x))

    def minimum(self, x: Node, y: Node | Number) -> Node:
        return self("Minimum", x, self.value(y, x))

    def compare(self, op: str, x: Node, y: Node | Number) -> Node:
        return self(op, x, self.value(y, x))

    def where(self, condition: Node, x: Node, y: Node | Number) -> Node:
        return self("Select", condition, x, self.value(y, x))

    def sum(self, x: Node, axes: Sequence[int], keepdims: bool = False) -> Node:
        return self("ReduceSum", x, axes=tuple(sorted(axes)), keepdims=keepdims)

    def matmul(self, a: Node, b: Node) -> Node:
        """The product over the last axis of ``a`` and the last but one of ``b``."""
        return self("MatMul", a, b, transpose_a=False, transpose_b=False)

    def product(self, a: Node, b: Node) -> Node:
        """As ``numpy.matmul``: a vector is a row before, and a column behind."""
        row, column = len(a.aval.shape) == 1, len(b.aval.shape) == 1
        left = self.unsqueeze(a, 0) if row else a
        found = self.matmul(left, self.unsqueeze(b, 1) if column else b)
        shape = list(found.aval.shape)
        if row:
            del shape[-2]
        if column:
            del shape[-1]
        return self.reshape(found, shape)


@cache
def arity(op: str) -> int | None:
    """How many inputs an operator takes; None if it may be several numbers of them.

    >>> arity("Relu"), arity("Pad"), arity("Concat")
    (1, 2, None)
    """
    for table, count in ((UNARY, 1), (TESTS, 1), (BINARY, 2), (COMPARE, 2)):
        if op in table:
            return count
    parameters = inspect.signature(OPERATORS[op].evaluate).parameters.values()
    given = [each for each in parameters if each.kind is not each.KEYWORD_ONLY]
    fixed = all(
        each.kind is not each.VAR_POSITIONAL and each.default is each.empty for each in given
    )
    return len(given) if fixed else None


def few(*sizes: int, most: int = MOST_NUMBERS) -> None:
    """Nothing, where the product of known ``sizes`` is at most ``most``: a few bytes may claim any.

    Raises:
      Refusal: it is more.
    """
    count = math.prod(int(size) for size in sizes if is_known(size))
    if abs(count) > most:
        raise Refusal(f"it asks for {count} parts, more than {most}")


def plain(numbers: Sequence[int]) -> Ints:
    """Python's own integers; symbolic sizes stay."""
    return tuple(int(number) if is_known(number) else number for number in numbers)


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
      ValueError: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise ValueError(f"there is no axis {axis} of {rank}")
    return axis % rank


def clipped(index: int, size: int) -> int:
    """A place from the front where a negative one counts from the end, brought into 0..size."""
    if is_known(index) and is_known(size):
        return min(max(index + size if index < 0 else index, 0), size)
    if is_known(index) and abs(index) >= np.iinfo(np.int32).max:
        return size if index > 0 else 0
    if is_known(index) and index < 0:
        return not_below_zero(size + index)
    return index


def _value(node: Node) -> np.ndarray | None:
    return node.value if isinstance(node, Constant) else None


def _bytes(aval: Aval) -> int:
    """Of a known shape; 0 of another."""
    return aval.size * aval.dtype.itemsize if all_known(aval.shape) else 0


def _objects(value: object) -> np.ndarray:
    return np.asarray(value, object)
