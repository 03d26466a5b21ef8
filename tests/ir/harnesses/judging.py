"""Each harness as a graph and as a file of each format, and what its runtime makes of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    NotImplemented,
    RuntimeException,
)

from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.lowering import NotLowered
from fnckpt.ir.targets import target
from fnckpt.ir.targets.air.evaluate import evaluate as evaluate_air
from fnckpt.ir.targets.target import Refused, legalized, preferred
from tests.ir.harnesses.harness import Harness, difference
from tests.ir.targets.mindir.batch import Job, judge_groups
from tests.ir.targets.mindir.judge import Judged
from tests.ir.targets.onnx.test_operators import computed

Arrays = Sequence[np.ndarray]
FORMATS = ("graph", "ONNX", "MINDIR", "AIR")
TOGETHER = 24  # MindSpore compiles several functions in one graph faster than each in its own


@dataclass(frozen=True)
class Verdict:
    """What came of a harness in a format: why it is not equal, or None."""

    harness: Harness
    file_format: str
    problem: str | None


def verdicts(harnesses: Sequence[Harness], file_format: str) -> Iterator[Verdict]:
    """One for each harness, in their order; those of MindSpore together at the end."""
    if file_format == "MINDIR":
        yield from _of_mindspore(harnesses)
        return
    for harness in harnesses:
        yield Verdict(harness, file_format, _problem(harness, file_format))


def _problem(harness: Harness, file_format: str) -> str | None:
    run = RUNS[file_format]
    try:
        graph = harness.graph(loops=file_format != "AIR")
        found = run(graph, harness.inputs())
    except (NotLowered, Refused) as refused:
        return f"refused: {refused}"
    except (Fail, InvalidArgument, InvalidGraph, NotImplemented, RuntimeException) as error:
        return f"ONNX Runtime: {error}"
    except IndexError as error:  # NumPy's, of a place that is outside
        return f"{file_format}: {error}"
    return difference(harness, graph, found)


def _in_file(file_format: str, run: Callable[[Path, Arrays], Arrays]):
    goal = target(file_format)

    def written_and_run(graph: FuncGraph, inputs: Arrays) -> Arrays:
        with TemporaryDirectory() as folder:
            path = Path(folder, f"harness{goal.suffix}")
            with path.open("wb") as file:
                file.writelines(goal.encode(legalized(preferred(graph, goal), goal)).parts)
            return run(path, inputs)

    return written_and_run


RUNS: dict[str, Callable[[FuncGraph, Arrays], Arrays]] = {
    "graph": evaluate,
    "ONNX": _in_file("ONNX", lambda path, inputs: list(computed(path, inputs))),
    "AIR": _in_file("AIR", evaluate_air),
}


def _of_mindspore(harnesses: Sequence[Harness]) -> Iterator[Verdict]:
    """Files with several harnesses each, as MindSpore takes seconds to compile one."""
    goal = target("MINDIR")
    jobs: list[Job] = []
    refused: dict[str, str] = {}
    for harness in harnesses:
        try:
            graph = harness.graph()
            goal.encode(legalized(graph, goal))
        except (NotLowered, Refused) as error:
            refused[harness.name] = f"refused: {error}"
            continue
        jobs.append(Job(harness.name, graph, harness.inputs()))
    groups = [jobs[i : i + TOGETHER] for i in range(0, len(jobs), TOGETHER)]
    judged, graphs = judge_groups(groups), {job.id: job.graph for job in jobs}
    for harness in harnesses:
        text = refused.get(harness.name)
        if text is None:
            text = _judged(harness, graphs[harness.name], judged[harness.name])
        yield Verdict(harness, "MINDIR", text)


def _judged(harness: Harness, graph: FuncGraph, judged: Judged) -> str | None:
    if judged.error:
        return f"MindSpore: {judged.error[:300]}"
    dtypes = [node.aval.dtype for node in graph.outputs]
    found = [x.astype(d) for x, d in zip(judged.outputs, dtypes, strict=True)]
    return difference(harness, graph, found)
