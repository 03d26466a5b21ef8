"""The layers that a method of the user's calls, for the nodes of it that use no weights.

NNX and Equinox name no modules, and ``x + y`` uses no weights. But the line that computes it stands
in the method that calls the layers of its block: what these have in common is the block.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fnckpt.ir.graph import CNode

Module = tuple[str, ...]
"""The path of a module; a part is a name, with the position behind it where it is a list."""

# As ``lowering.source.user_line`` tells it; a method's name has its class in front.
_LINE = re.compile(r"(?P<file>.*?):(?P<line>\d+) in (?P<method>[^:]*\.[^:]*): .*", re.DOTALL)


@dataclass
class Call:
    """One call of a method.

    Attributes:
      line: the last one so far that uses weights.
      used: the modules of the nodes that use weights, by the node's id.
      others: the nodes that use none.
      open: those of ``line``, of which the next call may have the last ones.
    """

    line: int
    used: dict[int, Module] = field(default_factory=dict)
    others: list[CNode] = field(default_factory=list)
    open: list[CNode] = field(default_factory=list)

    def goes_on(self, line: int, layer: Module) -> bool:
        """Whether it may use ``layer`` next: nothing above, nor the same layer of another block."""
        alike = (_unnumbered(each) == _unnumbered(layer) for each in self.used.values())
        return line >= self.line and (layer in self.used.values() or not any(alike))

    def use(self, node: CNode, line: int, layer: Module) -> None:
        self.others += self.open
        self.line, self.open = line, []
        self.used[id(node)] = layer

    def end(self) -> None:
        """Keep of its last line what goes as far as a node that uses a layer's result."""
        near = [any(id(each) in self.used for each in node.inputs) for node in self.open]
        self.others += self.open[: len(near) - near[::-1].index(True)] if any(near) else []


def _unnumbered(module: Module) -> Module:
    return tuple(re.sub(r"\d+", "", part) for part in module)


def layers_beside(nodes: Iterable[CNode], own: Mapping[int, Module]) -> dict[int, list[Module]]:
    """For nodes that are not in ``own``, the modules that their call of a method uses.

    Args:
      nodes: in the order of the program.
      own: the modules of the nodes that use weights.
    """
    done: list[Call] = []
    calls: dict[str, Call] = {}
    waiting: dict[str, list[CNode]] = {}  # of a call that has used no weights yet
    for node in nodes:
        place = _LINE.fullmatch(node.origin.line())
        if place is None:
            continue
        method, line = f"{place['file']} {place['method']}", int(place["line"])
        call, layer = calls.get(method), own.get(id(node))
        if layer is not None:
            if call is None or method in waiting or not call.goes_on(line, layer):
                call = calls[method] = Call(line, others=waiting.pop(method, []))
                done.append(call)
            call.use(node, line, layer)
        elif call is None or line < call.line:
            waiting.setdefault(method, []).append(node)
        else:
            (call.open if line == call.line else call.others).append(node)
    for call in done:
        call.end()
    return {id(node): [*call.used.values()] for call in done for node in call.others}
