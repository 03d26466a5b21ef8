"""Branches and loops: If, Loop and Scan, whose graphs see the values around them by name.

A graph inside is written as it stands: what is captured keeps the name that it has outside, a
carried value has a name of its own inside. Initializers and sizes are those of the whole file.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from fnckpt.ir.attributes import flag, graph, graphs, integer, size
from fnckpt.ir.graph import CNode, Constant, FuncGraph, Node, Parameter, inlined
from fnckpt.ir.passes.build import INT32
from fnckpt.ir.passes.control import boolean_of, with_known
from fnckpt.ir.targets.names import base_name
from fnckpt.ir.targets.onnx.emit import CANNOT, EMITTERS, emits
from fnckpt.ir.targets.onnx.sizes import vector
from fnckpt.ir.targets.onnx.writer import Writer, value_info
from fnckpt.ir.targets.target import emit_all

# Whose types are those of a Loop's own two inputs: the number of the trip, and whether it goes on.
TRIP, GOES_ON = Constant(np.zeros((), np.int64)), Constant(np.ones((), bool))


def written(graph: FuncGraph) -> list[CNode]:
    """The operators that become nodes: not the reads of results, which have names of their own.

    If chooses by the boolean itself, so that its number is not written for If alone.
    """
    nodes = graph.cnodes()
    chosen = [n.inputs[0] for n in nodes if n.op == "Cond" and boolean_of(n.inputs[0]) is not None]
    used = graph.use_counts()
    for index in chosen:
        used[id(index)] -= 1
    return [n for n in nodes if n.op != "TupleGetItem" and (n.op != "Cast" or used[id(n)])]


def write(w: Writer, inside: FuncGraph, given: Sequence[str]) -> list[Node]:
    """Write the nodes of ``inside`` into ``w``, its inputs called ``given``; its outputs.

    Each time they are new nodes with new names, so that a graph can be written twice.
    """
    parameters = [Parameter(name, p.aval) for name, p in zip(given, inside.inputs, strict=True)]
    outputs = inlined(inside, parameters)
    whole = FuncGraph(inside.name, tuple(parameters), tuple(outputs), inside.output_names)
    w.names.update((id(p), p.name) for p in parameters)
    nodes = written(whole)
    for node in whole.nodes():
        if id(node) not in w.names:
            w.names[id(node)] = w.unused(base_name(node))
    w.alive.append(whole)
    emit_all(nodes, EMITTERS, CANNOT, w)
    w.infos += [
        value_info(name, aval)
        for node in nodes
        for name, aval in zip(w.results(node), node.results, strict=True)
    ]
    return outputs


def fresh(w: Writer, outputs: Sequence[Node]) -> list[str]:
    """Names of results that this graph computes itself; what it does not, and twice, is copied."""
    made = {name for node in w.nodes for name in node.output}
    names: list[str] = []
    for output in outputs:
        name = w.ref(output)
        if name not in made or name in names:
            copied = w.unused(f"{name}/copy")
            w.add("Identity", [name], [copied], copied)
            name = copied
        names.append(name)
    return names


def body_of(
    w: Writer, name: str, inputs: Sequence[tuple[str, Node]], outputs: Sequence[tuple[str, Node]]
) -> onnx.GraphProto:
    """The message of a graph inside."""
    taken = {n for n, _ in (*inputs, *outputs)}
    return helper.make_graph(
        w.nodes,
        name,
        [value_info(n, like.aval) for n, like in inputs],
        [value_info(n, like.aval) for n, like in outputs],
        value_info=[info for info in w.infos if info.name not in taken],
    )


# ---------------------------------------------------------------------------------------- branches


@emits("Cond")
def emit_cond(node: CNode, w: Writer) -> None:
    """If; there are two branches, others are halved before."""
    index, *operands = node.inputs
    given = [w.ref(operand) for operand in operands]
    messages: dict[str, onnx.GraphProto] = {}
    for name, branch in zip(("else_branch", "then_branch"), graphs(node, "branches"), strict=True):
        inner = w.inner()
        outputs = write(inner, branch, given)
        results = list(zip(fresh(inner, outputs), outputs, strict=True))
        messages[name] = body_of(inner, name, [], results)
    second = boolean_of(index) or w.step("Greater", node, index, w.scalar(0, INT32))
    w.add("If", [second], w.results(node), w.names[id(node)], **messages)


# ------------------------------------------------------------------------------------------- loops


@emits("While")
def emit_while(node: CNode, w: Writer) -> None:
    """Loop, whose condition is computed once before it, and at the end of each trip.

    Of the first values some are often numbers, so that the condition is less work before it.
    """
    captured = integer(node, "captured")
    cond, body = graph(node, "cond"), graph(node, "body")
    given = [w.ref(each) for each in node.inputs]
    (first,) = write(w, with_known(cond, node.inputs), given)
    inner = w.inner()
    name = w.names[id(node)]
    count, went_on = inner.unused(f"{name}/trip"), inner.unused(f"{name}/goes_on")
    carried = [inner.unused(f"{name}/carry") for _ in given[captured:]]
    outputs = write(inner, body, [*given[:captured], *carried])
    names = fresh(inner, outputs)
    goes_on = write(inner, cond, [*given[:captured], *names])
    (again,) = fresh(inner, goes_on)
    inputs = [(count, TRIP), (went_on, GOES_ON), *zip(carried, body.outputs, strict=True)]
    results = [(again, GOES_ON), *zip(names, outputs, strict=True)]
    message = body_of(inner, "body", inputs, results)
    w.add("Loop", ["", w.ref(first), *given[captured:]], w.results(node), name, body=message)


@emits("Scan")
def emit_scan(node: CNode, w: Writer) -> None:
    """Scan; without an input to go through, Loop."""
    captured, carried = integer(node, "captured"), integer(node, "carried")
    given, body = [w.ref(each) for each in node.inputs], graph(node, "body")
    first = captured + carried
    inner = w.inner()
    name, reverse = w.names[id(node)], flag(node, "reverse")
    inside = [inner.unused(f"{name}/carry") for _ in given[captured:first]]
    rows = [inner.unused(f"{name}/row") for _ in given[first:]]
    outputs = write(inner, body, [*given[:captured], *inside, *rows])
    names = fresh(inner, outputs)
    results = list(zip(names, outputs, strict=True))
    inputs = list(zip((*inside, *rows), body.inputs[captured:], strict=True))
    if rows:
        count = {"input": len(rows), "output": len(names) - carried}
        turned = {f"scan_{key}_directions": [1] * n for key, n in count.items() if n and reverse}
        message = body_of(inner, "body", inputs, results)
        w.add("Scan", given[captured:], w.results(node), name, body=message,
              num_scan_inputs=len(rows), **turned)  # fmt: skip
        return
    count, went_on = inner.unused(f"{name}/trip"), inner.unused(f"{name}/goes_on")
    inputs = [(count, TRIP), (went_on, GOES_ON), *inputs]
    message = body_of(inner, "body", inputs, [(went_on, GOES_ON), *results])
    trips = vector(w, (size(node, "length"),), "length")
    w.add("Loop", [trips, "", *given[captured:first]], w.results(node), name, body=message)
