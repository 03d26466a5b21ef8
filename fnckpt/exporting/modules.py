"""Modules that hold their weights, as parameters and a pure function of them.

What a plain function closes over is found and named by ``fnckpt.exporting.closures``.
"""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType

import jax
from jax.tree_util import all_leaves

from fnckpt.exporting.signature import function_name

PyTree = object
Function = Callable[..., PyTree]


@dataclass(frozen=True)
class Network:
    """``apply(params, *inputs)``; its signature names the inputs."""

    params: PyTree
    apply: Function


def is_module(value: object) -> bool:
    """Whether a value is a module of NNX, linen or Equinox, or a bound method of one."""
    if not callable(value):
        return False
    return _is_nnx(_owner(value)) or _is_linen(_owner(value)) or is_tree(value)


def is_tree(value: object) -> bool:
    """Whether JAX finds leaves inside a value, as in an Equinox module."""
    return not all_leaves((value,))


def held_by(value: object) -> PyTree | None:
    """The variables that an NNX module or a bound linen module holds; None for what is neither."""
    if _is_nnx(value):
        from flax import nnx

        return nnx.to_pure_dict(nnx.state(value))
    if not _is_linen(value):
        return None
    import flax.linen as nn

    assert isinstance(value, nn.Module)
    return None if value.scope is None else value.unbind()[1]


def network_of(model: Function) -> Network:
    """A module, a bound method of one, or a plain function, which has no parameters.

    Raises:
      ValueError: a linen module without its variables.
    """
    owner = _owner(model)
    if _is_nnx(owner):
        return _of_nnx(owner, model)
    if _is_linen(owner):
        return _of_linen(owner, model)
    if is_tree(model):  # Equinox, and every callable that is a pytree
        return Network(model, _as(model, lambda module, *inputs: module(*inputs)))
    return Network((), _as(model, lambda _, *inputs: model(*inputs)))


def applied(params: PyTree, function: Function) -> Network:
    """Parameters and a function of them; a linen module stands for its ``apply``."""
    if not _is_linen(function):
        return Network(params, function)
    import flax.linen as nn

    assert isinstance(function, nn.Module)
    module = function if function.scope is None else function.unbind()[0]
    return Network(params, _as(function, lambda given, *inputs: module.apply(given, *inputs)))


def _owner(model: Function) -> object:
    """The module of a bound method, or the module itself."""
    return model.__self__ if isinstance(model, MethodType) else model


def _is_nnx(value: object) -> bool:
    nnx = sys.modules.get("flax.nnx")  # whoever made a module has imported it
    return nnx is not None and isinstance(value, nnx.Module)


def _is_linen(value: object) -> bool:
    linen = sys.modules.get("flax.linen")
    return linen is not None and isinstance(value, linen.Module)


def _of_nnx(owner: object, model: Function) -> Network:
    """The variables as nested dicts, so that a weight is called ``dense.kernel``."""
    from flax import nnx

    static, state = nnx.split(owner)
    unbound = model.__func__ if isinstance(model, MethodType) else type(owner).__call__

    def apply(params: dict[str, PyTree], *inputs: PyTree) -> PyTree:
        given = jax.tree.map(lambda leaf: leaf, state)  # a copy, into which params go
        nnx.replace_by_pure_dict(given, params)
        return unbound(nnx.merge(static, given), *inputs)

    return Network(nnx.to_pure_dict(state), _as(model, apply))


def _of_linen(owner: object, model: Function) -> Network:
    import flax.linen as nn

    assert isinstance(owner, nn.Module)
    if owner.scope is None:
        kind = type(owner).__name__
        raise ValueError(
            f"{kind} is a linen module without variables; give them: export(variables, "
            f"module.apply, sample_input, file_format), or export(module.bind(variables), ...)"
        )
    module, variables = owner.unbind()
    method = model.__name__ if isinstance(model, MethodType) else None
    return Network(
        variables,
        _as(model, lambda given, *inputs: module.apply(given, *inputs, method=method)),
    )


def _as(model: Function, apply: Function) -> Function:
    """``apply`` under the name of ``model``, and with the names of its inputs."""
    first = inspect.Parameter("_params", inspect.Parameter.POSITIONAL_ONLY)
    try:
        own = list(inspect.signature(model).parameters.values())
    except ValueError:  # some functions written in C have no signature
        own = [inspect.Parameter("inputs", inspect.Parameter.VAR_POSITIONAL)]
    plain = [
        p.replace(kind=inspect.Parameter.POSITIONAL_ONLY)
        if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        else p
        for p in own
    ]
    apply.__name__ = function_name(model)
    vars(apply)["__signature__"] = inspect.Signature([first, *plain])
    return apply
