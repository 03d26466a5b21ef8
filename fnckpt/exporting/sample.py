"""What may stand for an input: an array, a shape, ``("b", 8, 8, 1)``, ``"f32[b,8,8,1]"``."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Protocol, TypeGuard, runtime_checkable

import jax
import jax.export
import numpy as np

from fnckpt.exporting.signature import leaf_names
from fnckpt.ir.sizes import is_symbolic

PyTree = object
SPEC = re.compile(r"(?P<dtype>\w+)\[(?P<shape>[^\[\]]*)\]")
SHORT = {"f": "float", "i": "int", "u": "uint", "bf": "bfloat"}
WAYS = (
    "give an array, jax.ShapeDtypeStruct(shape, dtype), a shape like ('b', 8, 8, 1), or dtype and "
    "shape like 'f32[b,8,8,1]'"
)


@runtime_checkable
class HasArray(Protocol):
    """A tensor of another library that numpy reads."""

    def __array__(self) -> np.ndarray: ...


@runtime_checkable
class Scoped(Protocol):
    """A symbolic size, which computes only with those of its scope."""

    scope: jax.export.SymbolicScope


def inputs_of(function: Callable[..., PyTree], given: Sequence[PyTree]) -> tuple[PyTree, ...]:
    """The inputs of ``function(params, *inputs)`` as pytrees of arrays and ``ShapeDtypeStruct``.

    Args:
      function: how many inputs it takes decides where a list or a tuple can be read in two ways.
      given: each input by position, or all of them in one tuple.

    Raises:
      TypeError: something that is no array; the message names every such place.
      ValueError: a shape that cannot be read.
    """
    inputs = _split(function, given[0]) if len(given) == 1 else tuple(given)
    scope = next((d.scope for d in _sizes(inputs) if isinstance(d, Scoped)), None)
    reader = _Reader(scope or jax.export.SymbolicScope())
    read = tuple(jax.tree.map(reader.leaf, each, is_leaf=_is_one) for each in inputs)
    if reader.problems:
        tops = [
            f"sample_input[{i}]" if len(inputs) > 1 else "sample_input" for i in range(len(inputs))
        ]
        names = [
            n
            for top, each in zip(tops, inputs, strict=True)
            for n in leaf_names(each, top, _is_one)
        ]
        found = zip(names, _leaves(inputs), strict=True)
        lines = [f"{n}: {reader.problems[id(x)]}" for n, x in found if id(x) in reader.problems]
        raise (TypeError if reader.foreign else ValueError)("; ".join(lines))
    return read


def _split(function: Callable[..., PyTree], only: PyTree) -> tuple[PyTree, ...]:
    """One tuple is several inputs, unless it is a shape; a list only where it does not fit."""
    if not isinstance(only, tuple | list) or _is_named_shape(only):
        return (only,)
    if isinstance(only, tuple) and not _is_sizes(only):
        return tuple(only)
    several = _takes(function, len(only)) and not _takes(function, 1)
    return tuple(only) if several else (only,)


def _takes(function: Callable[..., PyTree], count: int) -> bool:
    """Whether a function can be called with parameters and ``count`` inputs."""
    try:
        inspect.signature(function).bind(*range(count + 1))
    except (TypeError, ValueError):  # another number, or no signature at all
        return False
    return True


def _is_sizes(value: PyTree) -> TypeGuard[Sequence[int]]:
    """Whether this is a plain tuple or list of ints, which may be symbolic."""
    if type(value) not in (tuple, list) or not isinstance(value, Sequence):
        return False
    return len(value) > 0 and all(type(n) is int or is_symbolic(n) for n in value)


def _is_named_shape(value: PyTree) -> TypeGuard[Sequence[int | str | None]]:
    """Whether this is a shape in which sizes have names, ``("b", 8)``."""
    if type(value) not in (tuple, list) or not isinstance(value, Sequence):
        return False
    texts = [n for n in value if isinstance(n, str) and "[" not in n]
    sizes = [n for n in value if n is None or type(n) is int or is_symbolic(n)]
    named = texts or any(map(is_symbolic, sizes)) or (None in sizes and len(sizes) > 1)
    return bool(named) and len(texts) + len(sizes) == len(value)


def _is_numbers(value: PyTree) -> bool:
    """Whether this is a list of numbers, or of such lists."""
    if type(value) is not list or not isinstance(value, list) or not value:
        return False
    return all(isinstance(n, bool | int | float) or _is_numbers(n) for n in value)


def _is_one(value: PyTree) -> bool:
    """Whether what looks like a tree stands for one array."""
    return _is_named_shape(value) or _is_sizes(value) or _is_numbers(value)


def _leaves(inputs: Sequence[PyTree]) -> list[PyTree]:
    return [leaf for each in inputs for leaf in jax.tree.leaves(each, is_leaf=_is_one)]


def _sizes(inputs: Sequence[PyTree]) -> list[object]:
    leaves = _leaves(inputs)
    shapes = [leaf.shape for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]
    shapes += [leaf for leaf in leaves if _is_named_shape(leaf)]
    return [size for shape in shapes for size in shape]


class _Reader:
    """Reads leaves; ``problems`` holds by ``id`` what is wrong, ``foreign`` whether by its type."""

    def __init__(self, scope: jax.export.SymbolicScope) -> None:
        self.scope = scope
        self.problems: dict[int, str] = {}
        self.foreign = False

    def leaf(self, value: PyTree) -> PyTree:
        """A leaf as an array or a ``ShapeDtypeStruct``; what is wrong stays and is noted."""
        try:
            return self._read(value)
        except ValueError as error:
            self.problems[id(value)] = str(error)
        except TypeError as error:
            self.problems[id(value)] = str(error)
            self.foreign = True
        return value

    def _read(self, value: PyTree) -> PyTree:
        if isinstance(value, str):
            return described(value, self.scope)
        if _is_named_shape(value) or (_is_sizes(value) and isinstance(value, tuple)):
            return self._struct(value)
        if _is_sizes(value):
            raise ValueError(
                f"{value} can be a shape or numbers; write a shape as a tuple, {tuple(value)}, and "
                f"numbers as np.array({value})"
            )
        if isinstance(value, list):
            return jax.numpy.asarray(value)
        known = jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct
        if isinstance(value, known | bool | int | float | complex):
            return value
        if isinstance(value, HasArray):
            return np.asarray(value)
        raise TypeError(f"{type(value).__name__} is not an array; {WAYS}")

    def _struct(self, sizes: Sequence[int | str | None]) -> jax.ShapeDtypeStruct:
        if any(n is None or (type(n) is int and n < 0) for n in sizes):
            raise ValueError(
                f"{tuple(sizes)} has a size None or -1; give a dynamic size a name: ('b', 8)"
            )
        shape = jax.export.symbolic_shape(", ".join(map(str, sizes)), scope=self.scope)
        return jax.ShapeDtypeStruct(shape, np.float32)


def described(text: str, scope: jax.export.SymbolicScope) -> jax.ShapeDtypeStruct:
    """``f32[1,28]`` or ``float32[b,28]`` as a ``ShapeDtypeStruct``, its symbols of ``scope``.

    Raises:
      ValueError: it is not of that form.
    """
    found = SPEC.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text}: give dtype and shape like f32[1,28,28,1]")
    try:
        shape = jax.export.symbolic_shape(found["shape"], scope=scope)
    except ValueError as error:
        raise ValueError(f"{text}: {' '.join(str(error).split())}") from None
    short = re.fullmatch(r"(f|i|u|bf)(\d+)", found["dtype"])
    name = f"{SHORT[short[1]]}{short[2]}" if short else found["dtype"]
    try:
        return jax.ShapeDtypeStruct(shape, jax.numpy.dtype(name))
    except TypeError:
        raise ValueError(f"{text}: {name} is not a dtype; write f32, bf16, i32 or bool") from None
