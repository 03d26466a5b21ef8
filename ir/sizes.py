"""Sizes that are known only when the function runs.

A size in a shape or in an attribute is an int or one of JAX's symbolic expressions, which
``jax.export.symbolic_shape`` makes and which compute like ints: ``b``, ``4*b``, ``n + 1``. Each
symbol is at least 1. What JAX cannot decide for every value (``b > 2``) raises
``InconclusiveDimensionOperation``; two sizes are ``==`` only if they always are.
"""

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol, TypeGuard, TypeVar

import jax.core
import jax.export
import numpy as np

try:
    from jax.errors import InconclusiveDimensionOperation as InconclusiveDimensionOperation
except ImportError:  # JAX 0.8
    from jax.core import InconclusiveDimensionOperation as InconclusiveDimensionOperation

Shape = tuple[int, ...]
T = TypeVar("T")


SYMBOLIC = type(jax.export.symbolic_shape("n")[0])


def is_symbolic(value: object) -> TypeGuard[int]:
    """Whether a value is a symbolic size, which our types count among the ints."""
    return isinstance(value, SYMBOLIC)


def is_known(size: int) -> bool:
    """Whether a size is a number."""
    return not is_symbolic(size)


def all_known(sizes: Iterable[int]) -> bool:
    """Whether every size is a number."""
    return all(map(is_known, sizes))


def at_most(one: int, two: int) -> bool:
    """Whether ``one <= two`` is known, for all sizes."""
    try:
        return bool(one <= two)
    except InconclusiveDimensionOperation:
        return False


