"""Random nested programs of cond, while and scan give what JAX gives, in three runtimes."""

import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from hypothesis import HealthCheck, given, note, settings

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import legalized, preferred
from tests.ir.lowering.programs import WEIGHTS, Program, State, programs
from tests.ir.targets.mindir.batch import Job, judge_groups
from tests.ir.targets.onnx.test_operators import computed

# In the suite the same ones each time; where the variable says how many, deeper ones, new ones.
MANY = os.environ.get("FNCKPT_RANDOM_PROGRAMS", "")
COUNT, DEPTH = int(MANY or 60), 3 if MANY else 2
TOGETHER = 12  # to a file of MindSpore

LIMITS = {"float32": 2e-4, "float16": 2e-2, "bfloat16": 1e-1}

QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

several = settings(
    max_examples=COUNT,
    deadline=None,
    derandomize=not MANY,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def assert_near(where: str, found: Sequence[np.ndarray], wanted: State) -> None:
    for name, a, b in zip(State._fields, found, map(np.asarray, wanted), strict=True):
        assert a.shape == b.shape, f"{where}: {name}"
        if b.dtype.kind in "biu":
            np.testing.assert_array_equal(a, b, err_msg=f"{where}: {name}")
        else:
            error = np.abs(np.float64(a) - np.float64(b)).max()
            assert error <= LIMITS[b.dtype.name], f"{where}: {name} differs by {error:.3g}"


def as_onnx(graph: FuncGraph, path: Path) -> Path:
    """The graph as a file, which must be a good one."""
    goal = target("ONNX")
    with path.open("wb") as file:
        file.writelines(goal.encode(legalized(preferred(graph, goal), goal)).parts)
    assert goal.check(path) == []
    return path


def test_random_programs_give_what_jax_gives(tmp_path: Path) -> None:
    jobs: dict[str, tuple[Program, Job, State]] = {}

    @several
    @given(programs(DEPTH))
    def judged_here(program: Program) -> None:
        note(repr(program))
        starts = program.starts()
        literal = trace(WEIGHTS, program, starts[0], name="p", max_unroll=program.max_unroll)
        graph = optimized(literal, debug=True)
        files = [as_onnx(each, tmp_path / name) for name, each in (("a", literal), ("b", graph))]
        compiled = jax.jit(program).lower(WEIGHTS, *starts[0]).compile(QUICKLY)
        wanted, arrays = starts[0], list[np.ndarray]()
        for values in starts:
            wanted = compiled(WEIGHTS, *values)
            arrays = list(map(np.asarray, values))
            assert_near("as lowered", evaluate(literal, arrays), wanted)
            assert_near("optimized", evaluate(graph, arrays), wanted)
            for file in files:
                assert_near(f"ONNX, {file.name}", list(computed(file, arrays)), wanted)
        job = Job(f"{len(jobs)}", graph, arrays)
        jobs[job.id] = program, job, wanted

    judged_here()
    every = [job for _, job, _ in jobs.values()]
    judged = judge_groups([every[i : i + TOGETHER] for i in range(0, len(every), TOGETHER)])
    for id_, (program, _, wanted) in jobs.items():
        assert not judged[id_].error, f"{program}: {judged[id_].error}"
        assert_near(f"MINDIR: {program}", judged[id_].outputs, wanted)
