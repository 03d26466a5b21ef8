"""The names of a pytree's leaves: their paths, joined by dots."""

from typing import Any

from jax.tree_util import all_leaves, keystr, tree_flatten_with_path

from fnckpt.checkpoints.garbage_collection import uncollected


def leaves(tree: Any) -> list[tuple[str, Any]]:
    """(name, leaf) of each leaf of ``tree``, in JAX's order.

    The name is the leaf's path joined by ``.``: dictionary keys, attribute names, positions. A
    tree that is itself a leaf is called ``""``. None is no leaf.

    Raises:
      ValueError: two leaves have one name.

    >>> leaves({"params": {"w": 1.0}, "opt": (2.0, None, [3.0])})
    [('opt.0', 2.0), ('opt.2.0', 3.0), ('params.w', 1.0)]
    """
    named: list[tuple[str, Any]] = []
    with uncollected():
        _collect(tree, "", named, {})
    if len({name for name, _ in named}) < len(named):
        raise ValueError(_collisions([path for path, _ in tree_flatten_with_path(tree)[0]]))
    return named


def _collect(
    tree: Any, prefix: str, named: list[tuple[str, Any]], are_leaves: dict[type, bool]
) -> None:
    """Append the leaves of ``tree`` to ``named``, as JAX orders and names them.

    Dictionaries, which hold most leaves, are gone through here: JAX's paths of 100,000 leaves take
    thrice as long as writing them.
    """
    if type(tree) is dict:
        parts = ((str(key), tree[key]) for key in _in_order(tree))
    else:
        flat = tree_flatten_with_path(tree, is_leaf=lambda part: type(part) is dict)[0]
        parts = ((_name(path), part) for path, part in flat)
    for name, part in parts:
        kind = type(part)
        if kind not in are_leaves:
            are_leaves[kind] = all_leaves((part,))
        if are_leaves[kind]:
            named.append((prefix + name, part))
        else:
            _collect(part, f"{prefix}{name}.", named, are_leaves)


def _in_order(tree: dict[Any, Any]) -> list[Any]:
    try:
        return sorted(tree)
    except TypeError:  # JAX says what is wrong
        tree_flatten_with_path(tree)
        raise


def _name(path: tuple[Any, ...]) -> str:
    return keystr(path, simple=True, separator=".")


def _collisions(paths: list[tuple[Any, ...]]) -> str:
    holders: dict[str, list[str]] = {}
    for path in paths:
        holders.setdefault(_name(path), []).append(keystr(path))
    lines = [
        f"  {name!r} is the name of {' and '.join(places)}"
        for name, places in holders.items()
        if len(places) > 1
    ]
    return "\n".join(["tree: leaves share a name; rename one of each:", *lines])
