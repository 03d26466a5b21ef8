"""Branches and loops: functions of the file, closures of them, a choice, and a call.

The format has no loop: a function that calls itself, through the closure that it chose, is one. All
that a function uses is given to it, but for constants and weights, which it finds in the file.
Source: ``mindspore.export`` of 2.10 and what its loader needs of it.
"""

from collections.abc import Sequence

from fnckpt.ir.attributes import graph, graphs
from fnckpt.ir.graph import Aval, CNode, FuncGraph, Node, Parameter, graphs_of, inlined
from fnckpt.ir.passes.build import BOOL, INT32
from fnckpt.ir.passes.control import boolean_of
from fnckpt.ir.targets.mindir.registry import CANNOT, EMITTERS, emits, integer
from fnckpt.ir.targets.mindir.sizes import vector
from fnckpt.ir.targets.mindir.writer import Writer, tensor_type
from fnckpt.ir.targets.names import base_name
from fnckpt.ir.targets.target import emit_all
from fnckpt.proto import mind_ir_pb2 as mind_ir


class Function:
    """A function of the file while it is written: its own inputs and nodes.

    Attributes:
      name: what the file calls it.
      w: writes its nodes.
      inputs: a parameter for each input.
    """

    def __init__(self, w: Writer, name: str, avals: Sequence[Aval]) -> None:
        self.outer, self.name = w, w.unused(name)
        names = [w.unused(f"{self.name}.{number}") for number in range(len(avals))]
        self.inputs = tuple(map(Parameter, names, avals))
        self.w = w.inner(self.inputs)

    def write(self, inside: FuncGraph, given: Sequence[Node]) -> list[Node]:
        """Write the nodes of ``inside`` on ``given``; its results."""
        outputs = inlined(inside, given)
        whole = FuncGraph(inside.name, self.inputs, tuple(outputs), inside.output_names)
        for node in whole.nodes():
            if id(node) not in self.w.names:
                self.w.names[id(node)] = self.w.unused(f"{self.name}/{base_name(node)}")
        self.w.learn(whole)
        emit_all(whole.cnodes(), EMITTERS, CANNOT, self.w)
        return outputs

    def end(self, output: str) -> None:
        """The function gives the value called ``output``."""
        head = mind_ir.GraphProto(name=self.name)
        for parameter in self.inputs:
            head.input.add(name=parameter.name, tensor=[tensor_type(parameter.aval)])
        head.output.add(name=output)
        self.outer.end(self.w, [head.SerializeToString(), *self.w.live(output)])


def result(w: Writer, outputs: Sequence[Node], name: str) -> str:
    """The one result, or a tuple of all."""
    if len(outputs) == 1:
        return w.ref(outputs[0])
    made = w.unused(f"{name}/outputs")
    w.add("MakeTuple", outputs, [each.aval for each in outputs], made, "")
    return made


def function(w: Writer, inside: FuncGraph, name: str) -> str:
    """Write a graph as a function; its name."""
    made = Function(w, name, [p.aval for p in inside.inputs])
    outputs = made.write(inside, made.inputs)
    made.end(result(made.w, outputs, made.name))
    return made.name


@emits("Cond")
def emit_cond(node: CNode, w: Writer) -> None:
    """A function each, with all operands given; a Switch of two, a layer of more."""
    (index, *operands), name = node.inputs, w.names[id(node)]
    given = [w.ref(operand) for operand in operands]
    closures = []
    for number, branch in enumerate(graphs(node, "branches")):
        made = function(w, branch, f"{name}/branch_{number}")
        closures.append(w.control("Partial", f"{made}/given", made, *given))
    if len(closures) == 2:
        first, second = closures
        zero = w.scalar(0, INT32)
        later = boolean_of(index) or w.step("NotEqual", node, Aval((), BOOL), index, zero)
        chosen = w.control("Switch", f"{name}/chosen", w.ref(later), second, first)
    else:
        layer = w.control("MakeTuple", f"{name}/branches", *closures)
        chosen = w.control("switch_layer", f"{name}/chosen", w.ref(index), layer)
    w.call(chosen, (), node.results, name, node.origin.scope)


@emits("While")
def emit_while(node: CNode, w: Writer) -> None:
    """A header that goes on to the body, which calls the header again, or to the end."""
    name, captured = w.names[id(node)], integer(node.attrs["captured"])
    avals = [each.aval for each in node.inputs]
    done = Function(w, f"{name}/done", avals[captured:])
    done.end(result(done.w, done.inputs, done.name))
    header = Function(w, f"{name}/loop", avals)
    body = Function(w, f"{name}/body", avals)
    outputs = body.write(graph(node, "body"), body.inputs)
    following = [body.w.ref(each) for each in body.inputs[:captured]]
    following += _carried(body, outputs, body.inputs[captured:])
    _call_from(body, header.name, following, node)
    (goes_on,) = header.write(graph(node, "cond"), header.inputs)
    given = [header.w.ref(each) for each in header.inputs]
    again = header.w.control("Partial", f"{header.name}/again", body.name, *given)
    end = header.w.control("Partial", f"{header.name}/end", done.name, *given[captured:])
    chosen = header.w.control("Switch", f"{header.name}/chosen", header.w.ref(goes_on), again, end)
    _call_from(header, chosen, (), node)
    given = [w.ref(each) for each in node.inputs]
    w.call(header.name, given, node.results, name, node.origin.scope)


def _call_from(made: Function, called: str, given: Sequence[str], node: CNode) -> None:
    """The last thing that a function does: to call another."""
    name = made.w.unused(f"{made.name}/call")
    made.w.call(called, given, node.results, name, "")
    made.end(name)


def _carried(body: Function, outputs: Sequence[Node], inputs: Sequence[Node]) -> list[str]:
    """The results of a body by name; copied where MindSpore before 2.3 would mix them up.

    2.0.0 gives wrong numbers where an input of the body is handed on at another place, as it is or
    by a branch or a loop inside.
    """
    if body.w.dialect.arguments:
        return [body.w.ref(output) for output in outputs]
    return [
        body.w.ref(output) if output is own or _is_computed(output) else _copy(body, output)
        for output, own in zip(outputs, inputs, strict=True)
    ]


def _is_computed(node: Node) -> bool:
    source = node.inputs[0] if isinstance(node, CNode) and node.op == "TupleGetItem" else node
    return isinstance(source, CNode) and not graphs_of(source)


def _copy(body: Function, node: Node) -> str:
    name, shape = body.w.unused(f"{body.name}/copy"), node.aval.shape
    body.w.add("Reshape", [node], [node.aval], name, "", shape=vector(body.w, shape))
    return name
