"""Flax models of transformers as plain functions with a cache."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax

PyTree = object


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