def not_below_zero(size: int) -> int:
    """``max(size, 0)``, as an expression where JAX cannot tell."""
    return max(size, 0) if is_known(size) else jax.core.max_dim(size, 0)


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The common shape, axes aligned at the right as in numpy.

    Raises:
      ValueError: there is none.
    """
    if all(map(all_known, shapes)):
        return np.broadcast_shapes(*shapes)
    rank = max(map(len, shapes))
    columns = zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True)
    return tuple(_common(column, shapes) for column in columns)


def _common(sizes: Sequence[int], shapes: Sequence[Shape]) -> int:
    others = {size for size in sizes if not (is_known(size) and size == 1)}
    if len(others) > 1:
        raise ValueError(f"the shapes {', '.join(map(str, shapes))} do not broadcast")
    return others.pop() if others else 1


class Algebra(Protocol[T]):
    """What a size is computed in: numbers, or the nodes of a file.

    ``apply`` computes ``add``, ``sub``, ``mul``, ``floordiv``, ``mod``, ``max`` or ``min``.
    """

    def number(self, value: int) -> T: ...

    def symbol(self, name: str) -> T: ...

    def apply(self, op: str, left: T, right: T) -> T: ...


class Numbers:
    """Sizes as numbers, by what each symbol stands for."""

    OPS: Mapping[str, Callable[[int, int], int]] = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "floordiv": lambda a, b: a // b,
        "mod": lambda a, b: a % b,
        "max": max,
        "min": min,
    }

    def __init__(self, values: Mapping[str, int]) -> None:
        self.values = values

    def number(self, value: int) -> int:
        return value

    def symbol(self, name: str) -> int:
        return self.values[name]

    def apply(self, op: str, left: int, right: int) -> int:
        return self.OPS[op](left, right)


BINARY = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}


@cache
def _parsed(text: str) -> ast.expr:
    """JAX's way to write an expression, which is Python's but for the powers."""
    return ast.parse(text.replace("^", "**"), mode="eval").body


def computed(size: int, algebra: Algebra[T]) -> T:
    """A size in ``algebra``.

    >>> import jax
    >>> (n,) = jax.export.symbolic_shape("n")
    >>> computed(2 * n + 1, Numbers({"n": 3}))
    7
    """
    return algebra.number(int(size)) if is_known(size) else _walked(_parsed(str(size)), algebra)


def _walked(tree: ast.expr, algebra: Algebra[T]) -> T:
    match tree:
        case ast.Constant(value=int(value)):
            return algebra.number(value)
        case ast.Name(id=name):
            return algebra.symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return algebra.apply("sub", algebra.number(0), _walked(operand, algebra))
        case ast.BinOp(left=base, op=ast.Pow(), right=ast.Constant(value=int(power))):
            result = factor = _walked(base, algebra)
            for _ in range(power - 1):
                result = algebra.apply("mul", result, factor)
            return result
        case ast.BinOp(left=left, op=op, right=right):
            both = _walked(left, algebra), _walked(right, algebra)
            return algebra.apply(BINARY[type(op)], *both)
        case ast.Call(func=ast.Name(id=name), args=[left, right]):
            return algebra.apply(name, _walked(left, algebra), _walked(right, algebra))
    raise AssertionError(f"JAX writes a size as {ast.unparse(tree)}")


def symbols(size: int) -> frozenset[str]:
    """The names of the symbols in a size."""
    if is_known(size):
        return frozenset()
    calls = {"floordiv", "mod", "max", "min"}
    names = {tree.id for tree in ast.walk(_parsed(str(size))) if isinstance(tree, ast.Name)}
    return frozenset(names - calls)


def summands(size: int) -> list[str]:
    """The symbols that a size is the plain sum of; none for another size.

    >>> import jax
    >>> sorted(summands(sum(jax.export.symbolic_shape("n, m"))))
    ['m', 'n']
    """
    trees, found = [_parsed(str(size))] if is_symbolic(size) else [], list[str]()
    while trees:
        match trees.pop():
            case ast.Name(id=name):
                found.append(name)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                trees += [left, right]
            case _:
                return []
    return found


@dataclass(frozen=True)
class Line:
    """A size of the form ``scale * symbol + offset``; a number has the symbol ``""``."""

    symbol: str
    scale: int
    offset: int


class Lines:
    """Sizes as lines; None for what is none."""

    def number(self, value: int) -> Line | None:
        return Line("", 0, value)

    def symbol(self, name: str) -> Line | None:
        return Line(name, 1, 0)

    def apply(self, op: str, left: Line | None, right: Line | None) -> Line | None:
        if left is None or right is None or op not in ("add", "sub", "mul"):
            return None
        if op == "mul":
            number, line = sorted((left, right), key=lambda each: each.symbol)
            scaled = Line(line.symbol, number.offset * line.scale, number.offset * line.offset)
            return None if number.symbol else scaled
        if left.symbol and right.symbol and left.symbol != right.symbol:
            return None
        sign = 1 if op == "add" else -1
        scale, offset = left.scale + sign * right.scale, left.offset + sign * right.offset
        return Line(left.symbol or right.symbol, scale, offset)


@dataclass(frozen=True)
class Place:
    """Where a symbol can be read: the ``axis`` of the array ``number`` is that ``line``."""

    number: int
    axis: int
    line: Line


def places_of(shapes: Sequence[Shape]) -> dict[str, Place]:
    """The first place where each symbol can be read off; best where it stands alone."""
    found: dict[str, Place] = {}
    for number, shape in enumerate(shapes):
        for axis, size in enumerate(shape):
            line = computed(size, Lines()) if is_symbolic(size) else None
            if line is not None and line.scale > 0:
                place, known = Place(number, axis, line), found.get(line.symbol)
                alone = str(size) == line.symbol
                if known is None or (alone and known.line != Line(line.symbol, 1, 0)):
                    found[line.symbol] = place
    return found


def solved(line: Line, size: T, algebra: Algebra[T]) -> T:
    """The symbol of a line, where the line is ``size``."""
    if line.offset:
        size = algebra.apply("sub", size, algebra.number(line.offset))
    if line.scale > 1:
        size = algebra.apply("floordiv", size, algebra.number(line.scale))
    return size


def bound(shapes: Sequence[Shape], found: Sequence[Shape]) -> dict[str, int]:
    """What each symbol in ``shapes`` stands for where the arrays have the shapes ``found``.

    >>> import jax
    >>> bound([jax.export.symbolic_shape("2*b, 4")], [(14, 4)])
    {'b': 7}
    """
    numbers = Numbers({})
    places = places_of(shapes).items()
    return {name: solved(p.line, found[p.number][p.axis], numbers) for name, p in places}
