"""A pytree as named leaves in a ``.ckpt`` file, and back."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, overload

import jax
import numpy as np

from fnckpt.checkpoints.formats import ckpt
from fnckpt.checkpoints.formats.ckpt_index import Found
from fnckpt.checkpoints.garbage_collection import uncollected
from fnckpt.checkpoints.leaf_names import leaves
from fnckpt.checkpoints.named_arrays import Arrays
from fnckpt.checkpoints.restoring import Wanted, wanted
from fnckpt.checkpoints.storable import check_leaves, host
from fnckpt.errors import CheckpointMismatch
from fnckpt.files import replacing
from fnckpt.visible import visible

_MOST_GUESSES = 10_000  # pairs of names compared to suggest close ones, at 20 µs each

RESERVED = "fnckpt."  # begins the names of what train saves beside the state; no tree misses it

Tree = TypeVar("Tree")


# ----------------------------------------------------------------------------------------- saving


def save_checkpoint(
    tree: object,
    path: str | os.PathLike[str],
    *,
    crc: bool = False,
    portable: bool = True,
    enc_key: bytes | None = None,
) -> Path:
    """Write the leaves of ``tree`` to the ``.ckpt`` file ``path``, which is whole or as it was.

    Arrays are written straight from their memory, one after the other. A Python bool, int or
    float becomes a tensor of rank 0 (Bool, Int64, Float64); a PRNG key array its ``key_data``
    (UInt32), which ``load_checkpoint(like=...)`` makes a key again; None takes no room.

    Args:
      tree: any pytree of jax or NumPy arrays, Python scalars and texts.
      path: the file; MindSpore loads only names that end in ``.ckpt``. Its directory exists.
      crc: end the file with MindSpore's CRC-32, which loading verifies.
      portable: refuse what the real ``mindspore.load_checkpoint`` cannot read: complex, float8,
        int4 and the like. False writes them for fnckpt alone; MindSpore refuses such a file.
      enc_key: encrypt as MindSpore does in mode AES-GCM, with these 16, 24 or 32 bytes. Needs
        ``fnckpt[crypto]``. Authenticates the content, so ``crc`` is not needed, nor possible.

    Returns:
      ``path``.

    Raises:
      TypeError: leaves that no ``.ckpt`` holds, all of them named; also global arrays of which
        this process sees only a part.
      ValueError: leaves share a name; there is no leaf; ``crc`` with ``enc_key``.
      OSError: the file cannot be written.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     path = save_checkpoint({"w": np.ones((2, 3)), "step": 7}, f"{directory}/a.ckpt")
      ...     load_checkpoint(path, like={"w": np.zeros((2, 3)), "step": 0})["step"]
      7
    """
    path = Path(path)
    named = leaves(tree)
    if not named:
        raise ValueError(f"{path}: the tree has no leaf; MindSpore refuses an empty checkpoint")
    check_leaves(named, where=str(path), portable=portable)
    return write_leaves(
        ((name, host(leaf)) for name, leaf in named), path, crc=crc, enc_key=enc_key
    )


def write_leaves(
    named: Iterable[tuple[str, np.ndarray]],
    path: Path,
    *,
    crc: bool = False,
    enc_key: bytes | None = None,
) -> Path:
    """Write checked host arrays (``check_leaves``, ``host``) to ``path``, whole or not at all."""
    if crc and enc_key is not None:
        raise ValueError(
            f"{path}: MindSpore reads no CRC after an encrypted content; leave out crc"
        )
    with replacing(path) as file:
        if enc_key is None:
            ckpt.write(file, named, crc=crc)
        else:
            from fnckpt.checkpoints.formats.encryption import Encrypting

            encrypting = Encrypting(file, enc_key)
            ckpt.write(encrypting, named)
            encrypting.close()
    return path


# ---------------------------------------------------------------------------------------- loading


@dataclass(frozen=True)
class Differences:
    """How a checkpoint and a tree differ; false when they do not.

    Attributes:
      missing: names of the tree that the file lacks, each with the closest names of the file.
      extra: names of the file that the tree lacks.
      unlike: name -> what is expected and what was found, where shape or dtype differ.
    """

    missing: dict[str, list[str]]
    extra: list[str]
    unlike: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.unlike)

    def __str__(self) -> str:
        lines = [f"  {name}: {text}" for name, text in self.unlike.items()]
        for name, close in self.missing.items():
            hint = f"; close: {', '.join(map(visible, close))}" if close else ""
            lines.append(f"  {name}: missing in the file{hint}")
        lines.extend(f"  {visible(name)}: in the file, not in the tree" for name in self.extra)
        return "\n".join(lines)


@overload
def load_checkpoint(
    path: str | os.PathLike[str],
    like: Tree,
    *,
    strict: bool = ...,
    mmap: bool = ...,
    verify: bool = ...,
    dec_key: bytes | None = ...,
) -> Tree: ...


@overload
def load_checkpoint(
    path: str | os.PathLike[str],
    like: None = None,
    *,
    strict: bool = ...,
    mmap: bool = ...,
    verify: bool = ...,
    dec_key: bytes | None = ...,
) -> Arrays: ...


def load_checkpoint(
    path: str | os.PathLike[str],
    like: Tree | None = None,
    *,
    strict: bool = True,
    mmap: bool = False,
    verify: bool = True,
    dec_key: bytes | None = None,
) -> Tree | Arrays:
    """The tensors of the ``.ckpt`` file ``path``, as written by ``save_checkpoint`` or MindSpore.

    Args:
      path: the file.
      like: None, or a pytree that says what is expected. Each leaf comes back as its kind: a jax
        array (or ``jax.ShapeDtypeStruct``) with its sharding and weak type, a PRNG key array, a
        NumPy array, a Python scalar or text. Names, shapes and dtypes must agree.
      strict: raise on any difference. False loads what fits, keeps the leaves of ``like`` where
        nothing does, and tells the differences in a UserWarning; ``differences`` returns them.
      mmap: NumPy leaves are read-only views of the file, fetched when they are looked at; the
        file must not be truncated in place while they live, by anybody: to look at what is gone
        ends the process (SIGBUS), and what is overwritten changes in the arrays. Without it all
        is read. Texts are read at once, and tensors over 512 MiB of files that MindSpore wrote.
      verify: compare the CRC-32 where the file has one (with ``mmap`` that reads the whole file).
      dec_key: of a file that is encrypted in mode AES-GCM; it is decrypted into memory.

    Returns:
      Without ``like`` a dict, name -> NumPy array, in the file's order, that prints itself as a
      table and in a notebook as a tree; a text is an array of rank 0 and dtype ``U``. Otherwise a
      pytree of the structure of ``like``.

    Raises:
      FormatError: the file is damaged or no ``.ckpt``; names the byte and the tensor.
      CheckpointMismatch: it does not fit ``like``; names every leaf.
      OSError: it cannot be read.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     path = save_checkpoint({"params": {"w": np.ones(2)}}, f"{directory}/a.ckpt")
      ...     load_checkpoint(path)
      1 array, 16 bytes
        params.w  float64[2]  16 bytes  norm 1.414
    """
    with ckpt.opened(path, verify=verify, key=dec_key, mapped=mmap) as file:
        read = file.view if mmap else file.array
        if like is None:
            return Arrays({name: read(entry) for name, entry in file.entries.items()})
        expected = _expected(like)
        found = _differences(file.entries, expected)
        if found and strict:
            raise CheckpointMismatch(_told(path, found, "load with strict=False to keep the rest"))
        if found:
            warnings.warn(_told(path, found, "the rest was loaded"), UserWarning, stacklevel=2)
        restored = _restored(path, file.entries, expected, found, read)
        return jax.tree.unflatten(jax.tree.structure(like), restored)


def differences(path: str | os.PathLike[str], like: object) -> Differences:
    """How the file ``path`` differs from the pytree ``like``; only headers are read."""
    expected = _expected(like)
    with ckpt.opened(path, verify=False, mapped=False) as file:
        return _differences(file.entries, expected)


def _expected(like: Any) -> list[tuple[str, Wanted]]:
    with uncollected():
        return [(name, wanted(leaf, name)) for name, leaf in leaves(like)]


def _restored(
    path: str | os.PathLike[str],
    entries: dict[str, Found],
    expected: list[tuple[str, Wanted]],
    found: Differences,
    read: Callable[[Found], np.ndarray],
) -> Iterator[Any]:
    for name, target in expected:
        if name in found.missing or name in found.unlike:
            yield target.like
            continue
        stored = read(entries[name])
        try:
            yield target.restore(stored)
        except OverflowError:
            raise CheckpointMismatch(
                f"{os.fspath(path)}: {name}: expected {target}, {stored} does not fit in it"
            ) from None


def _differences(entries: dict[str, Found], expected: list[tuple[str, Wanted]]) -> Differences:
    names = {name for name, _ in expected}
    extra = [n for n in entries if n not in names and not n.startswith(RESERVED)]
    absent = [name for name, _ in expected if name not in entries]
    guesses = extra if len(absent) * len(extra) <= _MOST_GUESSES else []
    missing = {name: get_close_matches(name, guesses, n=3) for name in absent}
    unlike = {
        name: f"expected {target}, found {entries[name].dtype} {entries[name].shape}"
        for name, target in expected
        if name in entries and not target.accepts(entries[name].dtype, entries[name].shape)
    }
    return Differences(missing, extra, unlike)


def _told(path: str | os.PathLike[str], found: Differences, remedy: str) -> str:
    return f"{os.fspath(path)}: the checkpoint does not fit the tree; {remedy}:\n{found}"
