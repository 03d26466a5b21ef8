"""The open sizes of a file's inputs as symbols of JAX."""

import re
from collections.abc import Mapping, Sequence

import jax.export

from fnckpt.ir.sizes import is_symbolic

Dimension = int | str | None
"""A size, the text of one that is open; None, a negative number or a mere sign: unknown."""

LARGE = r"\^.*\^|\^\s*\w{2,}|\*\*|\d{16,}"  # powers that JAX would compute


def shapes_of(texts: Mapping[str, Sequence[Dimension] | None]) -> dict[str, tuple[int, ...] | None]:
    """The shape of each input; what JAX cannot read as a size is a symbol of its own.

    >>> shapes_of({"x": ("batch", 3), "y": ("2*batch", None), "z": None})
    {'x': (batch, 3), 'y': (2*batch, y_1), 'z': None}
    >>> shapes_of({"x": (-1, "?", "?")})
    {'x': (x_0, x_1, x_2)}
    """
    scope = jax.export.SymbolicScope()
    found: dict[str, tuple[int, ...] | None] = {}
    for name, sizes in texts.items():
        if sizes is None:
            found[name] = None
            continue
        word = re.sub(r"\W+", "_", name).strip("_") or "input"
        own = [f"{word if not word[0].isdigit() else '_' + word}_{i}" for i in range(len(sizes))]
        pairs = zip(sizes, own, strict=True)
        found[name] = tuple(_size(size, fresh, scope) for size, fresh in pairs)
    return found


def _size(size: Dimension, fresh: str, scope: jax.export.SymbolicScope) -> int:
    if isinstance(size, int) and size >= 0:
        return size
    named = isinstance(size, str) and any(map(str.isalnum, size))
    text = str(size) if named and not re.search(LARGE, str(size)) else fresh
    if not re.fullmatch(r"[\w\s*+\-(),^]{1,200}", text) or text.isdecimal():
        text = re.sub(r"\W+", "_", text)[:60]
    try:
        return _symbol(text, scope)
    except (ValueError, SyntaxError):
        return _symbol(fresh, scope)


def _symbol(text: str, scope: jax.export.SymbolicScope) -> int:
    (found,) = jax.export.symbolic_shape(text, scope=scope)
    assert isinstance(found, int) or is_symbolic(found)
    if not is_symbolic(found) and found < 0:
        raise ValueError(f"{text} is {found}")
    return found
