"""A function traced by JAX and lowered to a graph, before any pass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import jax.core
import numpy as np
from jax.extend.core import ClosedJaxpr, Var

from fnckpt.exporting.closures import Known
from fnckpt.exporting.names import Names, names_of_inputs, names_of_outputs
from fnckpt.exporting.signature import function_name, leaf_names
from fnckpt.exporting.training_mode import noting_keys
from fnckpt.ir.graph import Aval, CNode, FuncGraph, Node, Parameter, inputs_of
from fnckpt.ir.lowering import lower
from fnckpt.ir.lowering.jaxpr import DEFAULT_MAX_UNROLL, aval_of_var
from fnckpt.ir.lowering.known import array_of
from fnckpt.ir.scopes import scoped

PyTree = object


@dataclass(frozen=True)
class Traced:
    """A jaxpr, and what its arguments and results are called.

    Attributes:
      closed: its arguments are the weights and then the inputs, its results the outputs.
      weights: with their values.
      inputs: what a caller gives, in JAX's dtypes.
      asked: of each input the dtype that the caller asked for, if it is not the one of JAX.
      output_names: one for each result.
    """

    closed: ClosedJaxpr
    weights: Sequence[Parameter]
    inputs: Sequence[Parameter]
    asked: Sequence[np.dtype | None]
    output_names: Sequence[str]

    def lowered(
        self,
        name: str,
        function: Callable[..., PyTree],
        max_unroll: int = DEFAULT_MAX_UNROLL,
        *,
        loops: bool = True,
        recurrent: bool = False,
        keeps_weights: bool = False,
    ) -> FuncGraph:
        """The graph; what ``function``, which was traced, closes over is a weight of its name.

        Raises:
          NotLowered: naming every equation that has no rule.
        """
        graph = lower(
            self.closed,
            self.weights,
            self.inputs,
            name=name,
            output_names=self.output_names,
            max_unroll=max_unroll,
            loops=loops,
            recurrent=recurrent,
            keeps_weights=keeps_weights,
            constant=Known(function).value,
        )
        return scoped(_as_asked(graph, self.asked))


def _check_returned(returned: PyTree, name: str) -> None:
    """Say it here: JAX would name a function of ours."""
    faults = [
        f"  {path or 'the result'}: a {type(leaf).__module__}.{type(leaf).__qualname__}"
        for path, leaf in zip(leaf_names(returned), jax.tree.leaves(returned), strict=True)
        if not (is_array(leaf) or isinstance(leaf, bool | int | float | complex))
    ]
    if faults:
        title = f"{name}: returns what is not an array; return an array or a tree of arrays:"
        raise TypeError("\n".join([title, *faults]))


def traced(
    params: PyTree,
    apply_fn: Callable[..., PyTree],
    inputs: Sequence[PyTree],
    *,
    input_names: Names = None,
    output_names: Names = None,
) -> Traced:
    """``apply_fn(params, *inputs)`` as JAX traces it.

    Raises:
      ValueError: there is no output.
      TypeError: an output is not an array; all of them are named.
    """
    leaves, structure = jax.tree.flatten(params)
    is_weight = [is_array(leaf) for leaf in leaves]
    arrays = [leaf for leaf, weight in zip(leaves, is_weight, strict=True) if weight]

    def apply(given: Sequence[jax.Array], args: Sequence[PyTree]) -> PyTree:
        rest = iter(given)
        values = [next(rest) if w else leaf for leaf, w in zip(leaves, is_weight, strict=True)]
        returned = apply_fn(jax.tree.unflatten(structure, values), *args)
        _check_returned(returned, function_name(apply_fn))
        return returned

    called = names_of_inputs(apply_fn, inputs, input_names)
    with noting_keys():
        closed, shapes = jax.make_jaxpr(apply, return_shape=True)(arrays, tuple(inputs))
    if not closed.out_avals:
        raise ValueError(
            f"{function_name(apply_fn)}: has no output, there is nothing to export; it returned "
            f"{shapes!r}, return an array or a tree of arrays"
        )
    count = len(arrays)
    found = zip(leaf_names(params), is_weight, strict=True)
    names = [n or "params" for n, weight in found if weight]  # a lone array has no path
    avals = [aval_of_var(var) for var in closed.jaxpr.invars[count:]]
    return Traced(
        closed,
        list(map(_weight, names, arrays, closed.jaxpr.invars[:count])),
        list(map(Parameter, called, avals)),
        list(map(_asked, jax.tree.leaves(tuple(inputs)), avals)),
        names_of_outputs(shapes, output_names, called),
    )


def trace(
    params: PyTree,
    apply_fn: Callable[..., PyTree],
    inputs: Sequence[PyTree],
    *,
    name: str,
    max_unroll: int = DEFAULT_MAX_UNROLL,
    loops: bool = True,
) -> FuncGraph:
    """The graph of ``apply_fn(params, *inputs)`` as it was traced, without any pass.

    Raises:
      NotLowered: naming every equation that has no rule.
      ValueError: there is no output.
    """
    return traced(params, apply_fn, inputs).lowered(name, apply_fn, max_unroll, loops=loops)


def is_array(leaf: object) -> bool:
    """Whether a leaf is a weight; Python's own numbers and bools are settings, as in Equinox."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _weight(name: str, leaf: object, var: Var) -> Parameter:
    """The leaf as a named weight; of PRNG keys, their data."""
    aval = aval_of_var(var)
    return Parameter(name, aval, array_of(leaf).astype(aval.dtype, copy=False), path=name)


def _asked(leaf: object, aval: Aval) -> np.dtype | None:
    """int64 where the sample has it: JAX computes in int32, and the file takes what was asked."""
    given = leaf.dtype if isinstance(leaf, np.ndarray | jax.ShapeDtypeStruct) else aval.dtype
    return np.dtype(np.int64) if given == np.int64 and aval.dtype == np.int32 else None


def _as_asked(graph: FuncGraph, asked: Sequence[np.dtype | None]) -> FuncGraph:
    """``graph`` whose inputs have the dtypes ``asked``, each cast to what the function takes."""
    inputs = [
        replace(p, aval=Aval(p.aval.shape, dtype)) if dtype else p
        for p, dtype in zip(graph.inputs, asked, strict=True)
    ]
    pairs = [(old, new) for old, new in zip(graph.inputs, inputs, strict=True) if old is not new]
    new = {id(o): CNode("Cast", (n,), {"dtype": o.aval.dtype}, (o.aval,)) for o, n in pairs}
    return replace(replaced(graph, new), inputs=tuple(inputs))


def replaced(graph: FuncGraph, new: Mapping[int, Node]) -> FuncGraph:
    """``graph`` with the nodes of ``new`` in place of those whose ``id`` is the key."""
    made: dict[int, Node] = dict(new)
    for node in graph.nodes() if new else ():
        inputs = tuple(made.get(id(n), n) for n in inputs_of(node))
        if isinstance(node, CNode) and inputs != node.inputs:  # nodes compare by identity
            made[id(node)] = replace(node, inputs=inputs)
    return replace(graph, outputs=tuple(made.get(id(n), n) for n in graph.outputs))
