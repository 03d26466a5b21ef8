"""``<prefix>-graph.meta``: the compiled train step as a graph that MindSpore's tools draw."""

from collections.abc import Sequence
from pathlib import Path

from jax.extend.core import ClosedJaxpr

from fnckpt.files import replacing
from fnckpt.ir.lowering.literal import literal
from fnckpt.ir.step_scopes import step_scoped
from fnckpt.ir.targets import anf


def write_graph_meta(
    closed: ClosedJaxpr, path: Path, *, names: Sequence[str] | None = None, name: str = "step"
) -> None:
    """Write a jaxpr as an anf_ir ``ModelProto``, whole or not at all.

    Args:
      closed: the train step, as ``jax.jit(step).trace(...).jaxpr`` gives it.
      path: the file; what was there is replaced.
      names: one for each of its arguments; numbered ``arg_0`` when not given.
      name: of the graph.
    """
    labels = names or [f"arg_{i}" for i in range(len(closed.jaxpr.invars))]
    data = anf.encode(step_scoped(literal(closed, labels, name=name), "state"))
    with replacing(path) as file:
        file.write(data)
