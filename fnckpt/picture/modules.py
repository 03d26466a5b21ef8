"""The modules of a graph as a tree: from the paths in the names of its nodes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from fnckpt.picture.boxes import Box, shown

MOST_DEPTH = 24  # of modules in modules; what lies deeper is drawn in the last
CROWDED, CROWDED_FLAT = 60, 1000  # boxes in a module with modules, and without
SHORTEST_RUN, LONGEST_RUN = 8, 250  # operators of a crowded module that become one box


@dataclass(eq=False)
class Leaf:
    """An operator, input or output: the values it ``takes`` and ``gives``, its modules' names.

    ``number`` is its place in the file.
    """

    box: Box
    number: int
    path: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()


@dataclass(eq=False)
class Module:
    """What lies in a module, in the order of its first operators."""

    name: str
    members: "list[Leaf | Module]" = field(default_factory=list)

    def leaves(self) -> Iterator[Leaf]:
        """All that lies in it at any depth."""
        for member in self.members:
            if isinstance(member, Leaf):
                yield member
            else:
                yield from member.leaves()


def path_of(name: str, separator: str = "/") -> tuple[str, ...]:
    """The modules in a node's name, the outermost first, without the node's own part.

    A place in a list is no module of its own.

    >>> path_of("net/block_0/Relu"), path_of("net/blocks/0/conv/Conv")
    (('net', 'block_0'), ('net', 'blocks/0', 'conv'))
    """
    path: list[str] = []
    for part in name.split(separator, MOST_DEPTH)[:-1]:
        if part.isdecimal() and path:
            path[-1] += f"{separator}{part}"
        else:
            path.append(part)
    return tuple(path)


def tree(leaves: Sequence[Leaf]) -> Module:
    """All leaves in their modules, under one that has no name.

    A module around all is left out; one with a single operator is that operator; one that
    holds only a module is one with it; the operators of a crowded one are gathered.
    """
    root = Module("")
    modules: dict[tuple[str, ...], Module] = {(): root}
    for leaf in leaves:
        side = leaf.box.kind if _is_end(leaf) else ""  # an input's path is no module's
        _module(modules, side, leaf.path).members.append(leaf)
    return Module("", _gathered(_opened([_joined(member) for member in root.members])))


def _module(modules: dict[tuple[str, ...], Module], side: str, path: tuple[str, ...]) -> Module:
    module = modules[()]
    for depth, name in enumerate(path, 1):
        key = (side, *path[:depth])
        if key not in modules:
            modules[key] = Module(name)
            module.members.append(modules[key])
        module = modules[key]
    return module


def _is_end(member: Leaf | Module) -> bool:
    """Whether it is an input or output of the graph, or a box of some."""
    leaf = member if isinstance(member, Leaf) else next(member.leaves())
    return leaf.box.kind in ("input", "output")


def _opened(members: list[Leaf | Module]) -> list[Leaf | Module]:
    """Without a module around all, or around all others."""
    while True:
        modules = [m for m in members if isinstance(m, Module) and not _is_end(m)]
        if len(modules) != 1:
            return members
        only = modules[0]
        alone = all(m is only or _is_end(m) for m in members)
        if not alone and not any(isinstance(inner, Module) for inner in only.members):
            return members
        at = members.index(only)
        members = [*members[:at], *only.members, *members[at + 1 :]]


def _joined(member: Leaf | Module) -> Leaf | Module:
    if isinstance(member, Leaf):
        return member
    members = [_joined(each) for each in member.members]
    if len(members) > 1:
        return Module(member.name, _gathered(members))
    only = members[0]
    if isinstance(only, Module):
        return Module(f"{member.name}/{only.name}", only.members)
    if not _is_end(only):
        only.box = replace(only.box, label=f"{shown(member.name, 24)}: {shown(only.box.op, 24)}")
    return only


def _gathered(members: list[Leaf | Module]) -> list[Leaf | Module]:
    """In a crowded module, operators that follow each other in the file become one box."""
    modules = sum(isinstance(each, Module) for each in members)
    if len(members) <= (CROWDED if modules else CROWDED_FLAT):
        return members
    runs: list[list[Leaf | Module]] = []
    for member in members:
        if runs and _follows(runs[-1], member):
            runs[-1].append(member)
        else:
            runs.append([member])
    kept = [[Module("operators", run)] if len(run) >= SHORTEST_RUN else run for run in runs]
    return [member for run in kept for member in run]


def _follows(run: Sequence[Leaf | Module], member: Leaf | Module) -> bool:
    """Whether nothing lies between them: then a box of them is in no cycle that they are not."""
    last = run[-1]
    if not isinstance(last, Leaf) or not isinstance(member, Leaf) or len(run) == LONGEST_RUN:
        return False
    return member.number == last.number + 1 and not (_is_end(last) or _is_end(member))
