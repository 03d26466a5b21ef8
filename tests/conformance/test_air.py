"""Each case as an AIR file that the checker finds good, computed from what lies on the disk."""

from pathlib import Path

from fnckpt.ir.targets.air.evaluate import evaluate
from tests.conformance.case import Case
from tests.conformance.files import (
    every_case,
    inputs_of,
    is_refused,
    judge,
    unused_limits,
    written,
)


@every_case
def test_the_file_means_what_jax_computes(case: Case, tmp_path: Path) -> None:
    if not is_refused(case, "AIR"):
        judge(case, "AIR", evaluate(written(case, "AIR", tmp_path / "case.air"), inputs_of(case)))


def test_every_limit_is_that_of_a_case() -> None:
    assert unused_limits("AIR") == []
