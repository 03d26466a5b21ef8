"""Layout: transposes move towards the outputs until they meet their inverse.

A network written channels last is lowered with a transpose around each convolution. Moving each
towards the outputs, through everything that does not care, makes it meet the one before the next
convolution; what is left stands at the inputs, at the outputs, and where axes are joined.
"""

from collections.abc import Callable
from dataclasses import replace

from fnckpt.ir.fold import ALWAYS_BYTES
from fnckpt.ir.graph import Attr, CNode, Constant, Node, Parameter
from fnckpt.ir.operators import OPERATORS, apply
from fnckpt.ir.operators.reduction import REDUCTIONS, SCANS
from fnckpt.ir.passes.axes import groups
from fnckpt.ir.passes.reshape import (
    inverse,
    keeps_order,
    reshaped,
    transposed,
    value_of,
    with_value,
)
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Weight, rewrites
from fnckpt.ir.sizes import is_symbolic

Ints = tuple[int, ...]


def source_of(node: Node) -> tuple[Node, Ints] | None:
    """``(x, perm)`` where ``node`` is a transpose of ``x``."""
    if isinstance(node, CNode) and node.op == "Transpose":
        perm = node.attrs["perm"]
        assert isinstance(perm, tuple)
        return node.inputs[0], tuple(int(str(p)) for p in perm)
    return None


def untransposed(node: Node, perm: Ints, root: CNode) -> Node | None:
    """What gives ``node`` when transposed by ``perm``, if that costs nothing, else None."""
    source = source_of(node)
    if source is not None and source[1] == perm:
        return source[0]
    if node.aval.size == 1 and len(node.aval.shape) <= len(perm):
        return node
    wide = (1,) * (len(perm) - len(node.aval.shape)) + node.aval.shape
    known = isinstance(node, Constant) or (isinstance(node, Parameter) and node.value is not None)
    if len(wide) == len(perm) and (known or keeps_order(wide, inverse(perm))):
        return transposed(reshaped(node, wide, root), inverse(perm), root)
    return None


def _through_elementwise(root: CNode) -> Node | None:
    """f(transpose(a), transpose(b)) is transpose(f(a, b))."""
    sources = [s for n in root.inputs if (s := source_of(n)) is not None]
    rank = len(root.aval.shape)
    perm = next((perm for _, perm in sources if len(perm) == rank), None)
    if perm is None:
        return None
    inputs = [untransposed(node, perm, root) for node in root.inputs]
    if any(node is None for node in inputs):
        return None
    return _moved(root, tuple(n for n in inputs if n is not None), root.attrs, perm)


def _moved(root: CNode, inputs: tuple[Node, ...], attrs: dict | object, perm: Ints) -> Node:
    assert isinstance(attrs, dict)
    return transposed(apply(root.op, *inputs, origin=root.origin, **attrs), perm, root)


Renamed = Callable[[dict[str, Attr], Ints], dict[str, Attr]]


def _axis(attrs: dict[str, Attr], perm: Ints) -> dict[str, Attr]:
    return attrs | {"axis": perm[_int(attrs["axis"])]}


def _axes(attrs: dict[str, Attr], perm: Ints) -> dict[str, Attr]:
    return attrs | {"axes": tuple(sorted(perm[i] for i in _ints(attrs["axes"])))}


def _int(value: Attr) -> int:
    assert isinstance(value, int) or is_symbolic(value)
    return value


def _ints(value: Attr) -> Ints:
    assert isinstance(value, tuple)
    return tuple(_int(v) for v in value)


def _per_axis(*names: str) -> Renamed:
    """Attributes with one entry an axis: the entry of a moved axis moves with it."""

    def rename(attrs: dict[str, Attr], perm: Ints) -> dict[str, Attr]:
        back = inverse(perm)
        return attrs | {n: tuple(_ints(attrs[n])[i] for i in back) for n in names}

    return rename


# How the attributes change when the transpose of the first input moves behind the operator.
FIRST_INPUT: dict[str, Renamed] = {
    "BatchNorm": _axis,
    "BroadcastTo": _per_axis("shape"),
    "LogSoftmax": _axis,
    "Pad": _per_axis("low", "high"),
    "Reverse": _axes,
    "RmsNorm": _axis,
    "Slice": _per_axis("start", "limit", "strides"),
    "Softmax": _axis,
    "Standardize": _axes,
    **dict.fromkeys(SCANS, _axis),
}


def _through_first(root: CNode) -> Node | None:
    """f(transpose(x), ...) is transpose(f'(x, ...)), the axes in f' renamed."""
    source = source_of(root.inputs[0])
    if source is None or len(root.aval.shape) != len(source[1]):
        return None
    x, perm = source
    attrs = FIRST_INPUT[root.op](dict(root.attrs), perm)
    return _moved(root, (x, *root.inputs[1:]), attrs, perm)


def _through_reduction(root: CNode) -> Node | None:
    """reduce(transpose(x)) is reduce(x) over the renamed axes, its rest transposed."""
    source = source_of(root.inputs[0])
    if source is None:
        return None
    x, perm = source
    attrs = _axes(dict(root.attrs), perm)
    axes = _ints(attrs["axes"])
    if root.attrs["keepdims"]:
        return _moved(root, (x,), attrs, perm)
    left = [p for p in perm if p not in axes]
    return _moved(root, (x,), attrs, tuple(sorted(left).index(p) for p in left))


