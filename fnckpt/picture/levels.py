"""The edges of every module: across it, and where values enter and leave it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fnckpt.ir.targets.target import Shape
from fnckpt.picture.boxes import Box, Drawing, Edge, lines, shown
from fnckpt.picture.modules import Leaf, Module


@dataclass(frozen=True)
class Port:
    """A value that enters (``entry``) or leaves (``exit``) a module."""

    value: str
    kind: str


Key = Leaf | Module | Port


@dataclass(eq=False)
class Level:
    """What is known of a module before it is drawn: its ports in order, and its edges."""

    module: Module
    entries: dict[str, int] = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)
    links: dict[tuple[Key, Key], dict[str, None]] = field(default_factory=dict)

    def link(self, start: Key, end: Key, value: str) -> None:
        """An edge; a port at its end becomes one of the module's."""
        for key in (start, end):
            if isinstance(key, Port):
                ports = self.entries if key.kind == "entry" else self.exits
                ports.setdefault(key.value, len(ports))
        self.links.setdefault((start, end), {})[value] = None

    def keys(self) -> list[Key]:
        """What is drawn, in the order of the boxes: entries, members, exits."""
        entries = [Port(value, "entry") for value in self.entries]
        return [*entries, *self.module.members, *(Port(value, "exit") for value in self.exits)]

    def entry(self, value: str) -> int:
        """The number of a value's box at the top."""
        return self.entries[value]

    def exit(self, value: str) -> int:
        """The number of a value's box at the bottom."""
        return len(self.entries) + len(self.module.members) + self.exits[value]


Levels = Mapping[Module, Level]


def levels_of(root: Module, leaves: Sequence[Leaf]) -> Levels:
    """A level for each module; the work is that of the values taken, times the depth."""
    chains = dict(_chains(root, ()))
    levels = {module: Level(module) for chain in chains.values() for module in chain}
    levels.setdefault(root, Level(root))
    made = {value: leaf for leaf in leaves for value in leaf.gives}
    for user in leaves:
        for value in user.takes:
            maker = made.get(value)
            if maker is not None and maker is not user:
                _link(levels, (*chains[maker], maker), (*chains[user], user), value)
    return levels


def _chains(module: Module, above: tuple[Module, ...]) -> Iterable[tuple[Leaf, tuple[Module, ...]]]:
    """Each leaf with the modules that it lies in, the outermost first."""
    for member in module.members:
        if isinstance(member, Leaf):
            yield member, (*above, module)
        else:
            yield from _chains(member, (*above, module))


def _link(
    levels: Levels, start: Sequence[Leaf | Module], end: Sequence[Leaf | Module], value: str
) -> None:
    """The way of a value: out of its maker's modules, across, and into its user's."""
    common = 0
    while start[common] is end[common]:
        common += 1
    for outer, inner in zip(start[common:-1], start[common + 1 :], strict=True):
        _level(levels, outer).link(inner, Port(value, "exit"), value)
    for outer, inner in zip(end[common:-1], end[common + 1 :], strict=True):
        _level(levels, outer).link(Port(value, "entry"), inner, value)
    _level(levels, start[common - 1]).link(start[common], end[common], value)


def _level(levels: Levels, module: Leaf | Module) -> Level:
    assert isinstance(module, Module)
    return levels[module]


def drawn(root: Module, levels: Levels, shapes: Mapping[str, Shape]) -> Drawing:
    """A module as a drawing, those inside it as drawings inside its boxes."""
    level = levels[root]
    keys = level.keys()
    numbers = {key: number for number, key in enumerate(keys)}
    edges = tuple(
        Edge(numbers[start], numbers[end], _ports(levels, start, end, values))
        for (start, end), values in level.links.items()
    )
    return Drawing(tuple(_box(key, levels, shapes) for key in keys), edges)


def _ports(
    levels: Levels, start: Key, end: Key, values: Iterable[str]
) -> tuple[tuple[int, int], ...]:
    """The ends of an edge inside the modules that it joins."""
    ends = (
        (
            levels[start].exit(value) if isinstance(start, Module) else -1,
            levels[end].entry(value) if isinstance(end, Module) else -1,
        )
        for value in values
    )
    return tuple(ends) if isinstance(start, Module) or isinstance(end, Module) else ()


def _box(key: Key, levels: Levels, shapes: Mapping[str, Shape]) -> Box:
    if isinstance(key, Leaf):
        return key.box
    if isinstance(key, Port):
        return Box(short(key.value), key.kind, lines(shaped(key.value, shapes)))
    inner = list(key.leaves())
    counts = Counter(leaf.box.op for leaf in inner if leaf.box.op).most_common()
    level = levels[key]
    hover = lines(
        key.name,
        *(f"{count} {op}" for op, count in counts),
        *(f"in: {shaped(value, shapes)}" for value in level.entries),
        *(f"out: {shaped(value, shapes)}" for value in level.exits),
    )
    label = f"{shown(key.name, 40)} ({len(inner)})"
    return Box(label, "module", hover, inside=drawn(key, levels, shapes))


def short(name: str) -> str:
    """The last part of a value's name."""
    return shown(name.rstrip("/").rsplit("/", 1)[-1] or name, 32)


def shaped(name: str, shapes: Mapping[str, Shape]) -> str:
    """A value's name with its sizes, where the file tells them.

    >>> shaped("x", {"x": (2, "n")})
    'x: [2,n]'
    """
    return f"{name}: [{','.join(map(str, shapes[name]))}]" if name in shapes else name
