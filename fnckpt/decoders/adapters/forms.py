"""What ``export_decoder`` takes: functions, modules, models; the first adapter that knows it."""

from importlib import import_module

import jax

from fnckpt.decoders.adapters.table import ADAPTERS, Adapted, Given, adapts
from fnckpt.exporting.modules import is_module, network_of

# Each enters its adapter into the table when it is imported; those of this file come last.
for _name in ("transformers_flax", "flax_linen", "flax_nnx"):
    import_module(f"fnckpt.decoders.adapters.{_name}")


def adapted(given: Given) -> Adapted:
    """What the first adapter that knows the kind makes of it.

    Raises:
      TypeError: it is no function and no module.
    """
    for adapter in ADAPTERS.values():
        found = adapter(given)
        if found is not None:
            return found
    raise TypeError(
        f"apply_fn must be a function, a module or a pair of functions (prefill, step), got "
        f"{type(given.apply_fn).__name__}"
    )


@adapts("two functions, one of the prompt and one of a step")
def _of_two_functions(given: Given) -> Adapted | None:
    if not isinstance(given.apply_fn, tuple | list) or len(given.apply_fn) != 2:
        return None
    prefill, step = given.apply_fn
    if not callable(prefill) or not callable(step):
        return None
    return Adapted(given.params, step, given.cache, prefill=prefill)


@adapts("a module that takes its cache as an argument")
def _of_module(given: Given) -> Adapted | None:
    model = given.apply_fn
    if not callable(model) or not is_module(model) or jax.tree.leaves(given.params):
        return None
    network = network_of(model)
    return Adapted(network.params, network.apply, given.cache)


@adapts("a function")
def _of_function(given: Given) -> Adapted | None:
    if not callable(given.apply_fn):
        return None
    return Adapted(given.params, given.apply_fn, given.cache)
