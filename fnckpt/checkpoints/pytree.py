"""A pytree as named leaves in a ``.ckpt`` file, and back."""

import errno
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar, overload

import jax
import numpy as np

from fnckpt.checkpoints import differing
from fnckpt.checkpoints.differing import RESERVED, Differences
from fnckpt.checkpoints.formats import ckpt, npz, safetensors
from fnckpt.checkpoints.formats.ckpt_index import Found
from fnckpt.checkpoints.formats.orbax_layout import is_orbax
from fnckpt.checkpoints.garbage_collection import uncollected
from fnckpt.checkpoints.leaf_names import leaves
from fnckpt.checkpoints.named_arrays import Arrays
from fnckpt.checkpoints.restoring import Wanted, is_key, wanted
from fnckpt.checkpoints.selection import Patterns, Selection, selection
from fnckpt.checkpoints.storable import check_leaves, host
from fnckpt.errors import CheckpointMismatch
from fnckpt.extras import require
from fnckpt.files import opened_regular, replacing

__all__ = ["RESERVED", "Differences", "differences", "load_checkpoint", "save_checkpoint"]

SAFETENSORS, NPZ = ".safetensors", ".npz"

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
    """Write the leaves of ``tree`` to the file ``path``. After an error, an old file is unchanged.

    Arrays are written directly from their memory, one after the other. A Python bool, int or
    float becomes a tensor of rank 0 (Bool, Int64, Float64). A PRNG key array becomes its
    ``key_data`` (UInt32), and ``load_checkpoint(like=...)`` makes it a key again. None is not
    stored.

    Args:
      tree: any pytree of jax or NumPy arrays, Python scalars and texts.
      path: the file. The suffix ``.safetensors`` selects that format, any other is a ``.ckpt``
        (MindSpore loads only files with this suffix), but ``.npz``, which ``convert`` writes. Its
        directory exists.
      crc: end the file with MindSpore's CRC-32, which loading verifies.
      portable: refuse what the real ``mindspore.load_checkpoint`` cannot read: complex, float8,
        int4 and the like. False writes them for fnckpt alone; MindSpore refuses such a file.
      enc_key: encrypt as MindSpore does in mode AES-GCM, with these 16, 24 or 32 bytes. Needs
        ``fnckpt[crypto]``. Authenticates the content, so ``crc`` is not needed, nor possible.

    Returns:
      ``path``.

    Raises:
      TypeError: leaves that a ``.ckpt`` cannot hold, all of them named; also global arrays of
        which this process has only a part.
      ValueError: leaves share a name; there is no leaf; ``crc`` with ``enc_key``; one of them for
        ``.safetensors``; the suffix is ``.npz``.
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
    suffix = path.suffix.lower()
    if suffix == NPZ:  # it would be read as one
        raise ValueError(
            f"{path}: a checkpoint is a .ckpt or a .safetensors file; save one of these, and "
            f"write the {NPZ} with fnckpt.convert, or with numpy.savez"
        )
    check_leaves(named, where=str(path), portable=portable)
    if suffix == SAFETENSORS:
        if crc or enc_key is not None:
            raise ValueError(
                f"{path}: the format {SAFETENSORS} has no CRC and no encryption; leave out "
                f"{'crc' if crc else 'enc_key'}"
            )
        return _write_safetensors(named, path)
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
            f"{path}: MindSpore cannot read a CRC after encrypted content; leave out crc"
        )
    with replacing(path) as file:
        if enc_key is None:
            ckpt.write(file, named, crc=crc)
        else:
            require("cryptography", "an encrypted checkpoint")
            from fnckpt.checkpoints.formats.encryption import Encrypting

            encrypting = Encrypting(file, enc_key)
            ckpt.write(encrypting, named)
            encrypting.close()
    return path


def check_safetensors(named: Iterable[tuple[str, Any]], where: str) -> None:
    """Refuse checked leaves that ``.safetensors`` cannot hold; nothing is copied from a device.

    Raises:
      TypeError: naming all of them.
    """
    faults = [
        f"  {name}: the format has no {leaf.dtype}"
        for name, leaf in named
        if isinstance(leaf, jax.Array | np.ndarray | np.generic)
        and not (isinstance(leaf, jax.Array) and is_key(leaf))
        and not safetensors.has(np.dtype(leaf.dtype))
    ]
    if faults:
        told = f"{where}: leaves that {SAFETENSORS} cannot hold; convert them, or use .ckpt:"
        raise TypeError("\n".join([told, *faults]))


def _write_safetensors(named: list[tuple[str, Any]], path: Path) -> Path:
    check_safetensors(named, str(path))
    arrays = ((name, host(leaf)) for name, leaf in named)
    native = {
        name: a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("=")) for name, a in arrays
    }
    safetensors.write(native, path)
    return path


# ---------------------------------------------------------------------------------------- loading


@overload
def load_checkpoint(
    path: str | os.PathLike[str],
    like: Tree,
    *,
    part: str | None = ...,
    only: Patterns = ...,
    skip: Patterns = ...,
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
    part: str | None = ...,
    only: Patterns = ...,
    skip: Patterns = ...,
    strict: bool = ...,
    mmap: bool = ...,
    verify: bool = ...,
    dec_key: bytes | None = ...,
) -> Arrays: ...


def load_checkpoint(
    path: str | os.PathLike[str],
    like: Tree | None = None,
    *,
    part: str | None = None,
    only: Patterns = None,
    skip: Patterns = None,
    strict: bool = True,
    mmap: bool = False,
    verify: bool = True,
    dec_key: bytes | None = None,
) -> Tree | Arrays:
    """The tensors of the file ``path``, as written by ``save_checkpoint``, ``train`` or MindSpore.

    Args:
      path: a ``.ckpt``, ``.safetensors`` or ``.npz`` file, or the directory of a step or a tree of
        Orbax.
      like: None, or a pytree that says what is expected. Each leaf comes back as its kind: a jax
        array (or ``jax.ShapeDtypeStruct``) with its sharding and weak type, a PRNG key array, a
        NumPy array, a Python scalar or text. Names, shapes and dtypes must agree.
      part: the name of a branch, such as ``"params"``: it is loaded as if it were the whole file.
        ``like`` is then the part, and the names that come back are those within it.
      only: a name or pattern, or several: nothing else is read, and where ``like`` has other leaves
        they come back as they are. ``*`` stands for any characters, ``?`` for one; a pattern
        that matches a branch takes all of it.
      skip: the same for what is left out.
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
      FormatError: the file is damaged or of another format; names the byte and the tensor.
      CheckpointMismatch: it does not fit ``like``: says how many leaves differ, the first ten, and
        how to load what fits (``differences`` returns all). It has no such part; a pattern
        matches nothing.
      OSError: it cannot be read; it is a directory that Orbax did not write.

    Examples:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     tree = {"params": {"w": np.ones(2)}, "step": 7}
      ...     path = save_checkpoint(tree, f"{directory}/a.ckpt")
      ...     load_checkpoint(path, part="params")
      1 array, 16 bytes
        w  float64[2]  16 bytes  norm 1.414
    """
    chosen = selection(part, only, skip)
    with opened(path, verify=verify, key=dec_key, mapped=mmap) as file:
        read = file.view if mmap else file.array
        entries = _chosen(file.entries, chosen, like, os.fspath(path))
        if like is None:
            return Arrays({name: read(entry) for name, entry in entries.items()})
        expected = _expected(like)
        asked = [(name, target) for name, target in expected if chosen.takes(name)]
        found = differing.between(entries, asked)
        if found and strict:
            ways = differing.ways_out(path, entries, asked, found)
            raise CheckpointMismatch(differing.told(path, found, ways))
        if found:
            text = differing.told(path, found, ["The rest was loaded."])
            warnings.warn(text, UserWarning, stacklevel=2)
        loaded = {name for name, _ in asked} - found.missing.keys() - found.unlike.keys()
        restored = _restored(path, entries, expected, loaded, read)
        return jax.tree.unflatten(jax.tree.structure(like), restored)


def differences(path: str | os.PathLike[str], like: object) -> Differences:
    """How the file ``path`` differs from the pytree ``like``; only headers are read."""
    expected, path = _expected(like), Path(path)
    if path.is_dir() and is_orbax(path):
        from fnckpt.checkpoints.formats import orbax  # importing it takes seconds

        return differing.between(orbax.outlines(path), expected)
    with opened(path, verify=False, mapped=False) as file:
        return differing.between(file.entries, expected)


def opened(
    path: str | os.PathLike[str], *, verify: bool, mapped: bool, key: bytes | None = None
) -> AbstractContextManager[ckpt.Contents]:
    """The file ``path``, of any format, or the directory of Orbax, indexed."""
    path = Path(path)
    of_orbax = path.is_dir() and is_orbax(path)
    if path.is_dir() and not of_orbax:
        raise IsADirectoryError(errno.EISDIR, _told_of_directory(path))
    suffix = path.suffix.lower()
    read = _of_orbax if of_orbax else _reader(path, suffix)
    if read is None:
        return ckpt.opened(path, verify=verify, key=key, mapped=mapped)
    if key is not None:
        what = "an Orbax directory" if of_orbax else f"the format {suffix}"
        raise ValueError(f"{path}: {what} has no encryption; leave out dec_key")
    arrays = read(path)
    return nullcontext(ckpt.Contents({**arrays}, memoryview(b""), str(path), None, 0))


def _reader(path: Path, suffix: str) -> Callable[[Path], Mapping[str, np.ndarray]] | None:
    """What reads a file whole; None for a ``.ckpt``, whatever it is called."""
    if suffix == SAFETENSORS:
        return safetensors.read
    if suffix != NPZ:
        return None
    with opened_regular(path) as file:
        return npz.read if file.read(2) == b"PK" else None


def _of_orbax(path: Path) -> Mapping[str, np.ndarray]:
    from fnckpt.checkpoints.formats import orbax  # importing it takes seconds

    return orbax.read(path)


def _told_of_directory(path: Path) -> str:
    files = sorted(each.name for each in path.iterdir() if each.suffix in (".ckpt", SAFETENSORS))
    if files:
        some = f"checkpoints {files[0]}, ..." if len(files) > 1 else f"checkpoint {files[0]}"
        return (
            f"{path}: is a directory, with the {some}; give a file, "
            f"or fnckpt.latest_checkpoint({str(path)!r})"
        )
    return (
        f"{path}: is a directory, with no checkpoint file, and Orbax did not write it; give a file"
    )


def _chosen(
    held: Mapping[str, Found], chosen: Selection, like: object, source: str
) -> Mapping[str, Found]:
    """The entries that are asked for, by their names in the tree."""
    if chosen == Selection():
        return held
    inner = Selection(chosen.part).of(held, source)
    names = set(inner) if like is None else {*inner, *(name for name, _ in leaves(like))}
    chosen.check(names, source)
    return {name: entry for name, entry in inner.items() if chosen.takes(name)}


def _expected(like: Any) -> list[tuple[str, Wanted]]:
    with uncollected():
        return [(name, wanted(leaf, name)) for name, leaf in leaves(like)]


def _restored(
    path: str | os.PathLike[str],
    entries: Mapping[str, Found],
    expected: list[tuple[str, Wanted]],
    loaded: Collection[str],
    read: Callable[[Found], np.ndarray],
) -> Iterator[Any]:
    for name, target in expected:
        if name not in loaded:
            yield target.like
            continue
        stored = read(entries[name])
        try:
            yield target.restore(stored)
        except OverflowError:
            raise CheckpointMismatch(
                f"{os.fspath(path)}: {name}: expected {target}, {stored} does not fit in it"
            ) from None
