"""The attributes of our operators, by the type that each is known to have."""

import numpy as np

from fnckpt.ir.graph import Attr, CNode, FuncGraph, Node
from fnckpt.ir.sizes import is_symbolic

Ints = tuple[int, ...]


def integer(node: CNode, name: str) -> int:
    """An integer."""
    return whole(node.attrs[name])


def number(node: CNode, name: str) -> float:
    """A float."""
    value = node.attrs[name]
    assert isinstance(value, int | float)
    return float(value)


def sizes(node: CNode, name: str) -> Ints:
    """A tuple of sizes, which may be symbolic."""
    values = _tuple(node.attrs[name])
    return tuple(value if is_symbolic(value) else whole(value) for value in values)


def size(node: CNode, name: str) -> int:
    """A size, which may be symbolic."""
    value = node.attrs[name]
    return value if is_symbolic(value) else whole(value)


def graph(node: CNode, name: str) -> FuncGraph:
    """A graph."""
    value = node.attrs[name]
    assert isinstance(value, FuncGraph), value
    return value


def graphs(node: CNode, name: str) -> tuple[FuncGraph, ...]:
    """A tuple of graphs."""
    found = tuple(each for each in _tuple(node.attrs[name]) if isinstance(each, FuncGraph))
    assert len(found) == len(_tuple(node.attrs[name]))
    return found


def flag(node: CNode, name: str) -> bool:
    """A boolean."""
    return bool(node.attrs[name])


def dtype_of(node: CNode) -> np.dtype:
    """The attribute ``dtype``."""
    value = node.attrs["dtype"]
    return value if isinstance(value, np.dtype) else np.dtype(str(value))


def rank(node: Node) -> int:
    """The number of axes."""
    return len(node.aval.shape)


def ints(node: CNode, name: str) -> Ints:
    """A tuple of integers.

    Raises:
      InconclusiveDimensionOperation: one is a symbolic size.
    """
    return tuple(whole(each) for each in _tuple(node.attrs[name]))


def pairs(node: CNode, name: str) -> tuple[tuple[int, int], ...]:
    """A tuple of pairs of integers."""
    rows = (_tuple(row) for row in _tuple(node.attrs[name]))
    return tuple((whole(low), whole(high)) for low, high in rows)


def whole(value: Attr) -> int:
    """An integer, of a tuple or alone; a symbolic size raises."""
    assert isinstance(value, int | np.integer) or is_symbolic(value), value
    return int(value)


def _tuple(value: Attr) -> tuple[Attr, ...]:
    assert isinstance(value, tuple), value
    return value
