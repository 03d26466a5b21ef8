"""The names of a file's inputs and outputs: the user's own, or those of the function."""

from collections import Counter
from collections.abc import Callable, Sequence

from jax.tree_util import DictKey, GetAttrKey, keystr, tree_flatten_with_path

from fnckpt.exporting.signature import input_names, leaf_names

PyTree = object
Names = str | Sequence[str] | None


def names_of_inputs(
    function: Callable[..., PyTree], inputs: Sequence[PyTree], chosen: Names
) -> list[str]:
    """A name for each leaf of ``inputs``; ``chosen`` has one for each leaf, or for each input.

    Raises:
      ValueError: another number of names, or a name that stands twice.
    """
    default = input_names(function, inputs)
    return default if chosen is None else _chosen("input_names", chosen, inputs, default)


def names_of_outputs(outputs: PyTree, chosen: Names, taken: Sequence[str]) -> list[str]:
    """A name for each leaf of ``outputs``: its path, without a prefix where that begins with a key.

    >>> names_of_outputs({"logits": 1, "present": [{"key": 2}]}, None, [])
    ['logits', 'present.0.key']
    >>> names_of_outputs((1, {"a": 2}), None, [])
    ['output.0', 'output.1.a']

    ``chosen`` has a name for each leaf, or for each item of a tuple. ``taken`` are the inputs'
    names: an output whose key is one of them keeps the prefix.

    Raises:
      ValueError: another number of names, or a name that stands twice or is an input's.
    """
    default = _by_keys(outputs, taken)
    if chosen is None:
        return default
    top = outputs if isinstance(outputs, tuple | list) else (outputs,)
    names = _chosen("output_names", chosen, top, default)
    if clash := sorted(set(names) & set(taken)):
        raise ValueError(f"output_names: {', '.join(clash)} is the name of an input")
    return names


def _by_keys(outputs: PyTree, taken: Sequence[str]) -> list[str]:
    names = []
    for path, _ in tree_flatten_with_path(outputs)[0]:
        name = keystr(path, simple=True, separator=".")
        own = bool(path) and _is_a_name(path[0])
        prefixed = f"output.{name}" if name else "output"
        names.append(name if own and name and name not in taken else prefixed)
    return names


def _is_a_name(key: object) -> bool:
    """Whether a step of a path is the key of a dict or the field of a dataclass."""
    match key:
        case DictKey():
            return isinstance(key.key, str)
        case _:
            return isinstance(key, GetAttrKey)


def _chosen(what: str, names: Names, trees: Sequence[PyTree], default: Sequence[str]) -> list[str]:
    given = [names] if isinstance(names, str) else list(names or ())
    wrong = [name for name in given if not isinstance(name, str) or not name]
    if wrong:
        raise ValueError(f"{what}: a name is a text that is not empty, got {wrong[0]!r}")
    found = given
    if len(given) == len(trees) != len(default):
        found = [n for name, tree in zip(given, trees, strict=True) for n in leaf_names(tree, name)]
    if len(found) != len(default):
        raise ValueError(
            f"{what}: {len(given)} names for {len(default)} arrays ({', '.join(default)})"
        )
    keys = [name.rpartition(".")[2] for name in default]
    by_key = what == "output_names" or all("." in name for name in default)
    if by_key and found != keys and sorted(found) == sorted(keys):
        raise ValueError(
            f"{what}: {', '.join(found)} are the keys in another order; JAX sorts the keys of a "
            f"dict, so give {', '.join(keys)}"
        )
    if twice := [name for name, count in Counter(found).items() if count > 1]:
        raise ValueError(f"{what}: {', '.join(twice)} is given twice")
    return found
