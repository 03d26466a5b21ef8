"""The parameters of a Flax network under the names and in the layouts of MindSpore, and back.

| Flax module | leaf, shape | MindSpore cell | parameter, shape |
|---|---|---|---|
| Dense, Linear | kernel (in, out) | Dense | weight (out, in) |
| Conv 1-D | kernel (w, in, out) | Conv1d | weight (out, in, 1, w) |
| Conv 2-D, 3-D | kernel (h, w, in, out), (d, h, w, in, out) | Conv2d, Conv3d | weight (out, in, ...) |
| BatchNorm, LayerNorm, GroupNorm | scale, bias, mean, var | the same | gamma, beta, moving_mean, moving_variance |
| Embed | embedding | Embedding | embedding_table |
| attention: query, key, value | kernel (in, heads, size), bias (heads, size) | Dense | weight, bias |
| attention: out | kernel (heads, size, out) | Dense | weight |
| LSTMCell | ii if ig io hi hf hg ho | LSTM | weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 |
| GRUCell | ir iz in hr hz hn | GRU | the same four |
| any other | | | the same name and layout |

A module's path is kept, without the collections ``params`` and ``batch_stats`` and without the
``value`` of NNX: ``params.Conv_0.kernel`` is ``Conv_0.weight``. Rules change paths.
"""  # noqa: E501 - a table

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

from fnckpt.checkpoints.leaf_names import leaves
from fnckpt.checkpoints.mindspore_kinds import (
    ATTENTION,
    CELLS,
    KINDS,
    Arrays,
    Kind,
)
from fnckpt.checkpoints.restoring import wanted
from fnckpt.checkpoints.storable import host
from fnckpt.errors import CheckpointMismatch

Tree = TypeVar("Tree")
Value = TypeVar("Value")
Rules = Sequence[tuple[str, str]]

_COLLECTIONS = re.compile(r"^(params|batch_stats)\.|\.value$")


@dataclass(frozen=True)
class _Module:
    """One module: its path, its kind, and the tree's names of its leaves by their own names."""

    path: str
    kind: Kind
    leaves: dict[str, str]


def mindspore_names(
    params: object, *, rules: Rules = (), kinds: Mapping[str, Kind] | None = None
) -> dict[str, list[str]]:
    """MindSpore's name of each parameter of ``params``, and the names of the leaves it is made of.

    Args:
      params: the variables of a linen module, the state of an NNX module, or a part of them.
      rules: (regular expression, replacement), applied in turn to MindSpore's names, by
        ``re.sub``: ``(r"Conv_(\\d)", r"conv\\1")``.
      kinds: module path -> kind, where the leaves do not tell: ``{"Up_0": CONV_TRANSPOSE}``.

    Raises:
      ValueError: two parameters get one name.

    Examples:
      >>> mindspore_names({"params": {"Dense_0": {"kernel": np.zeros((2, 3))}}})
      {'Dense_0.weight': ['params.Dense_0.kernel']}
    """
    flat = dict(leaves(params))
    result: dict[str, list[str]] = {}
    for module in _modules(flat, kinds or {}):
        _add(result, _sources(module, flat), module.path, rules)
    return result


def to_mindspore(
    params: object, *, rules: Rules = (), kinds: Mapping[str, Kind] | None = None
) -> dict[str, np.ndarray]:
    """``params`` as MindSpore has them, for ``save_checkpoint`` and ``load_param_into_net``.

    Arguments and errors are those of ``mindspore_names``.

    Examples:
      >>> tree = {"params": {"Dense_0": {"kernel": np.zeros((2, 3))}}}
      >>> {name: array.shape for name, array in to_mindspore(tree).items()}
      {'Dense_0.weight': (3, 2)}
    """
    flat = dict(leaves(params))
    result: Arrays = {}
    for module in _modules(flat, kinds or {}):
        _add(result, _forth(module, flat), module.path, rules)
    return result


def from_mindspore(
    arrays: Mapping[str, np.ndarray],
    like: Tree,
    *,
    rules: Rules = (),
    kinds: Mapping[str, Kind] | None = None,
) -> Tree:
    """A tree of the structure of ``like`` with MindSpore's parameters ``arrays``.

    Args:
      arrays: name -> array, as ``load_checkpoint`` gives them; more than ``like`` needs, such as
        an optimizer's state, is no error.
      like: a tree as for ``to_mindspore``, whose leaves say shapes, dtypes and kinds.
      rules: as given to ``to_mindspore``.
      kinds: as given to ``to_mindspore``.

    Raises:
      CheckpointMismatch: parameters that are missing or of another shape or dtype, all named.

    Examples:
      >>> like = {"params": {"Dense_0": {"kernel": np.zeros((2, 3))}}}
      >>> from_mindspore({"Dense_0.weight": np.ones((3, 2))}, like)["params"]["Dense_0"]["kernel"]
      array([[1., 1., 1.],
             [1., 1., 1.]])
    """
    named = leaves(like)
    flat = {name: np.zeros(_shape(leaf), np.dtype(leaf.dtype)) for name, leaf in named}
    stored: Arrays = {}
    faults: list[str] = []
    for module in _modules(flat, kinds or {}):
        expected = _forth(module, flat)
        cell, found = _cell(arrays, expected, module.path, rules)
        faults += found
        if not found:
            shapes = {leaf: flat[name].shape for leaf, name in module.leaves.items()}
            for leaf, array in module.kind.back(cell, shapes).items():
                stored[module.leaves[leaf]] = np.ascontiguousarray(array).reshape(shapes[leaf])
    if faults:
        raise CheckpointMismatch("\n".join(["the parameters do not fit the tree:", *faults]))
    restored = [wanted(leaf, name).restore(stored[name]) for name, leaf in named]
    return jax.tree.unflatten(jax.tree.structure(like), restored)


