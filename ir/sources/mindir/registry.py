"""The table of imports: what each primitive of MindSpore becomes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.build import Builder
from fnckpt.ir.table import enters
from fnckpt.ir.targets.mindir.primitives import form_of

Value = Any
"""A node, or one of Python's own values: a number, a text, None, or a tuple of values."""

Rule = Callable[..., Value]

RULES: dict[str, Rule] = {}

# Arguments of primitives that we never write, in the order of MindSpore's signatures.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "ExpandDims": ("axis",),
    "GroupNorm": (),
    "ResizeBilinearV2": ("size", "align_corners", "half_pixel_centers"),
    "ResizeNearestNeighborV2": ("size", "align_corners", "half_pixel_centers"),
    "Split": ("axis", "output_num"),
    "Squeeze": ("axis",),
    "SumExt": ("dim", "keepdim", "dtype"),
}


@dataclass(frozen=True)
class Site:
    """The node that a rule imports: its primitive ``op``, and the attributes of that."""

    build: Builder
    op: str
    attributes: Mapping[str, Value]
    inputs: tuple[Value, ...]

    def get(self, name: str, default: Value = None) -> Value:
        """An argument: an attribute, or an input in the order of the signature."""
        names = ARGUMENTS.get(self.op) or form_of(self.op).arguments or ()
        if name in names:
            place = len(self.inputs) - len(names) + names.index(name)
            if self.argument_style(len(names)) and place >= 0:
                return self.inputs[place]
            known = form_of(self.op).inputs
            if name in known:
                return self.inputs[len(self.inputs) - len(known) + known.index(name)]
        return self.attributes.get(name, default)

    def argument_style(self, count: int) -> bool:
        """Whether the last inputs are arguments: numbers, texts and tuples, not tensors."""
        last = self.inputs[len(self.inputs) - count :]
        return len(last) == count and not any(isinstance(each, Node) for each in last)

    def ints(self, name: str) -> tuple[int, ...]:
        """An argument that is one integer or several."""
        return whole(self.get(name))

    def flag(self, name: str, default: bool = False) -> bool:
        """An argument that is true or false."""
        return bool(self.get(name, default))


def whole(value: Value) -> tuple[int, ...]:
    """One integer or several as a tuple."""
    return tuple(int(each) for each in value) if isinstance(value, tuple) else (int(value),)


def imports(*ops: str) -> Callable[[Rule], Rule]:
    """Register the decorated function as what the primitives ``ops`` become.

    It gets a ``Site`` and the inputs: nodes for tensors, Python's values for what is none.
    """
    return enters(RULES, *ops)
