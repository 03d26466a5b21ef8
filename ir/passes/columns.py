"""One column of a long array as every n-th element of it.

ONNX Runtime 1.32 takes 10 ns a row for ``x[:, i:i + 1]``, also where it is ``x.T[i:i + 1]``, since
it slices before it turns; ``x.ravel()[i::n]`` takes 2.5.
"""

from math import prod

from fnckpt.ir.attributes import Ints, ints
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.build import Build
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, rewrites
from fnckpt.ir.sizes import is_known

LEAST = 4096  # rows, without what is of symbolic size

x = Any_("x")


@rewrites("Slice")
def stride_over_rows(root: CNode) -> Node | None:
    """x[..., i:i + 1] is x.ravel()[i::n], n the size of the last axis."""
    (x,) = root.inputs
    start, inner = ints(root, "start"), len(x.aval.shape) - 1
    if inner < 1 or root.aval.shape != (*x.aval.shape[:inner], 1):
        return None
    return _every(root, x, x.aval.shape[inner], start[inner])


def _stride_over_turned(root: CNode, x: Node, perm: Ints) -> Node | None:
    """x.T[i:i + 1] is x.ravel()[i::n], x of n columns, whatever its first axes are called."""
    if len(x.aval.shape) != 2 or perm != (1, 0):
        return None
    columns = x.aval.shape[1]
    (turned,) = root.inputs
    whole = root.aval.shape == (1, *turned.aval.shape[1:]) and turned.aval.shape[0] == columns
    return _every(root, x, columns, ints(root, "start")[0]) if whole else None


def _every(root: CNode, x: Node, columns: int, first: int) -> Node | None:
    rows = prod(size for size in root.aval.shape if is_known(size))
    if not is_known(columns) or columns == 1 or rows < LEAST:
        return None
    build = Build(root)
    flat = build.reshape(x, (x.aval.size,))
    return build.reshape(build.slice(flat, 0, first, x.aval.size, columns), root.aval.shape)


_TURNED = Op("Transpose", x, attrs={"perm": "perm"})

RULES = (
    Rule(Op("Slice", _TURNED), _stride_over_turned),
    Rule(Op("Slice", Op("Reshape", _TURNED)), _stride_over_turned),
    stride_over_rows,
)