def _cell(
    arrays: Mapping[str, np.ndarray], expected: Arrays, path: str, rules: Rules
) -> tuple[Arrays, list[str]]:
    """The parameters of one cell by their own names, and what is wrong with them."""
    cell: Arrays = {}
    faults: list[str] = []
    for name, array in expected.items():
        new = _renamed(name, path, rules)
        found = arrays.get(new)
        if found is None:
            faults.append(f"  {new}: missing")
        elif (found.shape, found.dtype) != (array.shape, array.dtype):
            want, have = f"{array.dtype} {array.shape}", f"{found.dtype} {found.shape}"
            faults.append(f"  {new}: expected {want}, found {have}")
        else:
            cell[name] = found
    return cell, faults


def _shape(leaf: Any) -> tuple[int, ...]:
    return tuple(leaf.shape)


def _forth(module: _Module, flat: Mapping[str, Any]) -> Arrays:
    return module.kind.forth({leaf: host(flat[name]) for leaf, name in module.leaves.items()})


def _sources(module: _Module, flat: Mapping[str, Any]) -> dict[str, list[str]]:
    """The leaves that each parameter of the cell is made of, by the parameter's own name.

    A NaN in one leaf after the other shows up where the leaf is used, whatever the kind does.
    """
    shapes = {leaf: _shape(flat[name]) for leaf, name in module.leaves.items()}
    sources: dict[str, list[str]] = {}
    for marked, name in module.leaves.items():
        probe = {
            leaf: np.full(shape, np.nan if leaf == marked else 0.0, np.float32)
            for leaf, shape in shapes.items()
        }
        for own, array in module.kind.forth(probe).items():
            held = sources.setdefault(own, [])
            held += [name] if np.isnan(array).any() else []
    return sources


def _add(result: dict[str, Value], cell: Mapping[str, Value], path: str, rules: Rules) -> None:
    """Put what ``cell`` holds into ``result``, under MindSpore's names.

    Raises:
      ValueError: a name is taken.
    """
    for own, value in cell.items():
        name = _renamed(own, path, rules)
        if name in result:
            raise ValueError(f"{path}: parameters share the name {name}; change the rules")
        result[name] = value


def _renamed(name: str, path: str, rules: Rules) -> str:
    new = f"{path}.{name}" if path else name
    for pattern, replacement in rules:
        new = re.sub(pattern, replacement, new)
    return new


def _modules(flat: Mapping[str, Any], kinds: Mapping[str, Kind]) -> list[_Module]:
    """The modules whose leaves are ``flat``; recurrent cells are one module each."""
    held: dict[str, dict[str, str]] = {}
    for name in flat:
        path, _, leaf = _stripped(name).rpartition(".")
        held.setdefault(path, {})[leaf] = name
    for path in {path.rpartition(".")[0] for path in held if "." in path}:
        _gather_cell(held, path, flat)
    return [
        _Module(path, _kind(path, inner, held, flat, kinds), inner) for path, inner in held.items()
    ]


def _stripped(name: str) -> str:
    while (shorter := _COLLECTIONS.sub("", name)) != name:
        name = shorter
    return name


def _gather_cell(held: dict[str, dict[str, str]], path: str, flat: Mapping[str, Any]) -> None:
    """Make the modules below ``path`` one, if they are the gates of a recurrent cell."""
    below = {inner: parts for inner, parts in held.items() if inner.rpartition(".")[0] == path}
    whole = {
        f"{inner.rpartition('.')[2]}.{leaf}": name
        for inner, parts in below.items()
        for leaf, name in parts.items()
    }
    shapes = {leaf: _shape(flat[name]) for leaf, name in whole.items()}
    if any(kind.fits(shapes) for kind in CELLS):
        for inner in below:
            del held[inner]
        held[path] = whole


def _kind(
    path: str,
    inner: dict[str, str],
    held: Iterable[str],
    flat: Mapping[str, Any],
    kinds: Mapping[str, Kind],
) -> Kind:
    if path in kinds:
        return kinds[path]
    outer, dot, last = path.rpartition(".")
    if last in ATTENTION and all(f"{outer}{dot}{part}" in held for part in ATTENTION):
        return ATTENTION[last]
    shapes = {leaf: _shape(flat[name]) for leaf, name in inner.items()}
    return next(kind for kind in (*CELLS, *KINDS) if kind.fits(shapes))
