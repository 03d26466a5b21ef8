"""Modules of NNX that keep keys and values in variables ``nnx.Cache``."""

import sys
from collections.abc import Mapping

import jax

from fnckpt.decoders.adapters.table import Adapted, Given, adapts, arguments_of, takes_cache

PyTree = object


@adapts("a module of NNX")
def of_nnx(given: Given) -> Adapted | None:
    """The module's call with its ``nnx.Cache`` variables as an argument and a result."""
    owner = given.apply_fn
    if (found := sys.modules.get("flax.nnx")) is None or not isinstance(owner, found.Module):
        return None
    from flax import nnx

    assert isinstance(owner, nnx.Module)
    call = owner.__call__
    if takes_cache(call):
        return None
    graph, own, rest = nnx.split(owner, nnx.Cache, ...)
    if not jax.tree.leaves(own):
        raise ValueError(
            f"{type(owner).__name__} has no variables nnx.Cache; make them with "
            "init_cache((1, 16, features)) of each attention, or let the module take the cache "
            "as an argument and return it"
        )
    arguments = arguments_of(call)

    def apply(params: PyTree, ids: jax.Array, *given: PyTree) -> PyTree:
        *values, cache = given
        states = [jax.tree.map(lambda leaf: leaf, each) for each in (own, rest)]
        for state, leaves in zip(states, (cache, params), strict=True):
            assert isinstance(leaves, dict)
            nnx.replace_by_pure_dict(state, leaves)
        module = nnx.merge(graph, *states)
        logits = module(ids, **arguments.keywords(tuple(values)))
        return logits, nnx.to_pure_dict(nnx.state(module, nnx.Cache))

    given_params = given.params
    if isinstance(given_params, nnx.State):
        given_params = nnx.to_pure_dict(nnx.filter_state(given_params, nnx.Not(nnx.Cache)))
    params = given_params if isinstance(given_params, Mapping) else nnx.to_pure_dict(rest)
    return Adapted(params, arguments.named(apply), nnx.to_pure_dict(own))
