"""The weights that a function does not take but knows: variables around it, globals, attributes.

JAX traces them as constants. Here they are found by name, so that a file has them as weights.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from types import CodeType, FunctionType, MethodType, ModuleType

import jax
import numpy as np

from fnckpt.exporting.modules import held_by, is_tree
from fnckpt.exporting.signature import leaf_names
from fnckpt.ir.graph import Constant, Parameter
from fnckpt.ir.lowering.known import constant_of
from fnckpt.ir.lowering.registry import Value
from fnckpt.ir.lowering.source import LIBRARIES
from fnckpt.ir.sources.source import Source

Array = jax.Array | np.ndarray


def closed_over(function: Callable[..., object]) -> dict[str, Array]:
    """The arrays that a function knows without being given them, by the names it has for them.

    >>> weight = np.eye(3)
    >>> list(closed_over((lambda weight: lambda x: x @ weight)(weight)))
    ['weight']
    """
    found: dict[str, Array] = {}
    for name, array in _arrays("", function, set()):
        known = any(array is other for other in found.values())
        if not known:
            found[_unused(name, found)] = array
    return found


class Known:
    """What a function closes over, found when the first constant asks for it."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._made: dict[str, Parameter] = {}

    @cached_property
    def _arrays(self) -> Mapping[str, np.ndarray]:
        arrays = closed_over(self._function)
        return {name: np.asarray(array) for name, array in arrays.items() if _is_weight(array)}

    def value(self, constant: object) -> Value:
        """A constant of a jaxpr: a weight where the function has a name for it.

        Floating-point arrays alone: indices and masks stay constants, for rules that must know
        them, as does a lone number.
        """
        found = constant_of(constant)
        if not isinstance(found, Constant) or not _is_weight(found.value):
            return found
        name = self._name(found.value)
        if name is None:
            return found
        weight = Parameter(name, found.aval, found.value, path=name)
        return self._made.setdefault(name, weight)

    def _name(self, value: np.ndarray) -> str | None:
        """By its memory, or else by its numbers: JAX copies what it converts."""
        alike = {name: x for name, x in self._arrays.items() if x.shape == value.shape}
        same = [name for name, x in alike.items() if _memory(x) == _memory(value)]
        equal = (n for n, x in alike.items() if np.array_equal(x.astype(value.dtype), value))
        return same[0] if same else next(equal, None)


def _is_weight(array: Array) -> bool:
    return array.size > 1 and jax.numpy.issubdtype(array.dtype, np.floating)


def _memory(array: np.ndarray) -> tuple[object, ...]:
    return array.__array_interface__["data"][0], array.strides, array.dtype


def _unused(name: str, taken: Mapping[str, object]) -> str:
    numbered = (f"{name}_{i}" if i else name for i in range(len(taken) + 1))
    return next(each for each in numbered if each not in taken)


def _arrays(name: str, value: object, seen: set[int]) -> Iterator[tuple[str, Array]]:
    """The named arrays in a value, each object once; those of a file that was read are its own."""
    if id(value) in seen or isinstance(value, ModuleType | type | Source):
        return
    seen.add(id(value))
    held = held_by(value)
    if isinstance(value, jax.Array | np.ndarray):
        yield name or "weight", value
    elif held is not None or is_tree(value):
        tree = value if held is None else held
        named = zip(leaf_names(tree, name), jax.tree.leaves(tree), strict=True)
        yield from ((n, leaf) for n, leaf in named if isinstance(leaf, jax.Array | np.ndarray))
    else:
        if isinstance(value, FunctionType | MethodType) or "__wrapped__" in dir(value):
            name = ""  # a function's variables have names of their own
        for inner, each in _inside(value):
            yield from _arrays(".".join(filter(None, (name, inner))), each, seen)


def _inside(value: object) -> Iterator[tuple[str, object]]:
    """What a function or an object holds; a function's variables have names of their own."""
    match value:
        case partial():
            yield "", value.func
            yield from ((f"{i}", each) for i, each in enumerate(value.args))
            yield from value.keywords.items()
        case MethodType():
            yield "", value.__self__
            yield "", value.__func__
        case FunctionType() if not value.__code__.co_filename.startswith(LIBRARIES):
            yield from _variables(value)
        case _ if callable(value) and "__wrapped__" in dir(value):  # jax.jit, jax.vmap
            yield "", inspect.unwrap(value)
        case FunctionType():
            return
        case _ if hasattr(value, "__dict__"):
            yield from vars(value).items()


def _variables(function: FunctionType) -> Iterator[tuple[str, object]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    known = function.__globals__
    yield from ((name, known[name]) for name in _global_names(code) if name in known)


def _global_names(code: CodeType) -> dict[str, None]:
    """The names that a function and those inside it look up."""
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _global_names(constant)
    return names