def _through_concat(root: CNode) -> Node | None:
    """concat(transpose(a), transpose(b)) is transpose(concat(a, b))."""
    sources = [s for n in root.inputs if (s := source_of(n)) is not None]
    if not sources:
        return None
    perm = sources[0][1]
    inputs = [untransposed(n, perm, root) for n in root.inputs]
    kept = [n for n in inputs if n is not None and len(n.aval.shape) == len(perm)]
    if len(kept) < len(inputs):
        return None
    return _moved(root, tuple(kept), _axis(dict(root.attrs), perm), perm)


def _through_reshape(root: CNode) -> Node | None:
    """reshape(transpose(x)) is transpose(reshape(x)), where what it joins lies together in x."""
    source = source_of(root.inputs[0])
    if source is None or 0 in root.aval.shape:
        return None
    x, perm = source
    parts = _parts(root.inputs[0].aval.shape, root.aval.shape)
    places = [[perm[axis] for axis in mine] for mine, _ in parts]
    if any(place != list(range(place[0], place[0] + len(place))) for place in places if place):
        return None
    order = sorted(range(len(parts)), key=lambda i: places[i] or [-1])
    moved = [axis for i in order for axis in parts[i][1]]
    shape = tuple(root.aval.shape[axis] for axis in moved)
    return transposed(reshaped(x, shape, root), inverse(tuple(moved)), root)


_SHARED = Op("Transpose", Any_("x"), attrs={"perm": "perm"}, users=0)
_ALONE = Op("Transpose", Any_("x"), attrs={"perm": "perm"})


def _through_reshape_alone(root: CNode, x: Node, perm: Ints) -> Node | None:
    return _through_reshape(root)


def _through_reshape_shared(root: CNode, x: Node, perm: Ints) -> Node | None:
    """A transpose that others use is not done twice for a reshape that only moves axes of one."""
    pairs = groups(root.inputs[0].aval.shape, root.aval.shape)
    ones = all(len(mine) == len(theirs) == 1 for mine, theirs in pairs)
    return None if ones else _through_reshape(root)


def _parts(source: Ints, target: Ints) -> list[tuple[Ints, Ints]]:
    """``groups``, with each axis of one element as a part of its own."""
    found = groups(source, target)
    lone = [((i,), ()) for i, size in enumerate(source) if size == 1]
    return [*found, *lone, *(((), (i,)) for i, size in enumerate(target) if size == 1)]


def _into_matmul(root: CNode) -> Node | None:
    """matmul(transpose(a), b), of the last two axes, is matmul(a, b) that transposes a."""
    flags, inputs = dict(root.attrs), list(root.inputs)
    for i, flag in enumerate(("transpose_a", "transpose_b")):
        source = source_of(inputs[i])
        if source is None:
            continue
        rank = len(source[1])
        if source[1] == (*range(rank - 2), rank - 1, rank - 2):
            inputs[i], flags[flag] = source[0], not flags[flag]
    if inputs == list(root.inputs):
        return None
    return replace(root, inputs=tuple(inputs), attrs=flags)


@rewrites("MatMul")
def swap_turned(root: CNode) -> Node | None:
    """matmul(a^T, b^T) is matmul(b, a)^T."""
    (a, b), rank = root.inputs, len(root.aval.shape)
    if not (root.attrs["transpose_a"] and root.attrs["transpose_b"]):
        return None
    product = apply("MatMul", b, a, origin=root.origin, transpose_a=False, transpose_b=False)
    return transposed(product, (*range(rank - 2), rank - 1, rank - 2), root)


@rewrites(Op("MatMul", Any_("x"), Weight("w")))
def turn_product(root: CNode, x: Node, w: Node) -> Node | None:
    """matmul(x^T, w) is matmul(w^T, x)^T; the weight is transposed at export, where it is small.

    A large one may have other users; then it is in the file once.
    """
    if not root.attrs["transpose_a"] or len(w.aval.shape) != 2:
        return None
    weight = w if root.attrs["transpose_b"] else _turned_weight(w, root)
    product = apply("MatMul", weight, x, origin=root.origin, transpose_a=False, transpose_b=False)
    rank = len(root.aval.shape)
    return transposed(product, (*range(rank - 2), rank - 1, rank - 2), root)


def _turned_weight(w: Node, root: CNode) -> Node:
    if w.aval.size * w.aval.dtype.itemsize > ALWAYS_BYTES:
        return transposed(w, (1, 0), root)
    return with_value(w, value_of(w).transpose(1, 0))


@rewrites(Op("MatMul", Op("Reshape", Any_("x"), users=0), Op("Reshape", users=0)))
def turn_row(root: CNode, x: Node) -> Node | None:
    """matmul(x[..., 1, k], y[..., k, 1]) is that of x[..., k, 1] transposed: one shape for both."""
    row, column = (each.aval.shape for each in root.inputs)
    turned = root.attrs["transpose_a"] or root.attrs["transpose_b"]
    if turned or len(row) < 3 or row[-2] != 1 or column[-1] != 1 or row[-1] == 1:
        return None
    first = reshaped(x, (*row[:-2], row[-1], 1), root)
    return replace(root, inputs=(first, root.inputs[1]), attrs=root.attrs | {"transpose_a": True})


RULES = (
    *(Rule(Op(op.name), _through_elementwise) for op in OPERATORS.values() if op.elementwise),
    *(Rule(Op(op), _through_first) for op in FIRST_INPUT),
    *(Rule(Op(op), _through_reduction) for op in REDUCTIONS),
    Rule(Op("Concat"), _through_concat),
    Rule(Op("Reshape", _ALONE), _through_reshape_alone),
    Rule(Op("Reshape", _SHARED), _through_reshape_shared),
    Rule(Op("MatMul"), _into_matmul),
    swap_turned,
    turn_product,
    turn_row,
)
