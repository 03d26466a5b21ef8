"""The attributes of our operators, by the type that each is known to have."""

import numpy as np

from fnckpt.ir.graph import Attr, CNode

Ints = tuple[int, ...]


def integer(node: CNode, name: str) -> int:
    """An integer."""
    return _integer(node.attrs[name])


def number(node: CNode, name: str) -> float:
    """A float."""
    value = node.attrs[name]
    assert isinstance(value, int | float)
    return float(value)


def ints(node: CNode, name: str) -> Ints:
    """A tuple of integers."""
    return tuple(_integer(each) for each in _tuple(node.attrs[name]))


def pairs(node: CNode, name: str) -> tuple[tuple[int, int], ...]:
    """A tuple of pairs of integers."""
    rows = (_tuple(row) for row in _tuple(node.attrs[name]))
    return tuple((_integer(low), _integer(high)) for low, high in rows)


def _integer(value: Attr) -> int:
    assert isinstance(value, int | np.integer), value
    return int(value)


def _tuple(value: Attr) -> tuple[Attr, ...]:
    assert isinstance(value, tuple), value
    return value
