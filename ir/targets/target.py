"""What a target is: a table of emitters, its own rewrites, and a writer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

from fnckpt.ir.border import Border
from fnckpt.ir.graph import CNode, FuncGraph, everywhere
from fnckpt.ir.passes.rewrite import Rule, rewrite
from fnckpt.ir.passes.share import share, share_weights
from fnckpt.ir.sizes import InconclusiveDimensionOperation, all_known
from fnckpt.ir.targets.external import Beside
from fnckpt.wire import Part


class Refusal(Exception):
    """Raised by an emitter: this node cannot be written; the message is reason and way out."""


@dataclass(frozen=True)
class Target:
    """A file format that graphs are written to.

    Attributes:
      name: as the user says it, ``ONNX``.
      suffix: of its files, ``.onnx``.
      legalize: rewrites that turn operators, or dtypes of them, which the target lacks into ones
        it has. They run after the common passes and before anything is emitted.
      fused_first: passes before ``fused`` that look at loops as the common passes leave them.
      fused: rewrites into larger operators that the target's runtimes run faster. They run before
        ``legalize``, in graphs that are optimized.
      fused_since: the same for operators that came with a version of the format, by its number.
      fused_for: passes into operators that one runtime has beyond the format, by its name; after
        ``fused_parts``.
      version: the option that names the version, and what it is where the user does not say.
      fused_parts: passes that run after ``fused`` and look at all users of a value.
      emitters: what can be written; the operators in neither table are a bug of ours.
      cannot: operators that cannot be written whatever their inputs, with reason and way out.
      encode: the whole file as parts, to be written one after the other; weights are views of
        their arrays, so that nothing is copied. Raises ``Refused``.
      check: the problems of a file, each one line naming the place; empty for a good file.
      summarize: what a file holds.
      guards: those of ``legalize`` that only keep a NaN, or saturate what does not fit, and that
        ``fast_math=True`` leaves out.
      no_dtype: types that ``export(dtype=...)`` cannot ask of it, with reason and way out.
      symbolic: whether sizes may be left open.
      loops: whether it has branches and loops; else they are written out.
      recurrent: whether its runtimes are faster with a loop that is a gated recurrent cell than
        with its steps written out.
    """

    name: str
    suffix: str
    legalize: Sequence[Rule]
    emitters: Mapping[str, Callable[..., None]]
    cannot: Mapping[str, str]
    encode: Callable[..., "Encoded"]
    check: Callable[[Path], list[str]]
    summarize: Callable[[Path], "Summary"]
    fused_first: Sequence[Callable[[FuncGraph], FuncGraph]] = ()
    fused: Sequence[Rule] = ()
    fused_since: Mapping[int, Sequence[Rule]] = field(default_factory=dict[int, Sequence[Rule]])
    fused_for: Mapping[str, Sequence[Callable[[FuncGraph], FuncGraph]]] = field(
        default_factory=dict[str, Sequence[Callable[[FuncGraph], FuncGraph]]]
    )
    version: tuple[str, int] = ("", 0)
    guards: Sequence[Rule] = ()
    no_dtype: Mapping[str, str] = field(default_factory=dict[str, str])
    symbolic: bool = True
    loops: bool = True
    recurrent: bool = False
    fused_parts: Sequence[Callable[[FuncGraph], FuncGraph]] = ()


@dataclass(frozen=True)
class Encoded:
    """A file to be written.

    Attributes:
      parts: its bytes in order.
      nodes: how many it counts.
      beside: the file of its weights, where they are not in it.
      ending: what its name has before the suffix.
    """

    parts: Sequence[Part]
    nodes: int
    beside: Beside | None = None
    ending: str = ""


Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class ValueSummary:
    """A named value of a file: ``float32[2,3]`` is dtype ``float32``, shape ``(2, 3)``.

    ``is_complex``: it stands for complex numbers, whose parts lie along its last axis of 2.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    is_complex: bool = False

    def __str__(self) -> str:
        """Like ``image: float32[2,3]``, or ``z: float32[3,2] for complex64[3]``."""
        plain = f"{self.name}: {self.dtype}[{','.join(map(str, self.shape))}]"
        return f"{plain} for {self.complex_dtype}{self._inner()}" if self.is_complex else plain

    @property
    def complex_dtype(self) -> str:
        """The complex dtype that two of ``dtype`` make."""
        return {"float64": "complex128"}.get(self.dtype, "complex64")

    def _inner(self) -> str:
        return f"[{','.join(map(str, self.shape[:-1]))}]"


