"""What ``export`` returns: the file that was written, and what is in it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fnckpt.exporting.quantizing.measured import Quantized
from fnckpt.exporting.verify import Verified
from fnckpt.ir.cost import Heavy, flops, heaviest
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.precision import Narrowing
from fnckpt.ir.sizes import symbols
from fnckpt.ir.specialize import specialized
from fnckpt.ir.targets import target
from fnckpt.ir.targets.cost import file_costs
from fnckpt.ir.targets.target import ValueSummary
from fnckpt.picture.facts import facts


@dataclass(frozen=True)
class ExportResult(os.PathLike[str]):
    """The path, sizes and node counts of a file that was written. It can stand wherever a path can.

    ``str(result)`` is the path, ``repr(result)`` the facts.

    Attributes:
      path: the main file.
      file_format: ``"MINDIR"``, ``"ONNX"`` or ``"AIR"``.
      inputs: name, dtype and shape of each input, in the order of ``sample_input``'s leaves, as
        the file has it. One that ``is_complex`` is real there, its parts along a last axis of 2.
      outputs: the same of each output.
      nodes: the number of operators in the file.
      traced_nodes: how many there were before any pass.
      passes: the names of the passes that changed the graph, in order.
      parameters: the number of trained numbers in the file, and
      parameter_bytes: what they take.
      bytes: the size of the file.
      seconds: from the call to the renamed file.
      narrowing: what became float16 or bfloat16, what did not, and the error of it; None without
        ``dtype``.
      quantized: which weights became integers, and the error of it; None without ``quantize``.
      verified: what the runtime made of the file; None without ``verify`` and ``report``.
      report: the Markdown report beside the file; None without ``report``.
    """

    path: Path
    file_format: str
    inputs: tuple[ValueSummary, ...]
    outputs: tuple[ValueSummary, ...]
    nodes: int
    traced_nodes: int
    passes: tuple[str, ...]
    parameters: int
    parameter_bytes: int
    bytes: int
    seconds: float
    narrowing: Narrowing | None
    graph: FuncGraph = field(repr=False, compare=False)
    quantized: Quantized | None = None
    verified: Verified | None = None
    report: Path | None = None

    def __fspath__(self) -> str:
        """The path of the main file."""
        return str(self.path)

    def __str__(self) -> str:
        """The path of the main file, as ``str`` of a ``pathlib.Path`` gives it."""
        return str(self.path)

    def rows(self) -> list[tuple[str, str]]:
        """What the result shows of itself, as (name, value)."""
        precision = [] if self.narrowing is None else [("precision", str(self.narrowing))]
        integers = [] if self.quantized is None else [("quantized", str(self.quantized))]
        verified = [] if self.verified is None else [("verified", str(self.verified))]
        report = [] if self.report is None else [("report", str(self.report))]
        left_out = [("left out", "; ".join(self.left_out))] if self.left_out else []
        return [
            ("file", str(self.path)),
            ("format", self.file_format),
            ("inputs", ", ".join(map(str, self.inputs))),
            ("outputs", ", ".join(map(str, self.outputs))),
            ("nodes", f"{self.nodes:,}, of {self.traced_nodes:,} that were traced"),
            ("passes", ", ".join(self.passes) or "none"),
            *precision,
            *integers,
            *left_out,
            *verified,
            *report,
            ("FLOPs", f"{self.flops:,}" + "".join(f", {s} = 1" for s in self._symbols())),
            ("parameters", f"{self.parameters:,} ({self.parameter_bytes:,} bytes)"),
            ("bytes", f"{self.bytes:,}"),
            ("seconds", f"{self.seconds:.2f}"),
        ]

    @property
    def left_out(self) -> tuple[str, ...]:
        """The prints and callbacks that no output depends on, each with its source line."""
        return self.graph.left_out

    @property
    def flops(self) -> int:
        """The floating-point operations of one run; a multiplication and an addition are two.

        They are counted in the file, so that ``inspect`` shows the same, or, where a size is
        symbolic or the file is gone, in the graph with 1 for each symbol.
        """
        return self._costs[0]

    def heaviest(self) -> Sequence[Heavy]:
        """The ten nodes with the most operations, each with the path of its module."""
        return self._costs[1]

    @cached_property
    def _costs(self) -> tuple[int, Sequence[Heavy]]:
        if self.path.exists() and not self._symbols():
            total, unknown, heavy = file_costs(target(self.file_format).summarize(self.path))
            if not unknown:
                return total, heavy
        graph = self._of_ones()
        return flops(graph), heaviest(graph)

    def _of_ones(self) -> FuncGraph:
        return specialized(self.graph, dict.fromkeys(self._symbols(), 1))

    def _symbols(self) -> Sequence[str]:
        return sorted({s for p in self.graph.inputs for n in p.aval.shape for s in symbols(n)})

    def __repr__(self) -> str:
        """One line a fact."""
        lines = "\n".join(f"  {name:<11}{value}" for name, value in self.rows())
        return f"ExportResult\n{lines}"

    def _repr_html_(self) -> str:
        """The table, and the graph of the file as a drawing whose modules open."""
        from fnckpt.picture.graph import graph as drawn  # with what lays it out, for notebooks

        drawing = drawn(target(self.file_format).summarize(self.path))
        return facts(self.rows()) + drawing
