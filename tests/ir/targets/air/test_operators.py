"""Every operator and type of the shared table: exported, checked and computed, or refused."""

import re
from pathlib import Path

import numpy as np
import pytest

from fnckpt.ir.evaluate import evaluate as reference
from fnckpt.ir.targets.air import TARGET
from fnckpt.ir.targets.air.check import check, warnings
from fnckpt.ir.targets.air.evaluate import evaluate
from fnckpt.ir.targets.target import Refused, legalized
from tests.ir.targets.cases import FAMILIES, OperatorCase

# Which cases GE has nothing for, and what the refusal says.
REFUSED = {
    r"bfloat16": "GE r1.1 has no type for bfloat16; ",
    r"NextAfter float16": "GE's NextAfter takes no float16 as x1; cast to one of float32, float64",
    r"(Div|Rem|Pow) uint64": "takes no uint64 as x1; cast to one of",
}
LIMITS = {np.dtype(np.float16): 4e-3, np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}


def meaningful(case: OperatorCase) -> bool:
    """numpy's rint gives floats for integers, and nothing is lowered to it."""
    return case.op != "Round" or case.inputs[0].dtype.kind not in "iu"


def refusal(case: OperatorCase) -> str | None:
    """What the refusal of ``case`` says; None where it can be written."""
    wanted = [text for name, text in REFUSED.items() if re.search(name, case.id)]
    return wanted[0] if wanted else None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_operators_computes_what_it_means_or_is_refused(
    family: str, tmp_path: Path
) -> None:
    for case in filter(meaningful, FAMILIES[family]()):
        exported(case, tmp_path / "case.air")


def exported(case: OperatorCase, path: Path) -> None:
    wanted = refusal(case)
    if wanted is not None:
        with pytest.raises(Refused) as refused:
            TARGET.encode(legalized(case.graph, TARGET))
        assert wanted in str(refused.value), case.id
        return
    path.write_bytes(b"".join(TARGET.encode(legalized(case.graph, TARGET)).parts))
    assert check(path) == [], case.id
    assert not [line for line in warnings(path) if "not checked" in line], case.id
    found, right = evaluate(path, case.inputs), reference(case.graph, case.inputs)
    for a, b in zip(found, right, strict=True):
        close(case, a, b)


def close(case: OperatorCase, found: np.ndarray, right: np.ndarray) -> None:
    assert (found.shape, found.dtype) == (right.shape, right.dtype), case.id
    if right.dtype not in LIMITS:
        np.testing.assert_array_equal(found, right, case.id)
        return
    x, y = found.astype(np.float64), right.astype(np.float64)
    finite = np.isfinite(y)
    np.testing.assert_array_equal(x[~finite], y[~finite], case.id)
    scale = np.max(np.abs(y[finite]), initial=1.0)
    error = np.max(np.abs(x[finite] - y[finite]), initial=0.0)
    assert error <= LIMITS[right.dtype] * scale, case.id
