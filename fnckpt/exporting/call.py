"""What a call of ``export`` means: parameters, a function, its inputs and the format."""

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from fnckpt.exporting.modules import Network, applied, is_module, network_of
from fnckpt.exporting.sample import inputs_of
from fnckpt.ir.targets import TARGETS

PyTree = object
ORDER = "export(params, apply_fn, sample_input, file_format) or export(model, input, file_format)"

PARAMETERS = frozenset({"p", "params", "variables", "weights"})  # what a first argument is called


@dataclass(frozen=True)
class Call:
    """``apply_fn(params, *inputs)`` is to be written as ``file_format``.

    Attributes:
      closed: the function without parameters that was given, where one was.
    """

    params: PyTree
    apply_fn: Callable[..., PyTree]
    inputs: tuple[PyTree, ...]
    file_format: str
    closed: Callable[..., PyTree]


def understood(
    given: Sequence[PyTree], file_format: str | None, file_name: str | os.PathLike[str] | None
) -> Call:
    """What the positional arguments mean.

    They are parameters, a function and its inputs, or a module (or a function that needs no
    parameters) and its inputs; the last may be the format. One tuple is several inputs.

    Raises:
      TypeError: there is no function, or an input is no array.
      ValueError: a linen module without variables, an input that can be read in two ways.
    """
    rest = list(given)
    last = rest[-1]
    if file_format is None and isinstance(last, str) and "[" not in last:
        file_format = last
        rest.pop()
    network, function, inputs = _network(rest)
    return Call(
        network.params,
        network.apply,
        inputs_of(network.apply, inputs),
        _format(file_format, file_name),
        function,
    )


def _network(given: Sequence[PyTree]) -> tuple[Network, Callable[..., PyTree], Sequence[PyTree]]:
    first, *rest = given or [None]
    second = rest[0] if rest else None
    for each in (first, second):
        if isinstance(each, type):
            raise TypeError(
                f"apply_fn must be a function or a module, got the class {each.__name__}; give "
                "an instance of it"
            )
    if callable(second) and not _is_array(second):
        alone = is_module(second) and not jax.tree.leaves(first)
        network = network_of(second) if alone else applied(first, second)
        return network, second, rest[1:]
    if not callable(first):
        raise TypeError(
            f"apply_fn must be a function, got {type(second).__name__} behind "
            f"{type(first).__name__}; the order is {ORDER}"
        )
    _check_order(first, rest)
    return network_of(first), first, rest


def _check_order(function: Callable[..., PyTree], inputs: Sequence[PyTree]) -> None:
    """A function of parameters in front of its parameters would make inputs of the weights."""
    if is_module(function) or len(inputs) < 2 or not isinstance(inputs[0], dict):
        return
    try:
        names = list(inspect.signature(function).parameters)
    except ValueError:  # some functions written in C have no signature
        return
    if names[:1] and names[0] in PARAMETERS:
        raise ValueError(f"{names[0]} comes after the function that takes it; the order is {ORDER}")


def _is_array(value: object) -> bool:
    return isinstance(value, jax.Array | np.ndarray | jax.ShapeDtypeStruct)


def _format(file_format: object, file_name: str | os.PathLike[str] | None) -> str:
    """The format's name; without one, what the suffix of the file's name says."""
    if file_format is None and file_name is not None:
        file_format = Path(file_name).suffix
    if file_format is None or file_format == "":
        raise ValueError(f"file_format is missing; give one of {', '.join(TARGETS)}")
    if not isinstance(file_format, str):
        known = ", ".join(TARGETS)
        raise TypeError(f"file_format must be one of {known}, got {type(file_format).__name__}")
    return file_format.strip().removeprefix(".")
