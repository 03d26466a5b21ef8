"""Many graphs in MindSpore: several to a file, as it takes longer to compile than to compute."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.targets.mindir import TARGET, check
from fnckpt.ir.targets.target import legalized
from tests.ir.targets.mindir.judge import Judged, judge


@dataclass(frozen=True)
class Job:
    """A graph, and what it is run on."""

    id: str
    graph: FuncGraph
    inputs: Sequence[np.ndarray]


def written(graph: FuncGraph, path: Path) -> None:
    """The graph as a file, which must be a good one."""
    with path.open("wb") as file:
        file.writelines(TARGET.encode(legalized(graph, TARGET)).parts)
    assert check(path) == []


def together(jobs: Sequence[Job]) -> FuncGraph:
    """One graph of many."""
    return FuncGraph(
        "all",
        tuple(given for job in jobs for given in job.graph.inputs),
        tuple(output for job in jobs for output in job.graph.outputs),
        tuple(f"{i}.{name}" for i, job in enumerate(jobs) for name in job.graph.output_names),
    )


def judge_groups(groups: Sequence[Sequence[Job]]) -> dict[str, Judged]:
    """What MindSpore made of each job: those of a group run together, and alone if that fails."""
    with TemporaryDirectory() as directory:
        folder = Path(directory)
        named = {f"group{i}": group for i, group in enumerate(groups)}
        for name, group in named.items():
            written(together(group), folder / f"{name}.mindir")
        inputs = {name: [x for job in group for x in job.inputs] for name, group in named.items()}
        whole = judge(folder, inputs)
        found: dict[str, Judged] = {}
        for name, group in named.items():
            if not whole[name].error:
                found |= _apart(group, whole[name])
        return found | _alone(folder, [j for group in groups for j in group if j.id not in found])


def _apart(group: Sequence[Job], judged: Judged) -> dict[str, Judged]:
    outputs = iter(judged.outputs)
    return {job.id: Judged(tuple(next(outputs) for _ in job.graph.outputs)) for job in group}


def _alone(folder: Path, jobs: Sequence[Job]) -> dict[str, Judged]:
    if not jobs:
        return {}
    named = {f"alone{i}": job for i, job in enumerate(jobs)}
    for name, job in named.items():
        written(job.graph, folder / f"{name}.mindir")
    judged = judge(folder, {name: job.inputs for name, job in named.items()})
    return {job.id: judged[name] for name, job in named.items()}
