"""Which leaves a checkpoint can hold, and the arrays that they are there."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from fnckpt.checkpoints.device_to_host import is_apart, sent
from fnckpt.checkpoints.formats.ckpt_index import PORTABLE, TYPE_OF
from fnckpt.checkpoints.restoring import is_key

LONGEST_NAME = 1024  # characters; MindSpore 2.10 refuses the whole file for a longer one

Leaf = jax.Array | np.ndarray | np.generic | bool | int | float | complex | str


def check_leaves(
    named: Iterable[tuple[str, Any]], *, where: str = "tree", portable: bool = True
) -> None:
    """Raise, naming every leaf that cannot be stored; nothing is copied from a device.

    Raises:
      TypeError: leaves that no ``.ckpt`` holds or, with ``portable``, that MindSpore cannot read;
        global arrays of which this process sees only a part.
    """
    faults: list[str] = []
    sound: set[np.dtype] = set()  # of NumPy arrays; many leaves have few dtypes
    for name, leaf in named:
        if portable and len(name) > LONGEST_NAME:
            count = f"{len(name):,} characters, and MindSpore loads up to {LONGEST_NAME:,}"
            faults.append(f"  {name[:40]}...: its name has {count}; save with portable=False")
        if not (name.isascii() or _encodes(name)):
            faults.append(f"  {name!r}: its name has lone surrogates; rename it")
        if type(leaf) is np.ndarray and leaf.dtype in sound:
            continue
        fault = _fault(leaf, portable)
        if fault is not None:
            faults.append(f"  {name}: {fault}")
        elif type(leaf) is np.ndarray:
            sound.add(leaf.dtype)
    if faults:
        raise TypeError("\n".join([f"{where}: leaves that cannot be saved:", *faults]))


def _fault(leaf: Any, portable: bool) -> str | None:
    """Why ``leaf`` cannot be stored; None if it can."""
    if isinstance(leaf, np.ma.MaskedArray):
        return "a masked array, whose mask would be lost; save filled() and the mask as two leaves"
    if isinstance(leaf, np.ndarray):
        return _fault_of_dtype(leaf.dtype, portable)
    if isinstance(leaf, str):
        return _fault_of_text(leaf)
    if isinstance(leaf, jax.Array):
        if not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            return "a global array, sharded over other processes; gather it first"
        if is_key(leaf):
            return None
    if isinstance(leaf, bool | int | float | complex):
        if isinstance(leaf, int) and not -(1 << 63) <= leaf < 1 << 64:
            return f"the int {leaf} is wider than 64 bits"
        leaf = np.asarray(leaf)
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        kind = f"{type(leaf).__module__}.{type(leaf).__qualname__}"
        return f"a {kind} is not an array, number or text"
    return _fault_of_dtype(np.dtype(leaf.dtype), portable)


def _fault_of_text(leaf: str) -> str | None:
    if leaf.endswith("\0"):
        return "a text that ends in NUL, which the format drops"
    return "a text with lone surrogates" if not _encodes(leaf) else None


def _encodes(leaf: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in leaf)


@lru_cache(maxsize=256)
def _fault_of_dtype(dtype: np.dtype, portable: bool) -> str | None:
    if dtype.kind == "U":
        return "an array of texts; a checkpoint holds single ones"
    kind = TYPE_OF.get(dtype.newbyteorder("="))
    if kind is None:
        return f"the dtype {dtype} is not one of the format's"
    if portable and kind not in PORTABLE:
        return f"MindSpore cannot load {dtype}; convert it, or save with portable=False"
    return None


def host(leaf: Leaf) -> np.ndarray:
    """``leaf`` as it is stored: a NumPy array, of rank 0 for a scalar or a text.

    On the CPU it shares the memory of the jax array.

    >>> host(7)
    array(7)
    """
    if isinstance(leaf, np.ndarray):
        return leaf
    if isinstance(leaf, jax.Array):
        leaf = jax.random.key_data(leaf) if is_key(leaf) else leaf
        leaf = sent([leaf])[0] if is_apart(leaf) else leaf
    return np.asarray(leaf)
