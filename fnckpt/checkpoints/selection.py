"""Which tensors of a file a call asks for: a part of the tree, patterns of names."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeVar

from fnckpt.checkpoints.differing import RESERVED
from fnckpt.errors import CheckpointMismatch

Patterns = str | Sequence[str] | None
"""Names, or patterns of names: ``*`` stands for any characters, ``?`` for one."""

Stored = TypeVar("Stored")

_MOST_NAMES = 10  # that an error lists


@dataclass(frozen=True)
class Selection:
    """What is asked for; without arguments everything.

    Attributes:
      part: the name of a branch, which becomes the whole tree.
      only: patterns; names that match none of them are left out. None takes all.
      skip: patterns; names that match one of them are left out.
    """

    part: str | None = None
    only: tuple[str, ...] | None = None
    skip: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Whether the leaf ``name`` of the part is asked for."""
        wanted = self.only is None or any(matches(name, each) for each in self.only)
        return wanted and not any(matches(name, each) for each in self.skip)

    def of(self, entries: Mapping[str, Stored], source: str) -> dict[str, Stored]:
        """The entries of the part, by their names in it, as far as they are asked for.

        Args:
          entries: what the file has, by name.
          source: what errors call the file.

        Raises:
          CheckpointMismatch: the file has no such part.
        """
        inner = entries if self.part is None else _inside(entries, self.part, source)
        return {name: entry for name, entry in inner.items() if self.takes(name)}

    def check(self, names: Collection[str], source: str) -> None:
        """Refuse patterns that match none of ``names``: they are misspelled.

        Raises:
          CheckpointMismatch: naming them, with the closest names.
        """
        given = [("only", each) for each in self.only or ()]
        given += [("skip", each) for each in self.skip]
        faults = [
            f"  {argument}: no name matches {pattern!r}{_instead(pattern, names)}"
            for argument, pattern in given
            if not any(matches(name, pattern) for name in names)
        ]
        if faults:
            told = f"{source}: patterns match whole names, or branches of them:"
            raise CheckpointMismatch("\n".join([told, *faults]))


def matches(name: str, pattern: str) -> bool:
    """Whether ``pattern`` matches ``name`` or a branch in which it lies.

    >>> matches("params.Dense_0.kernel", "params"), matches("params.Dense_0.kernel", "*.kernel")
    (True, True)
    >>> matches("params.Dense_0.kernel", "param")
    False
    """
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def selection(part: str | None, only: Patterns, skip: Patterns) -> Selection:
    """The arguments of a call as a value.

    Raises:
      TypeError, ValueError: naming the argument.
    """
    if part is not None and not isinstance(part, str):
        raise TypeError(f"part: must be a name or None, got {part!r}")
    if part is not None and not part.strip("."):
        raise ValueError(f"part: must be a name, got {part!r}; None is the whole tree")
    chosen = None if only is None else _patterns("only", only)
    if chosen == ():
        raise ValueError("only: must have at least one pattern; None means all")
    return Selection(part and part.strip("."), chosen, _patterns("skip", skip or ()))


def _patterns(argument: str, given: str | Sequence[str]) -> tuple[str, ...]:
    patterns = (given,) if isinstance(given, str) else tuple(given)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"{argument}: must be patterns of names, got {pattern!r}")
    return patterns


def _inside(entries: Mapping[str, Stored], part: str, source: str) -> dict[str, Stored]:
    """The entries below ``part``, without it in their names; a leaf of that name is ``""``."""
    found = {
        name[len(part) + 1 :]: entry
        for name, entry in entries.items()
        if name == part or name.startswith(f"{part}.")
    }
    if not found:
        raise CheckpointMismatch(
            f"{source}: part: the file has no {part!r}{_instead(part, entries, _branches)}"
        )
    return found


def _branches(names: Collection[str]) -> list[str]:
    """The names of all branches and leaves, the outermost first.

    >>> _branches(["a.b.c", "a.d"])
    ['a', 'a.b', 'a.d', 'a.b.c']
    """
    parts = [name.split(".") for name in names]
    found = {".".join(each[:depth]) for each in parts for depth in range(1, len(each) + 1)}
    return sorted(found, key=lambda name: (name.count("."), name))


def _instead(
    name: str, names: Collection[str], listed: Callable[[Collection[str]], list[str]] = sorted
) -> str:
    """What an error adds: the closest names of the state, or the first."""
    own = [each for each in names if each and not each.startswith(RESERVED)]
    if not own and "" in names:
        return "; its state is one array, which has no name"
    known = listed(own)
    close = get_close_matches(name, known[:1000], n=3)
    if close:
        return f"; close: {', '.join(close)}"
    more = ", ..." if len(known) > _MOST_NAMES else ""
    return f"; it has {', '.join(known[:_MOST_NAMES])}{more}" if known else ""
