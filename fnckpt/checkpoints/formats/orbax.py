"""Orbax's directories, read and written."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from orbax.checkpoint import metadata

from fnckpt.checkpoints.formats.orbax_layout import tree_of
from fnckpt.checkpoints.leaf_names import leaves
from fnckpt.errors import FormatError
from fnckpt.visible import visible

_UNPACKED, _RATIO = 1 << 30, 2000  # bytes that any directory may claim; times its size for a large
_MOST_AXES = 32  # of TensorStore's arrays
_LONGEST = 300  # characters of a message that quotes the file
_DAMAGED = (  # what Orbax and TensorStore raise of a damaged directory
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def holds(array: np.ndarray) -> bool:
    """Whether Orbax can store ``array``: has elements, of a dtype and rank of TensorStore's."""
    if array.dtype.kind == "U":
        return not array.shape
    try:
        tensorstore.dtype(array.dtype)
    except ValueError:
        return False
    return array.size > 0 and array.ndim <= _MOST_AXES


def write(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write ``arrays`` as an Orbax PyTree checkpoint, the directory ``path``.

    Names are split at dots into nested dicts, or kept whole where that is not possible.

    Raises:
      FileExistsError: ``path`` is there already.
    """
    if path.exists():
        raise FileExistsError(f"{path}: exists; Orbax writes only new directories")
    if not arrays:
        raise ValueError(f"{path}: there is no array; Orbax refuses an empty tree")
    items = {name: str(a) if a.dtype.kind == "U" else a for name, a in arrays.items()}
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), _nested(items) or items)


def _nested(items: dict[str, Any]) -> dict[str, Any] | None:
    """``items`` as nested dicts; None if a name has an empty part or lies below another name."""
    tree: dict[str, Any] = {}
    for name, item in items.items():
        *outer, last = name.split(".")
        place = tree
        for part in outer:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                return None
        if last in place or "" in (*outer, last):
            return None
        place[last] = item
    return tree


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the Orbax PyTree checkpoint in the directory ``path``, by their paths.

    It may be the directory of a tree, or of a step that a manager of Orbax's v0 or v1 API wrote.

    Raises:
      FormatError: it is not an Orbax checkpoint, or it holds several trees or steps.
    """
    return _reading(path, _read)


def _reading(path: Path, take: Callable[[Path], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What ``take`` gives of the tree in ``path``; what Orbax raises becomes a FormatError."""
    path.stat()  # says so if there is nothing
    try:
        with _quiet():
            return take(tree_of(path))
    except FormatError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise FormatError(f"{path}: not an Orbax PyTree checkpoint") from None
    except _DAMAGED as error:
        told = visible(" ".join(str(error).split()))[:_LONGEST]
        raise FormatError(
            f"{path}: a damaged Orbax checkpoint ({type(error).__name__}: {told})"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Orbax logs of a damaged directory: the error says it, in one line."""
    logger = logging.getLogger("absl")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _read(path: Path) -> dict[str, np.ndarray]:
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = _metadata(checkpointer, path)
        _check_sizes(jax.tree.leaves(tree, is_leaf=_is_leaf), path)
        kinds = jax.tree.map(_as_numpy, tree, is_leaf=_is_leaf)
        restored = checkpointer.restore(path.absolute(), restore_args=kinds)
    found: dict[str, np.ndarray] = {}
    for name, leaf in leaves(restored):
        array = np.asarray(leaf)
        if array.dtype.hasobject:
            raise FormatError(f"{path}: {name!r} is a {type(leaf).__name__}, not an array or text")
        found[name] = array
    return found


def outlines(path: Path) -> dict[str, np.ndarray]:
    """As ``read``, but only dtypes and shapes; the arrays are not read.

    Raises:
      FormatError: it is not an Orbax checkpoint, or it holds several trees or steps.
    """
    return _reading(path, _outlines)


def _outlines(path: Path) -> dict[str, np.ndarray]:
    with ocp.PyTreeCheckpointer() as checkpointer:
        kinds = leaves(jax.tree.map(_outline, _metadata(checkpointer, path), is_leaf=_is_leaf))
    return dict(kinds)


def _outline(item: Any) -> np.ndarray:
    if isinstance(item, metadata.ArrayMetadata):
        return np.broadcast_to(np.zeros((), item.dtype), item.shape)
    return np.array("")


def _metadata(checkpointer: ocp.PyTreeCheckpointer, path: Path) -> Any:
    """A tree: what Orbax knows of each leaf of the tree in ``path``."""
    tree = checkpointer.metadata(path.absolute()).item_metadata
    if tree is None:
        raise ValueError("its metadata cannot be read")
    return tree.tree


def _check_sizes(items: Sequence[Any], path: Path) -> None:
    """Compare what the arrays claim with the directory, before TensorStore allocates it.

    TensorStore ends the process (``std::bad_alloc``) where there is not so much memory.
    """
    claimed = sum(_claimed(item) for item in items if isinstance(item, metadata.ArrayMetadata))
    size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    if claimed > max(_UNPACKED, _RATIO * size):
        raise FormatError(
            f"{path}: a damaged Orbax checkpoint: its {size} bytes claim to unpack to {claimed}; "
            "Orbax reads it, if you trust it"
        )


def _claimed(item: metadata.ArrayMetadata) -> int:
    """The bytes that an array and one of its chunks take in memory, as its metadata says."""
    itemsize = np.dtype(item.dtype).itemsize if item.dtype is not None else 1
    chunk = item.storage.chunk_shape if item.storage is not None else None
    return itemsize * (math.prod(item.shape) + math.prod(chunk or ()))


def _is_leaf(item: Any) -> bool:
    return isinstance(item, metadata.value.Metadata)


def _as_numpy(item: Any) -> ocp.RestoreArgs:
    """Restore as NumPy: jax would make int64 into int32."""
    text = isinstance(item, metadata.value.StringMetadata)
    return ocp.RestoreArgs(restore_type=str if text else np.ndarray)
