"""JAX's own harnesses, judged: a part at each run, another one each day, so that all are seen.

``python -m tests.ir.harnesses ONNX MINDIR AIR`` runs all of them.
"""

import datetime
import os
import re
from collections.abc import Sequence

import pytest

from tests.ir.harnesses.harness import Harness, harnesses
from tests.ir.harnesses.judging import verdicts
from tests.ir.harnesses.unequal import LARGE, UNEQUAL, row_of

# Of so many harnesses one is run, which keeps all formats together under three minutes.
PARTS = {"graph": 40, "ONNX": 10, "MINDIR": 110, "AIR": 60}
TODAY = int(os.environ.get("HARNESSES", datetime.datetime.now(datetime.UTC).toordinal()))


def part(file_format: str) -> Sequence[Harness]:
    """Those of today, but for the few that take minutes."""
    every = PARTS[file_format]
    return [h for h in harnesses()[TODAY % every :: every] if not LARGE.search(h.name)]


@pytest.mark.parametrize("file_format", PARTS)
def test_a_harness_is_equal_or_listed_with_the_reason(file_format: str) -> None:
    found = [
        f"{verdict.harness.name}: {verdict.problem}"
        for verdict in verdicts(part(file_format), file_format)
        if verdict.problem and row_of(verdict.harness.name, file_format) is None
    ]
    assert found == []


def test_every_row_is_that_of_a_harness() -> None:
    names = [harness.name for harness in harnesses()]
    assert [r for r in UNEQUAL if not any(re.search(r.pattern, name) for name in names)] == []


def test_jax_has_the_harnesses_that_were_counted() -> None:
    names = [harness.name for harness in harnesses()]
    assert len(names) > 5000
    assert len(set(names)) == len(names)
