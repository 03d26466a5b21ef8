"""The names that a function gives to itself, its inputs and its outputs."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType

from jax.tree_util import keystr, tree_flatten_with_path

PyTree = object


def leaf_names(
    tree: PyTree, prefix: str = "", is_leaf: Callable[[PyTree], bool] | None = None
) -> list[str]:
    """The path of each leaf, joined by ``.`` and behind ``prefix``; ``is_leaf`` as JAX has it.

    >>> leaf_names({"a": 1, "b": (2, 3)}, "x")
    ['x.a', 'x.b.0', 'x.b.1']
    >>> leaf_names(1, "x")
    ['x']
    """
    flat = tree_flatten_with_path(tree, is_leaf=is_leaf)[0]
    paths = [keystr(path, simple=True, separator=".") for path, _ in flat]
    return [".".join(filter(None, (prefix, path))) for path in paths]


def function_name(function: Callable[..., PyTree]) -> str:
    """What a function is called: its ``__name__``, or that of what it wraps.

    >>> function_name(leaf_names), function_name(lambda x: x)
    ('leaf_names', 'model')
    """
    match function:
        case partial():
            return function_name(function.func)
        case FunctionType() | MethodType() | BuiltinFunctionType() | type():
            name = str(function.__name__)
        case _:
            name = type(function).__name__
    return name if name.isidentifier() else "model"


def input_names(function: Callable[..., PyTree], inputs: Sequence[PyTree]) -> list[str]:
    """A name for each leaf of the inputs: the function's own argument, and the path in it.

    The first argument is the parameters' and not counted.
    """
    own = _arguments(function)[1:]
    plain = ["input"] if len(inputs) == 1 else [f"input_{i}" for i in range(len(inputs))]
    names = [*own[: len(inputs)], *plain[len(own) :]]
    return [
        leaf for name, tree in zip(names, inputs, strict=True) for leaf in leaf_names(tree, name)
    ]


def _arguments(function: Callable[..., PyTree]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some functions written in C have no signature
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in positional]
