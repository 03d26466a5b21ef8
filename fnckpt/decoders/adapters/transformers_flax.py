"""Flax models of transformers as plain functions with a cache."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax

from fnckpt.decoders.adapters.table import Adapted, Given, adapts

PyTree = object
BUFFER = 16  # places of the cache that stands for one of any length


@runtime_checkable
class FlaxModel(Protocol):
    """What a ``FlaxPreTrainedModel`` with a cache has."""

    @property
    def params(self) -> PyTree: ...

    @property
    def config(self) -> object: ...

    def init_cache(self, batch_size: int, max_length: int) -> PyTree: ...

    def __call__(self, input_ids: jax.Array, **options: PyTree) -> tuple[PyTree, ...]: ...


def function_of(model: FlaxModel) -> Callable[..., PyTree]:
    """``apply(params, ids, mask, positions, cache)`` of a model."""

    def apply(
        params: PyTree, ids: jax.Array, mask: jax.Array, positions: jax.Array, cache: PyTree
    ) -> PyTree:
        logits, after = model(
            ids,
            attention_mask=mask,
            position_ids=positions,
            params=params,
            past_key_values=cache,
            return_dict=False,
        )[:2]
        return logits, after

    return apply


@adapts("a Flax model of transformers")
def of_transformers(given: Given) -> Adapted | None:
    """Its own cache and configuration."""
    model = given.apply_fn
    if not isinstance(model, FlaxModel):
        return None
    cache = model.init_cache(1, BUFFER) if given.cache is None else given.cache
    params = model.params if given.params is model or given.params is None else given.params
    return Adapted(params, function_of(model), cache, model.config)
