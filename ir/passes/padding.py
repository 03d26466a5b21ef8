"""Padding that is written out goes into the convolution or the pooling that reads it.

A transpose or a reshape between them, which only moves the padded axes, moves in front of both.
"""

from dataclasses import replace
from math import inf

from fnckpt.ir.attributes import ints, pairs
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.passes.axes import groups
from fnckpt.ir.passes.bounds import never_negative
from fnckpt.ir.passes.reshape import reshaped, transposed
from fnckpt.ir.passes.rewrite import Any_, Op, Pattern, Rule, Scalar, rewrites

Pads = tuple[tuple[int, int], ...]

x = Any_("x")

_PAD = Op("Pad", x, Any_("inner"), name="pad", users=0)


@rewrites(Op("Pad", _PAD, Any_("outer")))
def merge_pads(root: CNode, x: Node, pad: CNode, inner: Node, outer: Node) -> Node | None:
    """pad(pad(x, c), c) is pad(x, c), for one constant bit by bit."""
    if not _is_same(inner, outer):
        return None
    ends = {
        end: tuple(a + b for a, b in zip(ints(pad, end), ints(root, end), strict=True))
        for end in ("low", "high")
    }
    return replace(root, inputs=(x, outer), attrs=ends)


def _is_same(a: Node, b: Node) -> bool:
    if isinstance(a, Constant) and isinstance(b, Constant):
        return a.value.tobytes() == b.value.tobytes()
    return a is b


@rewrites("Pad")
def drop_pad(root: CNode) -> Node | None:
    """A pad of nothing is its input."""
    nothing = not any((*ints(root, "low"), *ints(root, "high")))
    return root.inputs[0] if nothing else None


def _source(root: CNode, x: Node, pad: CNode, moved: CNode | None) -> tuple[Node, Pads] | None:
    """What ``root`` reads without its padding, and the pads of the spatial axes.

    None where another axis is padded, or where a reshape splits or joins a padded one.
    """
    found = x, tuple(zip(ints(pad, "low"), ints(pad, "high"), strict=True))
    if moved is not None:
        found = _transposed(*found, moved) if moved.op == "Transpose" else _reshaped(*found, moved)
    if found is None or any(n for pair in found[1][:2] for n in pair):
        return None
    return found[0], found[1][2:]


def _transposed(x: Node, pads: Pads, moved: CNode) -> tuple[Node, Pads]:
    """transpose(pad(x)) is pad(transpose(x)), the pads in their new order."""
    perm = ints(moved, "perm")
    return transposed(x, perm, moved), tuple(pads[p] for p in perm)


def _reshaped(x: Node, pads: Pads, moved: CNode) -> tuple[Node, Pads] | None:
    """reshape(pad(x)) is pad(reshape(x)), where each padded axis is one axis afterwards."""
    alike = {a: b for a, b in groups(moved.inputs[0].aval.shape, moved.aval.shape)}
    sizes, after = list(moved.aval.shape), [(0, 0)] * len(moved.aval.shape)
    for axis, pair in enumerate(pads):
        if any(pair):
            place = alike.get((axis,), ())
            if len(place) != 1:
                return None
            sizes[place[0]], after[place[0]] = x.aval.shape[axis], pair
    return reshaped(x, tuple(sizes), moved), tuple(after)


def _grown(root: CNode, source: tuple[Node, Pads]) -> CNode:
    """``root`` that pads by itself what comes before its own pads."""
    x, added = source
    pads = tuple(
        (low + before, high + after)
        for (low, high), (before, after) in zip(pairs(root, "pads"), added, strict=True)
    )
    inputs = (x, *root.inputs[1:])
    return replace(root, inputs=inputs, attrs=dict(root.attrs) | {"pads": pads})


def _into_conv(
    root: CNode, x: Node, pad: CNode, moved: CNode | None = None, **_: Node
) -> Node | None:
    """conv(pad(x, 0), w) is conv(x, w) with larger pads."""
    source = _source(root, x, pad, moved)
    return None if source is None else _grown(root, source)


def _into_pool(root: CNode, x: Node, pad: CNode, moved: CNode | None) -> CNode | None:
    """The pool with larger pads, where each of its windows sees an element of ``x``.

    The runtimes know no other windows: pads are smaller than the window, and nothing is empty.
    """
    source = _source(root, x, pad, moved)
    if source is None or any(size < 1 for size in source[0].aval.shape[2:]):
        return None
    grown, window = _grown(root, source), ints(root, "window")
    reaches = zip(pairs(grown, "pads"), window, strict=True)
    return grown if all(max(pair) < size for pair, size in reaches) else None


def _into_max_pool(
    root: CNode, x: Node, pad: CNode, fill: float, moved: CNode | None = None
) -> Node | None:
    """max_pool(pad(x, c)) is max_pool(x) with larger pads, for a c that no element is below.

    That is -inf, or c <= 0 where x is never negative. NaN is the maximum of its window in both.
    """
    pooled = _into_pool(root, x, pad, moved)
    if pooled is None or not (fill == -inf or (fill <= 0 and never_negative(x))):
        return None
    return pooled


def _into_avg_pool(root: CNode, x: Node, pad: CNode, moved: CNode | None = None) -> Node | None:
    """avg_pool(pad(x, 0)) is avg_pool(x) that counts its padding, where it had none or did so."""
    if not root.attrs["count_padding"] and any(n for pair in pairs(root, "pads") for n in pair):
        return None
    pooled = _into_pool(root, x, pad, moved)
    return pooled and replace(pooled, attrs=dict(pooled.attrs) | {"count_padding": True})


def _read(fill: Pattern) -> tuple[Op, ...]:
    """A pad as a convolution or a pooling reads it."""
    pad = Op("Pad", x, fill, name="pad", users=0)
    return pad, Op("Transpose", pad, name="moved"), Op("Reshape", pad, name="moved")


_ZERO = Scalar(value=0.0)
_KERNELS: tuple[tuple[Any_, ...], ...] = ((Any_("w"),), (Any_("w"), Any_("b")))

MERGE = (merge_pads, drop_pad)

RULES: tuple[Rule, ...] = (
    *MERGE,
    *(Rule(Op("Conv", read, *rest), _into_conv) for read in _read(_ZERO) for rest in _KERNELS),
    *(Rule(Op("MaxPool", read), _into_max_pool) for read in _read(Scalar("fill"))),
    *(Rule(Op("AvgPool", read), _into_avg_pool) for read in _read(_ZERO)),
)
