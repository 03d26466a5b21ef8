"""Padding as ``Concat``: for readers that have no PadV3, and where PadV3 is slow."""

import math
from collections.abc import Callable

import numpy as np

from fnckpt.ir.attributes import Ints, ints
from fnckpt.ir.fold import folded
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.passes.build import Build, known
from fnckpt.ir.passes.rewrite import Rule, rewrites
from fnckpt.ir.sizes import all_known

LEAST_RUN = 8  # elements that Concat copies at once; from here on it is always the faster

Filled = Callable[[Ints], Node]


def _concat(node: CNode, filled: Filled) -> Node:
    """One axis after the other; ``filled`` makes what stands before and behind."""
    x, build = node.inputs[0], Build(node)
    for axis, pads in enumerate(zip(ints(node, "low"), ints(node, "high"), strict=True)):
        before, after = x.aval.shape[:axis], x.aval.shape[axis + 1 :]
        made = {size: filled((*before, size, *after)) for size in pads if size}
        if made:
            low, high = ([made[size]] if size else [] for size in pads)
            x = build("Concat", *low, x, *high, axis=axis)
    return x


@rewrites("Pad")
def pad_by_concat(node: CNode) -> Node:
    """Lite's converter has no PadV3."""
    build, fill = Build(node), node.inputs[1]
    value = known(fill)
    if value is None:
        return _concat(node, lambda shape: build.broadcast(fill, shape))
    return _concat(node, lambda shape: Constant(np.full(shape, value, value.dtype)))


@rewrites("Pad")
def pad_long_runs_by_concat(node: CNode) -> Node | None:
    """PadV3 takes 13 ns for an element: 3 to 13 times as long where rows are padded as images are.

    A large fill is repeated as the file runs, which costs nothing and keeps it out of the file.
    """
    (x, fill), build = node.inputs, Build(node)
    if not all_known(x.aval.shape) or not all_known(node.aval.shape):
        return None
    rows = enumerate(zip(ints(node, "low"), ints(node, "high"), strict=True))
    padded = [axis for axis, pads in rows if any(pads)]
    if any(math.prod(x.aval.shape[axis:]) < LEAST_RUN for axis in padded):
        return None
    return _concat(node, lambda shape: folded(build.broadcast(fill, shape)))


NEWER: tuple[Rule, ...] = (pad_long_runs_by_concat,)
