"""From what people have to a decoder's parameters, function and cache: the table of adapters."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fnckpt.decoders.call import Apply, kinds_of

PyTree = object
SETTINGS = {"decode": True, "deterministic": True, "train": False, "training": False}


@dataclass(frozen=True)
class Adapted:
    """What ``fnckpt.decoders.call.decoder`` takes.

    Attributes:
      params: the weights.
      apply_fn: of ids, mask or positions, and a cache.
      cache: arrays or shapes; None where nobody knows.
      config: what the model says of itself.
      prefill: another function for the prompt.
    """

    params: PyTree
    apply_fn: Apply
    cache: PyTree
    config: object = None
    prefill: Apply | None = None


@dataclass(frozen=True)
class Given:
    """What a user gave."""

    params: PyTree
    apply_fn: object
    cache: PyTree


Adapter = Callable[[Given], Adapted | None]
ADAPTERS: dict[str, Adapter] = {}


def adapts(kind: str) -> Callable[[Adapter], Adapter]:
    """Register the decorated function for ``kind``; it gives None for what is of another kind."""

    def register(adapter: Adapter) -> Adapter:
        if kind in ADAPTERS:
            raise ValueError(f"{kind} is already adapted by {ADAPTERS[kind].__qualname__}")
        ADAPTERS[kind] = adapter
        return adapter

    return register


@dataclass(frozen=True)
class Arguments:
    """What a module's ``__call__`` takes behind ids.

    Attributes:
      kinds: ``"mask"`` or ``"positions"``, by the names of the arguments.
      settings: of a module that is used and not trained.
    """

    kinds: Mapping[str, str]
    settings: Mapping[str, bool]

    def keywords(self, values: tuple[PyTree, ...]) -> dict[str, Any]:
        """The keywords of a call with ``values`` for ``kinds``."""
        return {**dict(zip(self.kinds, values, strict=True)), **self.settings}

    def named(self, apply: Apply) -> Apply:
        """``apply(params, ids, *values, cache)``, whose signature has a name for each value."""
        names = ("params", "ids", *self.kinds.values(), "cache")
        kind = inspect.Parameter.POSITIONAL_ONLY
        found = inspect.Signature([inspect.Parameter(name, kind) for name in names])
        vars(apply)["__signature__"] = found
        return apply


def arguments_of(call: Callable[..., PyTree]) -> Arguments:
    """What a module takes behind ids, by the names of its arguments.

    Raises:
      TypeError: an argument without a default has another name.
    """
    rest = [
        p
        for p in list(inspect.signature(call).parameters.values())[1:]
        if p.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    ]
    settings = {p.name: SETTINGS[p.name] for p in rest if p.name in SETTINGS}
    arrays = [p for p in rest if "mask" in p.name.lower() or "pos" in p.name.lower()]
    names = {*settings, *(p.name for p in arrays)}
    other = [p.name for p in rest if p.name not in names and p.default is inspect.Parameter.empty]
    if other:
        raise TypeError(
            f"{type(call).__name__} takes {', '.join(other)}; behind the ids it may take a mask, "
            f"positions, and {', '.join(SETTINGS)}; wrap it in a function of (params, ids, mask or "
            "positions, cache) for more"
        )
    kinds = dict(zip((p.name for p in arrays), kinds_of([p.name for p in arrays]), strict=True))
    return Arguments(kinds, settings)


def takes_cache(call: Callable[..., PyTree]) -> bool:
    """Whether a module gets its cache as an argument."""
    names = [name.lower() for name in inspect.signature(call).parameters]
    return any("cache" in name or "past" in name for name in names)
