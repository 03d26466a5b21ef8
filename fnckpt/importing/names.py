"""The names of weights in a file as the keys of a nested dict, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

KeyPath = tuple[str, ...]


def paths_of(names: Sequence[str]) -> dict[str, KeyPath]:
    """The keys of each name: split at its dots, unless that would make one a dict and a leaf.

    >>> paths_of(["a.b", "a.c.0", "a..d"])
    {'a.b': ('a', 'b'), 'a.c.0': ('a', 'c', '0'), 'a..d': ('a..d',)}
    >>> paths_of(["a", "a.b"])
    {'a': ('a',), 'a.b': ('a.b',)}
    """
    split = {name: tuple(name.split(".")) if all(name.split(".")) else (name,) for name in names}
    leaves = set(split.values())
    return {
        name: (name,) if any(path[:i] in leaves for i in range(1, len(path))) else path
        for name, path in split.items()
    }


def nested(leaves: Mapping[KeyPath, Any]) -> dict[str, Any]:
    """A nested dict of leaves.

    >>> nested({("a", "b"): 1, ("a", "c"): 2})
    {'a': {'b': 1, 'c': 2}}
    """
    found: dict[str, Any] = {}
    for path, leaf in leaves.items():
        inner = found
        for key in path[:-1]:
            deeper = inner.setdefault(key, {})
            assert isinstance(deeper, dict)
            inner = deeper
        inner[path[-1]] = leaf
    return found


def leaf_at(tree: Any, path: KeyPath) -> Any:
    """The leaf of a nested mapping.

    Raises:
      ValueError: there is none; names it.
    """
    found = tree
    for key in path:
        if not isinstance(found, Mapping) or key not in found:
            raise ValueError(f"params: there is no {'.'.join(path)}; give the tree of load_graph")
        found = found[key]
    return found
