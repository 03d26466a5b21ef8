"""Whether a part of a graph is another one but for what it reads."""

from collections.abc import Callable

from fnckpt.ir.graph import Aval, CNode, Constant, Node, inputs_of
from fnckpt.ir.passes.rewrite import scalar_of

Bound = dict[int, Node]


def is_several(node: Node) -> bool:
    """Whether a node has several results, so that it is no value itself."""
    return isinstance(node, CNode) and len(node.results) > 1


def matched(template: Node, node: Node, *, exact: bool) -> Bound | None:
    """What stands for the leaves of a template whose root is ``node``; None where it is not.

    Args:
      exact: shapes count; else the dtypes alone, of what is computed element by element.
    """
    bound: Bound = {}
    stack = [(template, node)]
    while stack:
        wanted, found = stack.pop()
        if id(wanted) in bound:
            if bound[id(wanted)] is not found:
                return None
            continue
        before = _before_cast(wanted, found)
        if before is not None:
            bound[id(wanted)] = found
            stack.append(before)
            continue
        if not _is_alike(wanted, found, exact):
            return None
        bound[id(wanted)] = found
        stack += zip(inputs_of(wanted), inputs_of(found) if isinstance(wanted, CNode) else (),
                     strict=True)  # fmt: skip
    return bound


def _before_cast(wanted: Node, found: Node) -> tuple[Node, Constant] | None:
    """What a Cast reads, and the number that it makes ``found`` of: such a Cast was computed."""
    if not isinstance(wanted, CNode) or wanted.op != "Cast" or not isinstance(found, Constant):
        return None
    (read,) = wanted.inputs
    if wanted.aval.dtype != found.aval.dtype or not _is_whole(read, wanted):
        return None
    value = found.value.astype(read.aval.dtype)
    same = value.astype(found.aval.dtype).tobytes() == found.value.tobytes()
    return (read, Constant(value)) if same else None


def _is_whole(*nodes: Node) -> bool:
    """Whether all are integers, which NumPy casts as every format does."""
    return all(node.aval.dtype.kind in "iu" for node in nodes)


def _is_alike(wanted: Node, found: Node, exact: bool) -> bool:
    """Whether two nodes are the same but for what they read."""
    if isinstance(wanted, CNode):
        return (
            isinstance(found, CNode)
            and wanted.op == found.op
            and len(wanted.inputs) == len(found.inputs)
            and len(wanted.results) == len(found.results)
            and all(map(exact_or_dtype(exact), wanted.results, found.results))
            and (wanted.attrs == found.attrs or (not exact and wanted.op == "BroadcastTo"))
        )
    if is_several(found):
        return False
    if isinstance(wanted, Constant):
        return isinstance(found, Constant) and _is_same_number(wanted, found, exact)
    return exact_or_dtype(exact)(wanted.aval, found.aval)


def exact_or_dtype(exact: bool) -> Callable[[Aval, Aval], bool]:
    """How two avals are compared."""
    return (lambda a, b: a == b) if exact else (lambda a, b: a.dtype == b.dtype)


def _is_same_number(wanted: Constant, found: Constant, exact: bool) -> bool:
    a, b = wanted.value, found.value
    if a.dtype != b.dtype:
        return False
    if exact or (a.size > 1 and scalar_of(wanted) is None):
        return a.shape == b.shape and a.tobytes() == b.tobytes()
    one, other = a.reshape(-1)[:1], b.reshape(-1)[:1]
    same = one.tobytes() == other.tobytes()
    return same and (b.size == 1 or scalar_of(found) is not None)
