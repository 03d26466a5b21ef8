"""How a file and a tree differ, in numbers and in words."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

from fnckpt.checkpoints.formats.ckpt_index import Found
from fnckpt.checkpoints.restoring import Wanted
from fnckpt.visible import visible

MOST_TOLD = 10  # differences in a message
RESERVED = "fnckpt."  # begins the names of what train saves beside the state; no tree misses it

_MOST_GUESSES = 10_000  # pairs of names compared to suggest close ones, at 20 µs each

Expected = Sequence[tuple[str, Wanted]]


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
        return len(self) > 0

    def __len__(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.unlike)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """One for each leaf that differs."""
        lines = [f"  {name}: {text}" for name, text in self.unlike.items()]
        for name, close in self.missing.items():
            hint = f"; close: {', '.join(map(visible, close))}" if close else ""
            lines.append(f"  {name}: missing in the file{hint}")
        lines.extend(f"  {visible(name)}: in the file, not in the tree" for name in self.extra)
        return lines


def between(entries: Mapping[str, Found], expected: Expected) -> Differences:
    """How what a file has differs from what a tree expects."""
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


def told(
    path: str | os.PathLike[str],
    found: Differences,
    ways_out: Sequence[str] = (),
    *,
    tree: str = "tree",
) -> str:
    """A message: how many leaves differ, the first of them, and the ways out."""
    count = "1 leaf differs" if len(found) == 1 else f"{len(found)} leaves differ"
    lines = found.lines()
    rest = len(lines) - MOST_TOLD
    more = [f"  and {rest} more; fnckpt.differences lists all"] if rest > 0 else []
    title = f"{os.fspath(path)}: the checkpoint does not fit the {tree}, {count}:"
    return "\n".join([title, *lines[:MOST_TOLD], *more, *ways_out])


def ways_out(
    path: str | os.PathLike[str],
    entries: Mapping[str, Found],
    expected: Expected,
    found: Differences,
) -> list[str]:
    """How to load just what fits: a part of the file, or into a part of the tree."""
    call = f"fnckpt.load_checkpoint({os.fspath(path)!r}, "
    around = _part_around(entries, expected)
    inside = None if around else _branch_like(entries, expected)
    whole = None if around or inside else _branch_that_fits(expected, found)
    ways = []
    if around:
        ways.append(f"The file has this tree in a part: {call}like, part={around!r})")
    if inside:
        ways.append(f"The file has the part {inside!r} of the tree alone: give that part as like")
    if whole:
        ways.append(f"The part {whole!r} fits: {call}like=<that part>, part={whole!r})")
    return [*ways, "strict=False loads what fits and keeps the rest of the tree."]


def _part_around(entries: Mapping[str, Found], expected: Expected) -> str | None:
    """The branch of the file that has all that is expected: a model in a training's state."""
    if not expected:
        return None
    first = f".{expected[0][0]}"
    parts = (name.removesuffix(first) for name in entries if name.endswith(first))
    return next((part for part in islice(parts, 100) if _has(entries, part, expected)), None)


def _has(entries: Mapping[str, Found], part: str, expected: Expected) -> bool:
    for name, target in expected:
        stored = entries.get(f"{part}.{name}")
        if stored is None or not target.accepts(stored.dtype, stored.shape):
            return False
    return True


def _branch_like(entries: Mapping[str, Found], expected: Expected) -> str | None:
    """The branch of the tree that is all that the file has: a model alone in the file."""
    held = {name for name in entries if not name.startswith(RESERVED)}
    for branch in dict.fromkeys(name.partition(".")[0] for name, _ in expected):
        inner = {n.removeprefix(f"{branch}.") for n, _ in expected if n.startswith(f"{branch}.")}
        if inner and inner == held:
            return branch
    return None


def _branch_that_fits(expected: Expected, found: Differences) -> str | None:
    """The outermost branch of the tree with the most leaves of which none differs."""
    sizes: dict[str, int] = {}
    for name, _ in expected:
        branch, dot, _ = name.partition(".")
        if dot:
            sizes[branch] = sizes.get(branch, 0) + 1
    faulty = {n.partition(".")[0] for n in (*found.missing, *found.unlike, *found.extra)}
    whole = {branch: size for branch, size in sizes.items() if branch not in faulty}
    return max(whole, key=lambda branch: (branch == "params", whole[branch]), default=None)
