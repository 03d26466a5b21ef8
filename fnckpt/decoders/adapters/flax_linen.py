"""Modules of linen that keep keys and values in the collection ``cache``."""

import sys
from collections.abc import Mapping
from types import MethodType
from typing import Any

import jax
import jax.numpy as jnp

from fnckpt.decoders.adapters.table import Adapted, Given, adapts, arguments_of, takes_cache
from fnckpt.exporting.modules import applied

PyTree = object
BUFFER = 16  # places of the cache that stands for one of any length


@adapts("a module of linen")
def of_linen(given: Given) -> Adapted | None:
    """``module.apply({"params": ..., "cache": ...}, ids, mutable=["cache"])``."""
    owner = given.apply_fn
    if isinstance(owner, MethodType) and owner.__name__ == "apply":
        owner = owner.__self__
    if (linen := sys.modules.get("flax.linen")) is None or not isinstance(owner, linen.Module):
        return None
    import flax.linen as nn

    assert isinstance(owner, nn.Module)
    module, variables = (owner, given.params) if owner.scope is None else owner.unbind()
    call = type(module).__call__.__get__(module)
    if takes_cache(call):
        return Adapted(variables, applied(variables, module).apply, given.cache)
    found = variables if isinstance(variables, Mapping) and "params" in variables else {}
    rest = {k: v for k, v in found.items() if k != "cache"} or {"params": variables}
    arguments = arguments_of(call)

    def apply(params: Mapping[str, Mapping[str, Any]], ids: jax.Array, *given: Any) -> PyTree:
        *values, cache = given
        logits, after = module.apply(
            {**params, "cache": cache},
            ids,
            **arguments.keywords(tuple(values)),
            mutable=["cache"],
        )
        return logits, after["cache"]

    def fresh() -> PyTree:
        ids = jnp.zeros((1, BUFFER), jnp.int32)
        values = tuple(jnp.ones_like(ids) for _ in arguments.kinds)
        return module.init(jax.random.key(0), ids, **arguments.keywords(values)).get("cache")

    cache = given.cache if given.cache is not None else found.get("cache")
    cache = jax.eval_shape(fresh) if cache is None else cache
    return Adapted(rest, arguments.named(apply), cache)
