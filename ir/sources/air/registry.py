"""The table of imports: what each operator type of GE becomes."""

from collections.abc import Callable
from dataclasses import dataclass

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.build import Builder
from fnckpt.ir.table import enters
from fnckpt.ir.targets.air.view import OpView

Given = Node | None | list[Node]
"""What stands at a port: a value, nothing, or the members of a dynamic one."""

Rule = Callable[..., Node | tuple[Node, ...]]

RULES: dict[str, Rule] = {}


@dataclass(frozen=True)
class Site:
    """The operator that a rule imports, with its attributes and their defaults."""

    build: Builder
    op: OpView

    @property
    def kind(self) -> str:
        """The type of the operator."""
        return self.op.type

    @property
    def channels_last(self) -> bool:
        """Whether the channels are the last axis."""
        return self.op.text("data_format").endswith("C")


def imports(*types: str) -> Callable[[Rule], Rule]:
    """Register the decorated function as what operators of ``types`` become.

    It gets a ``Site`` and what stands at each port of the prototype.
    """
    return enters(RULES, *types)