@dataclass(frozen=True)
class NodeSummary:
    """A node of a file.

    Attributes:
      name: with the path of its module before it, ``net/Dense_0/MatMul``.
      attributes: names and values, in few words.
      bodies: the graphs that run in it, with what each is: ``then_branch``, ``body``. They may
        use the values of the graph that the node stands in.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...] = ()
    bodies: tuple[tuple[str, "Summary"], ...] = ()


@dataclass(frozen=True)
class Summary:
    """What a file of a graph holds, in any format.

    ``producer`` says who wrote it; ``shapes`` are of the values whose shape the file tells, by
    name; ``constants`` are in few words those of a file that is never run, by name.
    """

    producer: str
    inputs: tuple[ValueSummary, ...]
    outputs: tuple[ValueSummary, ...]
    parameters: tuple[ValueSummary, ...]
    nodes: tuple[NodeSummary, ...]
    shapes: Mapping[str, Shape] = field(default_factory=dict[str, Shape])
    constants: Mapping[str, str] = field(default_factory=dict[str, str])

    def every_node(self) -> list[NodeSummary]:
        """Its nodes, and those of the graphs that run in them."""
        found = list(self.nodes)
        for node in found:  # which grows
            found += [inner for _, body in node.bodies for inner in body.nodes]
        return found

    def with_border(self, border: Border) -> "Summary":
        """The same, with what stands for complex numbers marked."""

        def marked(values: Sequence[ValueSummary], which: Callable[[int, str], bool]):
            return tuple(
                replace(value, is_complex=which(i, value.name)) for i, value in enumerate(values)
            )

        return replace(
            self,
            inputs=marked(self.inputs, lambda i, _: i in border.inputs),
            outputs=marked(self.outputs, lambda i, _: i in border.outputs),
            parameters=marked(self.parameters, lambda _, name: name in border.weights),
        )


class Refused(Exception):
    """A graph cannot be written; ``places`` names every node and its reason."""

    def __init__(self, places: Sequence[tuple[CNode, str]]) -> None:
        super().__init__("; ".join(f"{node.op}: {reason}" for node, reason in places))
        self.places = tuple(places)


def legalized(graph: FuncGraph, target: Target, *, fast_math: bool = False) -> FuncGraph:
    """``graph`` in the operators that ``target`` has; with ``fast_math`` without its guards."""
    left_out = target.guards if fast_math else ()
    rules = [rule for rule in target.legalize if rule not in left_out]
    return share_weights(everywhere(graph, lambda each: _rewritten(each, rules)))


def _rewritten(graph: FuncGraph, rules: Sequence[Rule]) -> FuncGraph:
    """``graph`` by ``rules``; what two of its nodes became that is equal is there once."""
    after = rewrite(graph, rules)
    return graph if after is graph else share(after)


def preferred(
    graph: FuncGraph, target: Target, runtime: str | None = None, /, **options: int | str
) -> FuncGraph:
    """``graph`` with the operators that ``target`` runs faster, and has under ``options``.

    ``runtime`` is the one that alone shall run the file, of ``fused_for``.
    """
    own = () if runtime is None else target.fused_for[runtime]
    newer = _newer(target, options)

    def fused(each: FuncGraph) -> FuncGraph:
        first = reduce(lambda done, step: step(done), target.fused_first, each)
        after = rewrite(first, target.fused if own else [*target.fused, *newer])
        for step in (*target.fused_parts, *own):
            after = step(after)
        after = rewrite(after, newer) if own and newer else after
        return each if after is each else share(after)

    return everywhere(graph, fused)


def _newer(target: Target, options: Mapping[str, int | str]) -> list[Rule]:
    """The rules of ``fused_since``, up to the version that is written."""
    option, default = target.version
    version = options.get(option, default)
    if not isinstance(version, int):  # encode says what is wrong
        return []
    known = [rules for since, rules in target.fused_since.items() if since <= version]
    return [rule for rules in known for rule in rules]


SYMBOLIC = (
    "one of its sizes is symbolic, and the format says this operator with numbers alone; give a "
    "number for that size"
)


def is_static(node: CNode) -> bool:
    """Whether every size of what a node takes and gives is a number."""
    avals = (*(each.aval for each in node.inputs), *node.results)
    return all(all_known(aval.shape) for aval in avals)


def emit_all(
    nodes: Sequence[CNode],
    emitters: Mapping[str, Callable[..., None]],
    cannot: Mapping[str, str],
    writer: object,
) -> None:
    """Call the emitter of each node; ``Refused`` with all that cannot be written, if any."""
    places: list[tuple[CNode, str]] = []
    for node in nodes:
        if node.op in cannot:
            places.append((node, cannot[node.op]))
            continue
        try:
            emitters[node.op](node, writer)
        except Refusal as refusal:
            places.append((node, str(refusal)))
        except Refused as refused:  # of a graph inside
            places.extend(refused.places)
        except (InconclusiveDimensionOperation, KeyError):
            if is_static(node):
                raise
            places.append((node, SYMBOLIC))
    if places:
        raise Refused(places)
