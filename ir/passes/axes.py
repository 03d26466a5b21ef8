"""How the axes of a shape and those of its reshape belong together."""

import math

from fnckpt.ir.attributes import Ints


def groups(source: Ints, target: Ints) -> list[tuple[Ints, Ints]]:
    """The finest pairs (axes of source, axes of target) of equally many elements, in order.

    Axes of one element belong to no pair. Nothing where a size is 0.

    >>> groups((6, 1, 20), (2, 3, 1, 20))
    [((0,), (0, 1)), ((2,), (3,))]
    """
    if 0 in source:
        return []
    left = [axis for axis, size in enumerate(source) if size != 1]
    right = [axis for axis, size in enumerate(target) if size != 1]
    found: list[tuple[Ints, Ints]] = []
    while left:
        a, b = [left.pop(0)], [right.pop(0)]
        while (mine := _size(source, a)) != (theirs := _size(target, b)):
            (a if mine < theirs else b).append((left if mine < theirs else right).pop(0))
        found.append((tuple(a), tuple(b)))
    return found


def _size(shape: Ints, axes: list[int]) -> int:
    return math.prod(shape[axis] for axis in axes)


def before(shape: Ints, source: Ints, target: Ints) -> Ints | None:
    """The shape that broadcasts to ``source`` as ``shape`` does to ``target``, its reshape.

    None where there is none: where ``shape`` is repeated along some of the axes of a pair alone.

    >>> before((3, 4), (5, 12), (5, 3, 4))
    (1, 12)
    >>> before((4,), (5, 12), (5, 3, 4)) is None
    True
    """
    wide = (1,) * (len(target) - len(shape)) + shape
    pairs = groups(source, target)
    if len(wide) > len(target) or not pairs:
        return None
    found = [1] * len(source)
    for mine, theirs in pairs:
        sizes = tuple(wide[axis] for axis in theirs)
        if sizes == tuple(target[axis] for axis in theirs):
            for axis in mine:
                found[axis] = source[axis]
        elif any(size != 1 for size in sizes):
            return None
    return tuple(found)


def axes_before(axes: Ints, source: Ints, target: Ints) -> Ints | None:
    """The axes of ``source`` that hold what ``axes`` of ``target``, its reshape, hold.

    >>> axes_before((1, 2), (5, 12), (5, 3, 4))
    (1,)
    """
    pairs, chosen = groups(source, target), set(axes)
    if not pairs:
        return None
    found: list[int] = []
    for mine, theirs in pairs:
        if chosen.issuperset(theirs):
            found.extend(mine)
        elif chosen.intersection(theirs):
            return None
    return tuple(found)
