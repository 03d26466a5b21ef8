"""Where the trees lie in a directory of Orbax: of a tree, of a step, or of a manager."""

from pathlib import Path

from fnckpt.errors import FormatError
from fnckpt.visible import visible

_TREE = "_METADATA"  # is in the directory of each tree
_MARKS = (_TREE, "_CHECKPOINT_METADATA")  # one is in each directory that Orbax has finished
_OLD_TREE = "checkpoint"  # before Orbax wrote metadata
_MOST_NAMES = 5
_MOST_LEVELS = 3  # a manager's directory, a step, a tree
_OURS = {"state", "train"}  # what a step of ``train`` holds


def is_tree(path: Path) -> bool:
    """Whether ``path`` is the directory of one tree."""
    return (path / _TREE).is_file() or (path / _OLD_TREE).is_file()


def is_orbax(path: Path) -> bool:
    """Whether Orbax wrote the directory ``path``: a tree, a step, or a manager's steps."""
    return any((path / mark).is_file() for mark in _MARKS) or bool(_inside(path))


def tree_of(path: Path) -> Path:
    """The directory of the tree that ``path`` holds; of a step that ``train`` saved, the state.

    Raises:
      FormatError: Orbax did not write it, or it holds several trees or steps, which are named.
    """
    for _ in range(_MOST_LEVELS):
        inside = [] if is_tree(path) else _inside(path)
        names = {each.name for each in inside}
        if len(inside) != 1 and names != _OURS:
            break
        path = path / ("state" if names == _OURS else inside[0].name)
    if is_tree(path):
        return path
    if inside := _inside(path):
        some = [visible(each.name) for each in inside]
        shown = ", ".join(some[:_MOST_NAMES]) + (", ..." if len(some) > _MOST_NAMES else "")
        raise FormatError(
            f"{path}: an Orbax directory with several steps or trees: {shown}; "
            f"give one of them, such as {path / inside[-1].name}"
        )
    raise FormatError(f"{path}: not an Orbax PyTree checkpoint")


def step_path(directory: Path, step: int) -> Path:
    """Where a manager of ``directory`` keeps ``step``, whatever it puts before the number."""
    plain = directory / str(step)
    if plain.is_dir() or not directory.is_dir():
        return plain
    return next((each for each in _inside(directory) if _number(each.name) == step), plain)


def _inside(path: Path) -> list[Path]:
    """The directories in ``path`` that Orbax has finished, in the order of their numbers."""
    found = [each for each in path.iterdir() if any((each / mark).is_file() for mark in _MARKS)]
    return sorted(found, key=lambda each: (_number(each.name), each.name))


def _number(name: str) -> int:
    """The number at the end of ``name``; -1 where there is none."""
    digits = name[len(name.rstrip("0123456789")) :]
    return int(digits) if digits.isascii() and digits else -1
